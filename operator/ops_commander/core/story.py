"""Status as people and tools read it: phase, verdict, next, conditions. Derived, never a basis for decisions."""

from __future__ import annotations

from datetime import datetime, timedelta

from ops_commander.api.conditions import ConditionType, State, merge_conditions
from ops_commander.api.v1alpha1 import (
    ModelRolloutStatus,
    ObjectiveStatus,
    Outcome,
    Phase,
    RiskStatus,
    Role,
    StepState,
    Verdict,
)
from ops_commander.core import consensus, names, objectives, routes
from ops_commander.core.changes import Change
from ops_commander.core.feasibility import outlook
from ops_commander.core.rollout_risk import SHADOW_ONLY
from ops_commander.core.situation import PROMOTING, Situation

CANNOT_STEER_AFTER = timedelta(seconds=5)
REFRESH_EVERY = timedelta(seconds=15)
"""Observed values alone are written no more often than this,"""
REFRESH_GROWTH = 2
"""and only once there is so many times the evidence that they rest on. One write costs the API server as much as 20
reads: a thousand rollouts in progress write little."""

_NUMBERS = ("observed", "candidate", "stable", "samples", "interval", "trend", "first_tick", "last_tick", "source")
"""And the server that they are from, which is known once it was asked."""

_UNPROVED = frozenset({"InsufficientSample", "Straddles"})
"""Which of these it is depends on the numbers: a value near its target goes from one to the other and back."""

_FOLLOW_EVIDENCE = frozenset({ConditionType.SLOS_MET, ConditionType.QUORUM_REACHED})
_FOLLOW_THE_RULE = frozenset(
    {ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.PROGRESSING}
)
"""Their reason is that of the rule at work."""

ConditionRow = tuple[ConditionType, State, str, str]


def told(situation: Situation, change: Change, status: ModelRolloutStatus) -> ModelRolloutStatus:
    """The status with everything that is there to be read."""
    snapshot = situation.snapshot
    rows = situation.rows if situation.judged else status.objectives
    phase = _phase(situation, change, status)
    serving = status.stable_revision or status.candidate_revision
    view = situation.replica_set(serving)
    policy = snapshot.policy
    if snapshot.baseline and policy:
        known = {item.name: item for item in snapshot.baseline.objectives}
        status = status.model_copy(update={"feasibility": outlook(policy, snapshot.spec.steps, known)})
    fields = {
        "observed_generation": snapshot.generation,
        "phase": phase,
        "step_name": _step_name(situation, status),
        "weight": _weight(status),
        "verdict": _verdict(status, rows),
        "reason": change.reason,
        "next": change.next,
        "message": change.message,
        "objectives": rows,
        "risk": _risk(situation, status),
        "replicas": view.current if view else 0,
        "ready_replicas": view.ready if view else 0,
        "selector": f"{names.ROLLOUT_LABEL}={snapshot.name},{names.REVISION_LABEL}={serving or ''}",
    }
    updated = _with_earlier_rows(status.model_copy(update=fields), snapshot.status.objectives)
    wanted = _conditions(situation, change, updated)
    conditions = merge_conditions(snapshot.status.conditions, wanted, generation=snapshot.generation, now=situation.now)
    return updated.model_copy(update={"conditions": conditions})


def _with_earlier_rows(status: ModelRolloutStatus, before: list[ObjectiveStatus]) -> ModelRolloutStatus:
    """What shadow alone has shown is still to be read when the deployment has ended."""
    deployment = status.deployment
    if deployment is None or status.step is None:
        return status
    judged = {row.name for row in status.objectives}
    if not judged:
        return status
    known = {row.name: row for row in (*deployment.earlier_objectives, *before)}
    earlier = [row for name, row in known.items() if name not in judged]
    if earlier == deployment.earlier_objectives:
        return status
    return status.model_copy(update={"deployment": deployment.model_copy(update={"earlier_objectives": earlier})})


def _risk(situation: Situation, status: ModelRolloutStatus) -> RiskStatus | None:
    """That of a deployment which has ended stays as it was."""
    last = status.deployment
    if status.step is None and last is not None and last.revision == situation.revision:
        return status.risk
    return situation.risk


def worth_writing(old: ModelRolloutStatus, new: ModelRolloutStatus, situation: Situation) -> bool:
    """Whether a commit says something new: a change of state at once, mere numbers now and then.

    That evidence is being read again after a start is none: for a thousand rollouts it was written twice, and kept
    those waiting that had to be reverted.
    """
    if situation.is_catching_up:
        return _without_verdicts(old) != _without_verdicts(new)
    if old == new:
        return False
    if _without_numbers(old) != _without_numbers(new):
        return True
    return any(_has_grown(row, situation.now) for row in old.objectives if row.last_tick)


