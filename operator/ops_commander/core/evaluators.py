"""The operator's own three voices: GO, NO-GO or not yet, from what was observed. Pure functions of the situation.

A finding that speaks against the candidate makes a NO-GO, whatever else is well. What is not known yet waits: it is
neither GO nor NO-GO. Only where every finding is known and none speaks against it there is a GO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ops_commander.api.ballot import Choice, RiskLevel, VoteEvidence, VoterRole
from ops_commander.api.policy import Objective
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import ObjectiveStatus, RollbackStatus, Trend, Verdict
from ops_commander.core import objectives
from ops_commander.core.quorum import Recommendation
from ops_commander.core.situation import Situation

RTO_SECONDS: Final = 120.0
"""Time from a breach being visible to traffic and ReplicaSet being back."""
MISROUTED: Final = "RoutingMismatch"
COMPARER: Final = "comparison_"
"""In the names of the metrics in which the answers of both versions are compared."""

_GRAVITY: Final = {RiskLevel.LOW: 0, RiskLevel.MEDIUM: 1, RiskLevel.HIGH: 2}
_OF_VERDICT: Final = {
    RiskVerdict.SAFE: (Choice.GO, RiskLevel.LOW),
    RiskVerdict.SHADOW_ONLY: (Choice.NO_GO, RiskLevel.MEDIUM),
    RiskVerdict.REJECT: (Choice.NO_GO, RiskLevel.HIGH),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a voice has looked at. `choice` is None while it is not known."""

    choice: Choice | None
    risk: RiskLevel
    concern: str
    evidence: VoteEvidence


def recommendations(
    situation: Situation, roles: Iterable[VoterRole] = tuple(VoterRole)
) -> dict[VoterRole, Recommendation]:
    """What each of these roles says now."""
    return {role: EVALUATORS[role](situation) for role in roles}


def infrastructure(situation: Situation) -> Recommendation:
    """Pods, restarts, errors, latency and throughput, the split, and whether metrics are fresh."""
    found = _objectives(situation, _is_of_infrastructure)
    return _concluded([_pods(situation), *found], "pods are Ready and {met} objective(s) of service are met", found)


def quality(situation: Situation) -> Recommendation:
    """What runs and compared answers show, and what was found of the files."""
    found = _objectives(situation, _is_of_quality)
    return _concluded([_files(situation), *found], "{met} objective(s) of quality are met", found)


def commander(situation: Situation) -> Recommendation:
    """The composite risk, and whether a rollback would work."""
    risk = _risk(situation)
    said = "a rollback is ready" + (", the composite risk is low" if risk.choice is Choice.GO else "")
    return _concluded([risk, _stable(situation), _earlier_revert(situation)], said, [])


EVALUATORS: Final[Mapping[VoterRole, Callable[[Situation], Recommendation]]] = {
    VoterRole.INFRASTRUCTURE_MONITOR: infrastructure,
    VoterRole.QUALITY_OFFICER: quality,
    VoterRole.OPS_COMMANDER: commander,
}


def _concluded(findings: list[Finding], well: str, met: list[Finding]) -> Recommendation:
    evidence = tuple(finding.evidence for finding in findings)
    against = _gravest(finding for finding in findings if finding.choice is Choice.NO_GO)
    if against:
        concern = "; ".join(finding.concern for finding in against)
        return Recommendation(Choice.NO_GO, against[0].risk, concern[:1024], evidence)
    unknown = [finding for finding in findings if finding.choice is None]
    if unknown:
        return Recommendation(None, None, "; ".join(finding.concern for finding in unknown)[:1024], evidence)
    worst = _gravest(findings)[0]
    number = sum(finding.risk is RiskLevel.LOW for finding in met)
    concern = well.format(met=number) if worst.risk is RiskLevel.LOW else worst.concern
    return Recommendation(Choice.GO, worst.risk, concern[:1024], evidence)


def _gravest(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -_GRAVITY[finding.risk])


# --- Objectives -----------------------------------------------------------------------------------------


def _is_of_quality(objective: Objective) -> bool:
    compared = any(COMPARER in query for query in objective.queries)
    return compared or any((objective.run, objective.score, objective.pairs, objective.correlation))


def _is_of_infrastructure(objective: Objective) -> bool:
    return objective.risk is None and not _is_of_quality(objective)


def _objectives(situation: Situation, mine: Callable[[Objective], bool]) -> list[Finding]:
    step = situation.step_spec
    if step.shadow and situation.judged_kind is None:
        return [_finding("objective", None, RiskLevel.MEDIUM, f"{step.label} has no traffic to be judged by yet")]
    judged = zip(situation.judged, situation.rows, strict=True)
    return [_objective(objective, row) for objective, row in judged if mine(objective)]


def _objective(objective: Objective, row: ObjectiveStatus) -> Finding:
    evidence = VoteEvidence(
        kind="objective",
        path=row.name,
        uri=row.source if row.source and not objective.run else None,
        query=row.query[:4096],
        run_id=_run_id(row) if objective.run else None,
        created_at=row.last_tick,
        summary=row.message[:1024],
    )
    choice, risk = _ruling(objective, row)
    return Finding(choice, risk, f"{row.name}: {row.message}", evidence)


