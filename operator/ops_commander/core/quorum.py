"""The consensus: what each role says of a deployment, and whether that lets it go on to production.

Pure and total: every vote is either counted or left out for a reason, a role that has not voted holds, and nothing
here can revert a candidate or delay its revert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ops_commander.api.ballot import Choice, Holder, QuorumStatus, RiskLevel, VoteEvidence, VoterRole, VoteStatus
from ops_commander.api.quorum import Quorum
from ops_commander.api.vote import Vote

ROLES: Final = tuple(VoterRole)
CLOCK_SKEW: Final = timedelta(seconds=60)
"""By how much the clocks of the API server and the operator may differ."""

REACHED: Final = "QuorumReached"
MISSING: Final = "VotesMissing"
TOO_FEW: Final = "TooFewGo"

_BY_RISK: Final = {RiskLevel.HIGH: 0, RiskLevel.MEDIUM: 1, RiskLevel.LOW: 2}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What one of the operator's own evaluators says. `choice` is None while it does not know yet."""

    choice: Choice | None
    risk: RiskLevel | None
    concern: str
    evidence: tuple[VoteEvidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Poll:
    """Which deployment is voted on, and how."""

    rollout: str
    deployment_id: str
    started_at: datetime
    settings: Quorum


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of one Vote."""

    counted: bool
    reason: str
    message: str


def ballot(
    poll: Poll,
    votes: Iterable[Vote],
    recommendations: Mapping[VoterRole, Recommendation],
    known: Iterable[VoteStatus] = (),
) -> list[VoteStatus]:
    """One row a role, in their order. A vote that is among the `known` rows of this deployment stays as it is."""
    before = {row.role: row for row in known if row.name and row.name.startswith(f"{poll.deployment_id}-")}
    seen = list(votes)
    return [_row(poll, role, seen, recommendations, before.get(role)) for role in ROLES]


def _row(
    poll: Poll,
    role: VoterRole,
    votes: Sequence[Vote],
    recommendations: Mapping[VoterRole, Recommendation],
    known: VoteStatus | None,
) -> VoteStatus:
    if poll.settings.holder(role) is Holder.OPERATOR:
        return _own(role, recommendations.get(role))
    if known is not None and known.vote is not None:
        return known
    mine = [vote for vote in votes if vote.spec.role is role and _refusal(poll, vote) is None]
    if not mine:
        return VoteStatus(role=role, agent=role.agent, holder=Holder.EXTERNAL, concern="has not voted yet")
    return _cast(min(mine, key=lambda vote: (vote.cast_at, vote.uid)))


def _own(role: VoterRole, said: Recommendation | None) -> VoteStatus:
    said = said or Recommendation(None, None, "has not been asked yet")
    return VoteStatus(
        role=role,
        agent=role.agent,
        holder=Holder.OPERATOR,
        vote=said.choice,
        risk=said.risk,
        concern=said.concern,
        evidence=list(said.evidence),
    )


def _cast(vote: Vote) -> VoteStatus:
    spec = vote.spec
    return VoteStatus(
        role=spec.role,
        agent=spec.role.agent,
        holder=Holder.EXTERNAL,
        vote=spec.vote,
        risk=spec.risk,
        concern=spec.concern,
        evidence=spec.evidence,
        voter=spec.voter,
        cast_at=vote.cast_at,
        name=vote.name,
        uid=vote.uid,
        resource_version=vote.resource_version,
    )


def _refusal(poll: Poll, vote: Vote) -> Tally | None:
    """Why a vote cannot count whatever else has been cast."""
    spec = vote.spec
    if spec.rollout != poll.rollout or spec.deployment_id != poll.deployment_id:
        return Tally(False, "OtherDeployment", f"for {spec.deployment_id}: {poll.deployment_id} is under way")
    if poll.settings.holder(spec.role) is Holder.OPERATOR:
        return Tally(False, "HeldByOperator", f"the policy lets the operator's evaluator speak as {spec.role}")
    if vote.cast_at < poll.started_at - CLOCK_SKEW:
        return Tally(False, "TooEarly", f"cast before the deployment began at {poll.started_at:%H:%M:%S}")
    return None


def tally(poll: Poll, vote: Vote, rows: Iterable[VoteStatus]) -> Tally:
    """Whether a vote is the one that counts for its role, given the rows of the ballot."""
    refusal = _refusal(poll, vote)
    if refusal:
        return refusal
    row = next(row for row in rows if row.role is vote.spec.role)
    if row.uid == vote.uid:
        return Tally(True, "Counted", f"counts as the {row.vote} of the {row.agent}")
    return Tally(False, "AlreadyVoted", f"the {row.agent} has voted {row.vote} with {row.name} (uid {row.uid}) before")


def outcome(poll: Poll, rows: Sequence[VoteStatus], target: str) -> QuorumStatus:
    """Where the votes stand. `target` is the step that is to be entered, as shown."""
    go = sum(row.vote is Choice.GO for row in rows)
    missing = [row for row in rows if row.vote is None]
    is_reached = go >= poll.settings.required and not missing and {row.role for row in rows} == set(ROLES)
    return QuorumStatus(
        deployment_id=poll.deployment_id,
        required=poll.settings.required,
        go=go,
        cast=len(rows) - len(missing),
        reason=REACHED if is_reached else MISSING if missing else TOO_FEW,
        message=_message(rows, poll.settings.required, go),
        line=_line(go, missing, target if is_reached else None),
    )


def in_order(rows: Iterable[VoteStatus]) -> list[VoteStatus]:
    """As they are to be read: a NO-GO before all others, the one of the highest risk first, what is missing last."""
    return sorted(rows, key=_urgency)


def _urgency(row: VoteStatus) -> tuple[int, int, int]:
    kind = 2 if row.vote is None else 0 if row.vote is Choice.NO_GO else 1
    return kind, _BY_RISK[row.risk] if row.risk else len(_BY_RISK), ROLES.index(row.role)


def _message(rows: Sequence[VoteStatus], required: int, go: int) -> str:
    said = "; ".join(_said(row) for row in in_order(rows))
    return f"{go} of {len(ROLES)} GO, {required} needed and all votes in: {said}"


def _said(row: VoteStatus) -> str:
    concern = f": {row.concern}" if row.concern else ""
    if row.vote is None:
        return f"{row.agent} missing{concern}"
    return f"{row.agent} {row.vote} ({row.risk} risk){concern}"


def _line(go: int, missing: Sequence[VoteStatus], target: str | None) -> str:
    absent = f", missing: {', '.join(row.agent for row in missing)}" if missing else ""
    verdict = f"PROCEED TO {target.upper()}" if target else "HOLD"
    return f"**Quorum:** {go}/{len(ROLES)} GO votes{absent} → **{verdict}**"