def _has_grown(row: ObjectiveStatus, now: datetime) -> bool:
    """Whether there is much more evidence by now than a row that was written rests on."""
    if row.last_tick is None or row.first_tick is None:
        return True
    grown = (now - row.first_tick) >= REFRESH_GROWTH * (row.last_tick - row.first_tick)
    return grown and now >= row.last_tick + REFRESH_EVERY


def _without_numbers(status: ModelRolloutStatus) -> ModelRolloutStatus:
    quiet = dict.fromkeys(_NUMBERS)
    return status.model_copy(
        update={
            "message": None,
            "reason": _lasting(status.reason),
            **consensus.without_words(status),
            "risk": status.risk and (status.risk.verdict, status.risk.band, tuple(status.risk.vetoes)),
            "objectives": [
                row.model_copy(update={**quiet, "message": "", "ticks": 0, "reason": _lasting(row.reason)})
                for row in status.objectives
            ],
            "conditions": [
                condition.model_copy(update={"message": "", "reason": _lasting(condition.reason)})
                for condition in status.conditions
            ],
        }
    )


def _without_verdicts(status: ModelRolloutStatus) -> ModelRolloutStatus:
    """Without what is said of evidence, and of what follows from it."""
    without = _without_numbers(status)
    quiet: dict[str, object] = dict.fromkeys(("verdict", "reason", "message", "next", "risk"))
    conditions = [
        item.model_copy(update={"reason": ""}) if item.type in _FOLLOW_THE_RULE else item
        for item in without.conditions
        if item.type not in _FOLLOW_EVIDENCE
    ]
    return without.model_copy(
        update={**quiet, **consensus.without_own_voices(status), "objectives": [], "conditions": conditions}
    )


def _lasting(reason: str | None) -> str | None:
    return "" if reason in _UNPROVED else reason


def _phase(situation: Situation, change: Change, status: ModelRolloutStatus) -> Phase:
    if status.step is not None:
        return _phase_of_step(status.step.state, change)
    if situation.deployment is None and change.rule == "unverified":
        return Phase.PAUSED if change.reason == "Paused" else Phase.DEGRADED
    if status.deployment and status.deployment.outcome is Outcome.ROLLED_BACK:
        return Phase.ROLLED_BACK
    if status.stable_revision == situation.revision:
        return Phase.COMPLETED
    return Phase.PENDING


def _phase_of_step(state: StepState, change: Change) -> Phase:
    if state is StepState.LAUNCHING:
        return Phase.DEGRADED if change.reason == "ProgressDeadlineExceeded" else Phase.LAUNCHING
    if state in PROMOTING:
        return Phase.PROMOTING
    if state is StepState.PREPARING and change.reason == "Paused":
        return Phase.PAUSED
    if change.reason == SHADOW_ONLY and change.rule == "overdue":
        return Phase.PAUSED
    special = {
        StepState.REVERTING: Phase.ROLLING_BACK,
        StepState.HELD: Phase.HELD,
        StepState.PAUSED: Phase.PAUSED,
    }
    return special.get(state, Phase.PROGRESSING)


def _step_name(situation: Situation, status: ModelRolloutStatus) -> str | None:
    if status.step is None:
        return None
    if status.step.state is StepState.LAUNCHING:
        return "launch"
    return f"{status.step.index + 1}/{len(situation.snapshot.spec.steps)} {status.step.name}"


def _weight(status: ModelRolloutStatus) -> int:
    """The confirmed weight; while one is on its way, the one before."""
    if status.traffic is None:
        return 0
    return status.traffic.candidate_weight if status.traffic.confirmed_at else status.weight


def _verdict(status: ModelRolloutStatus, rows: list[ObjectiveStatus]) -> Verdict | None:
    return objectives.overall(rows) if rows and status.step is not None else status.verdict if rows else None


def _conditions(situation: Situation, change: Change, status: ModelRolloutStatus) -> list[ConditionRow]:
    kind = ConditionType
    under_way = status.step is not None
    ready = _ready(situation, status)
    stalled = _stalled(situation, change, status)
    reconciling = not stalled and (under_way or not ready)
    progressing: ConditionRow = (
        kind.PROGRESSING,
        "True" if under_way else "False",
        change.reason,
        change.message,
    )
    return [
        (kind.READY, "True" if ready else "False", change.reason, change.message),
        (kind.RECONCILING, "True" if reconciling else "False", change.reason, f"rule {change.rule} is at work"),
        (kind.STALLED, "True" if stalled else "False", change.reason, change.message),
        *_checked(situation),
        progressing,
        _slos_met(status),
        _traffic_synced(situation, status),
        *consensus.condition(status),
        _rolled_back(status),
    ]