def _ruling(objective: Objective, row: ObjectiveStatus) -> tuple[Choice | None, RiskLevel]:
    if row.verdict is Verdict.FAIL:
        return (Choice.NO_GO, RiskLevel.HIGH) if row.role != "Advisory" else (Choice.GO, RiskLevel.MEDIUM)
    if row.reason == MISROUTED:
        return Choice.NO_GO, RiskLevel.MEDIUM
    if row.verdict is Verdict.INCONCLUSIVE and objective.is_required:
        return None, RiskLevel.MEDIUM
    if row.reason in objectives.NO_EVIDENCE:
        return Choice.GO, RiskLevel.MEDIUM
    worse = Trend.RISING if objective.max is not None else Trend.FALLING
    return Choice.GO, RiskLevel.MEDIUM if row.trend is worse else RiskLevel.LOW


def _run_id(row: ObjectiveStatus) -> str | None:
    return row.source.split()[0].split("/")[0][:250] if row.source else None


# --- Pods, files, risk and the way back ---------------------------------------------------------------------


def _pods(situation: Situation) -> Finding:
    candidate, deployment, step = situation.candidate, situation.deployment, situation.step
    name = candidate.name if candidate else None
    if candidate is None or deployment is None or step is None:
        return _finding("pods", None, RiskLevel.MEDIUM, "the candidate has no pods yet", path=name)
    restarts = candidate.restarts - deployment.restarts_at_start
    if restarts > 0 and situation.judged_kind is not None:  # before its first traffic they are forgiven
        return _finding("pods", Choice.NO_GO, RiskLevel.HIGH, f"{restarts} container restart(s)", path=name)
    needed = situation.needed_replicas(step.index)
    said = f"{min(candidate.ready, needed)} of {needed} pod(s) Ready, no restart"
    if candidate.ready < needed:
        trouble = f": {candidate.trouble}" if candidate.trouble else ""
        return _finding("pods", None, RiskLevel.MEDIUM, f"{said}{trouble}", path=name)
    return _finding("pods", Choice.GO, RiskLevel.LOW, said, path=name)


def _files(situation: Situation) -> Finding:
    found = situation.verification
    if found is None:
        if situation.snapshot.spec.preflight:
            return _finding("verification", None, RiskLevel.MEDIUM, "the candidate's files are not verified yet")
        return _finding("verification", Choice.GO, RiskLevel.MEDIUM, "none of the candidate's files was verified")
    choice, risk = _OF_VERDICT[found.verdict]
    evidence = VoteEvidence(
        kind="verification",
        sha256=found.manifest_sha256,
        run_id=found.run_id,
        created_at=found.checked_at,
        summary=found.message[:1024],
    )
    return Finding(choice, risk, f"files: {found.message}", evidence)


def _risk(situation: Situation) -> Finding:
    risk = situation.risk
    if risk is None:
        said = "the composite risk is not known: nothing asks for it"
        return _finding("risk", Choice.GO, RiskLevel.MEDIUM, said)
    choice, level = _OF_VERDICT[risk.verdict]
    said = "; ".join([f"composite risk {risk.message}", *risk.vetoes])
    return Finding(choice, level, said, VoteEvidence(kind="risk", sha256=risk.digest, summary=said[:1024]))


def _stable(situation: Situation) -> Finding:
    """A rollback needs the stable version as large as ever, behind the Service that traffic goes back to."""
    status, wanted = situation.snapshot.status, situation.snapshot.spec.replicas
    view = situation.replica_set(status.stable_revision)
    ready = view.ready if view else 0
    name = view.name if view else None
    said = f"stable has {min(ready, wanted)} of {wanted} pod(s) Ready"
    if ready < wanted:
        return _finding("rollback", Choice.NO_GO, RiskLevel.HIGH, f"a rollback is not ready: {said}", path=name)
    if not situation.is_stable_selected:
        said = "a rollback is not ready: the stable Service does not select the stable version"
        return _finding("rollback", Choice.NO_GO, RiskLevel.HIGH, said, path=name)
    return _finding("rollback", Choice.GO, RiskLevel.LOW, said, path=name)


def _earlier_revert(situation: Situation) -> Finding:
    rollback = situation.snapshot.status.rollback
    if rollback is None:
        return _finding("revert", Choice.GO, RiskLevel.LOW, "no revert was needed so far")
    took = _took(rollback)
    if took is None:
        said = f"the revert of {rollback.deployment_id} has not ended"
        return _finding("revert", Choice.NO_GO, RiskLevel.HIGH, said, path=rollback.deployment_id)
    said = f"the revert of {rollback.deployment_id} took {took:.1f} s"
    if took > RTO_SECONDS:
        said = f"{said}: more than {RTO_SECONDS:.0f} s"
        return _finding("revert", Choice.NO_GO, RiskLevel.MEDIUM, said, path=rollback.deployment_id)
    return _finding("revert", Choice.GO, RiskLevel.LOW, said, path=rollback.deployment_id)


def _took(rollback: RollbackStatus) -> float | None:
    both = (rollback.traffic_seconds, rollback.replica_set_seconds)
    return None if None in both else max(seconds for seconds in both if seconds is not None)


def _finding(kind: str, choice: Choice | None, risk: RiskLevel, said: str, path: str | None = None) -> Finding:
    return Finding(choice, risk, said, VoteEvidence(kind=kind, path=path, summary=said[:1024]))
