"""The consensus as arithmetic: two GO of three and all three in, for this deployment and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.api.ballot import Choice, Holder, RiskLevel, VoterRole, VoteStatus
from ops_commander.api.quorum import Quorum
from ops_commander.api.vote import Vote, vote_name
from ops_commander.core import quorum
from ops_commander.core.quorum import Poll, Recommendation

BEGAN = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
IDENTITY = "ranker-2bcdfghjkl-3"
INFRA, QUALITY, COMMANDER = VoterRole
EXTERNAL = Quorum.model_validate(
    {"voters": dict.fromkeys(("infrastructureMonitor", "qualityOfficer", "opsCommander"), "External")}
)

choices = st.sampled_from(Choice)
risks = st.sampled_from(RiskLevel)
settings_ = st.builds(
    lambda required, holders: Quorum.model_validate(
        {
            "required": required,
            "voters": dict(zip(("infrastructureMonitor", "qualityOfficer", "opsCommander"), holders, strict=True)),
        }
    ),
    st.integers(2, 3),
    st.tuples(*[st.sampled_from(Holder)] * 3),
)
recommendations = st.dictionaries(
    st.sampled_from(VoterRole), st.builds(Recommendation, st.none() | choices, risks, st.text(max_size=20))
)


def poll(settings: Quorum = EXTERNAL) -> Poll:
    return Poll("ranker", IDENTITY, BEGAN, settings)


def vote(role: VoterRole, choice: str = "GO", risk: str = "Low", **changes: Any) -> Vote:
    identity = changes.pop("deployment_id", IDENTITY)
    at = changes.pop("at", BEGAN + timedelta(seconds=30))
    uid = changes.pop("uid", f"uid-{role.slug}")
    spec = {
        "rollout": identity.rpartition("-")[0].rpartition("-")[0],
        "deploymentId": identity,
        "role": role,
        "voter": "somebody",
        "vote": choice,
        "risk": risk,
        "concern": "the queue grows",
        **changes,
    }
    metadata = {
        "name": vote_name(identity, role),
        "uid": uid,
        "resourceVersion": "7",
        "creationTimestamp": at.isoformat(),
    }
    return Vote.model_validate({"metadata": metadata, "spec": spec})


votes = st.lists(
    st.builds(
        vote,
        st.sampled_from(VoterRole),
        choices,
        risks,
        deployment_id=st.sampled_from([IDENTITY, "ranker-2bcdfghjkl-2", "search-2bcdfghjkl-3"]),
        uid=st.uuids().map(str),
        at=st.integers(-200, 200).map(lambda seconds: BEGAN + timedelta(seconds=seconds)),
    ),
    max_size=8,
)


def counted(*cast: Vote, known: list[VoteStatus] | None = None) -> tuple[list[VoteStatus], Any]:
    rows = quorum.ballot(poll(), cast, {}, known or [])
    return rows, quorum.outcome(poll(), rows, "canary 5%")


# --- Whatever is cast -------------------------------------------------------------------------------------


@given(settings_, votes, recommendations)
def test_no_combination_proceeds_without_three_votes_and_two_go(
    settings: Quorum, cast: list[Vote], said: dict[VoterRole, Recommendation]
) -> None:
    rows = quorum.ballot(poll(settings), cast, said)
    outcome = quorum.outcome(poll(settings), rows, "full")

    assert [row.role for row in rows] == list(VoterRole)
    if outcome.reason == quorum.REACHED:
        assert all(row.vote is not None for row in rows)
        assert sum(row.vote is Choice.GO for row in rows) >= settings.required >= 2
    assert ("PROCEED" in outcome.line) == (outcome.reason == quorum.REACHED)
    assert outcome.go <= outcome.cast <= 3


@given(settings_, votes, recommendations)
def test_votes_for_another_deployment_count_nothing(
    settings: Quorum, cast: list[Vote], said: dict[VoterRole, Recommendation]
) -> None:
    mine = [item for item in cast if item.spec.deployment_id == IDENTITY]

    assert quorum.ballot(poll(settings), cast, said) == quorum.ballot(poll(settings), mine, said)


@given(votes)
def test_every_vote_is_told_whether_it_counts_and_one_of_a_role_does(cast: list[Vote]) -> None:
    rows = quorum.ballot(poll(), cast, {})
    told = [(item, quorum.tally(poll(), item, rows)) for item in cast]

    for role in VoterRole:
        heard = [item for item, tally in told if tally.counted and item.spec.role is role]
        (row,) = (row for row in rows if row.role is role)
        assert [item.uid for item in heard] == ([row.uid] if row.vote else [])


@given(votes, votes, st.randoms())
def test_what_was_counted_stays_whatever_is_cast_or_deleted_later(
    before: list[Vote], after: list[Vote], dice: Any
) -> None:
    first = quorum.ballot(poll(), before, {})
    left = [item for item in before if dice.random() < 0.5]
    later = quorum.ballot(poll(), [*after, *left], {}, first)

    for old, new in zip(first, later, strict=True):
        assert new == old or old.vote is None


# --- The cases of the mission -----------------------------------------------------------------------------------


def test_two_go_and_one_missing_hold() -> None:
    _, outcome = counted(vote(INFRA), vote(COMMANDER))

    assert (outcome.reason, outcome.go, outcome.cast) == (quorum.MISSING, 2, 2)
    assert outcome.line == "**Quorum:** 2/3 GO votes, missing: Quality & Safety Officer → **HOLD**"


def test_two_go_and_a_no_go_proceed() -> None:
    _, outcome = counted(vote(INFRA), vote(QUALITY, "NO-GO", "Medium"), vote(COMMANDER))

    assert outcome.reason == quorum.REACHED
    assert outcome.line == "**Quorum:** 2/3 GO votes → **PROCEED TO CANARY 5%**"


def test_one_go_of_three_holds() -> None:
    _, outcome = counted(vote(INFRA), vote(QUALITY, "NO-GO"), vote(COMMANDER, "NO-GO"))

    assert outcome.reason == quorum.TOO_FEW
    assert outcome.line == "**Quorum:** 1/3 GO votes → **HOLD**"


def test_three_may_be_asked_for() -> None:
    strict = Quorum.model_validate({**EXTERNAL.model_dump(by_alias=True), "required": 3})
    rows = quorum.ballot(poll(strict), [vote(INFRA), vote(QUALITY, "NO-GO"), vote(COMMANDER)], {})

    assert quorum.outcome(poll(strict), rows, "full").reason == quorum.TOO_FEW


def test_a_no_go_of_high_risk_is_read_first() -> None:
    rows, outcome = counted(vote(INFRA), vote(QUALITY, "NO-GO", "Medium"), vote(COMMANDER, "NO-GO", "High"))

    assert [row.role for row in quorum.in_order(rows)] == [COMMANDER, QUALITY, INFRA]
    assert "all votes in: Ops Commander NO-GO (High risk): the queue grows; Quality" in outcome.message


def test_a_vote_from_before_the_deployment_is_too_early() -> None:
    early = vote(INFRA, at=BEGAN - timedelta(minutes=5))
    rows, _ = counted(early)

    assert rows[0].vote is None
    assert quorum.tally(poll(), early, rows).reason == "TooEarly"


def test_the_clocks_may_differ_a_little() -> None:
    rows, _ = counted(vote(INFRA, at=BEGAN - timedelta(seconds=20)))

    assert rows[0].vote is Choice.GO


def test_a_vote_that_was_deleted_and_cast_anew_counts_as_it_was_first() -> None:
    rows, _ = counted(vote(QUALITY, "NO-GO", "High"))
    again = vote(QUALITY, "GO", uid="another", at=BEGAN + timedelta(minutes=9))
    later, _ = counted(again, known=rows)

    assert later[1].vote is Choice.NO_GO
    tally = quorum.tally(poll(), again, later)
    assert (tally.counted, tally.reason) == (False, "AlreadyVoted")


def test_a_row_of_an_older_deployment_is_not_carried_over() -> None:
    old, _ = counted(vote(QUALITY))
    newer = Poll("ranker", "ranker-2bcdfghjkl-4", BEGAN, EXTERNAL)

    assert all(row.vote is None for row in quorum.ballot(newer, [], {}, old))


def test_nobody_else_speaks_for_a_role_that_the_operator_holds() -> None:
    held = Quorum()
    cast = vote(QUALITY, "NO-GO")
    rows = quorum.ballot(poll(held), [cast], {QUALITY: Recommendation(Choice.GO, RiskLevel.LOW, "fine")})

    assert (rows[1].vote, rows[1].holder, rows[1].voter) == (Choice.GO, Holder.OPERATOR, None)
    assert quorum.tally(poll(held), cast, rows).reason == "HeldByOperator"


@pytest.mark.parametrize("steps", [["shadow"], ["shadow", "canary"], []])
def test_votes_are_for_production(steps: list[str]) -> None:
    with pytest.raises(ValueError, match=r"production|at least 1"):
        Quorum.model_validate({"steps": steps})