def _ready(situation: Situation, status: ModelRolloutStatus) -> bool:
    """The wanted version serves all traffic from enough pods."""
    if status.step is not None or status.stable_revision != situation.revision:
        return False
    view = situation.replica_set(status.stable_revision)
    serving = view is not None and view.ready >= situation.snapshot.spec.replicas
    return serving and status.traffic is not None and status.traffic.confirmed_at is not None


def _stalled(situation: Situation, change: Change, status: ModelRolloutStatus) -> bool:
    """Nothing more happens until somebody changes something."""
    last = status.deployment
    if last and last.outcome is Outcome.ROLLED_BACK and last.revision == situation.revision:
        return True
    if change.rule == "unverified":
        return change.next == "correct the field named"
    launching = status.step is not None and status.step.state is StepState.LAUNCHING
    return launching and change.reason == "ProgressDeadlineExceeded"


def _checked(situation: Situation) -> list[ConditionRow]:
    """Accepted speaks of what spec and its references say, Verified of the artifact."""
    rows: list[ConditionRow] = []
    for kind, of_artifact in ((ConditionType.ACCEPTED, False), (ConditionType.VERIFIED, True)):
        checks = [check for check in situation.snapshot.checks if (check.name == "model") is of_artifact]
        failed = [check for check in checks if check.passed is False]
        unknown = [check for check in checks if check.passed is None]
        if failed:
            rows.append((kind, "False", failed[0].reason, "; ".join(check.message for check in failed)))
        elif unknown:
            rows.append((kind, "Unknown", unknown[0].reason, "; ".join(check.message for check in unknown)))
        else:
            message = "; ".join(check.message for check in checks) or "nothing to check"
            rows.append((kind, "True", kind.value, message))
    return rows


def _slos_met(status: ModelRolloutStatus) -> ConditionRow:
    kind = ConditionType.SLOS_MET
    rows = [row for row in status.objectives if row.role is Role.REQUIRED]
    if not rows:
        return (kind, "Unknown", "NoEvidence", "no objective has been judged yet")
    verdict = objectives.overall(rows)
    state: State = {Verdict.PASS: "True", Verdict.FAIL: "False"}.get(verdict, "Unknown")  # type: ignore[assignment]
    decisive = [row for row in rows if row.verdict is verdict] or rows
    message = "; ".join(f"{row.name}: {row.message}" for row in decisive)
    return (kind, state, decisive[0].reason, message)


def _traffic_synced(situation: Situation, status: ModelRolloutStatus) -> ConditionRow:
    kind, traffic = ConditionType.TRAFFIC_SYNCED, status.traffic
    wrong = routes.problems(situation.snapshot)
    if traffic is None:
        return (kind, "Unknown", "NoTraffic", "no version is live yet")
    split = routes.Split.of(traffic)
    if wrong:
        return (kind, "False", wrong[0].reason, "; ".join(problem.message for problem in wrong))
    if traffic.confirmed_at is None:
        late = situation.now > traffic.wanted_since + CANNOT_STEER_AFTER
        message = f"no Gateway has taken in the route for {split}"
        return (kind, "False", "CannotSteer" if late else "Shifting", message)
    return (kind, "True", "Confirmed", f"router has {split}")


def cannot_steer(status: ModelRolloutStatus) -> bool:
    """Whether the latest word is that the router does not follow."""
    return any(
        condition.type == ConditionType.TRAFFIC_SYNCED and condition.reason == "CannotSteer"
        for condition in status.conditions
    )


def _rolled_back(status: ModelRolloutStatus) -> ConditionRow:
    kind, rollback = ConditionType.ROLLED_BACK, status.rollback
    if rollback is None:
        return (kind, "False", "NoRollback", "the latest deployment was not reverted")
    if rollback.replica_set_reverted_at is None:
        return (kind, "Unknown", rollback.reason, f"{rollback.deployment_id} is being reverted: {rollback.message}")
    times = f"traffic after {rollback.traffic_seconds}s, ReplicaSet after {rollback.replica_set_seconds}s"
    return (kind, "True", rollback.reason, f"{rollback.deployment_id}: {rollback.message}; {times}")
