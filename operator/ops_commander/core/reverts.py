"""Rules that take a candidate's traffic away, and those that see a revert through."""

from __future__ import annotations

from datetime import datetime, timedelta

from ops_commander.api.fields import format_duration
from ops_commander.api.v1alpha1 import ModelRolloutSpec, Outcome, RollbackStatus, StepState
from ops_commander.core import names
from ops_commander.core.changes import (
    CHECK_AGAIN,
    Change,
    Occurrence,
    end_deployment,
    in_state,
    moved,
    waiting,
    with_record,
)
from ops_commander.core.routes import Split
from ops_commander.core.situation import PROMOTING, SETTLE, STEP_STATES, Situation

SCALE_DOWN_REGARDLESS = timedelta(seconds=60)
"""A router that cannot be steered keeps a breached candidate alive no longer than this: half the RTO."""

_SEEING = STEP_STATES | {StepState.PREPARING}
"""States in which a candidate with live traffic must be seen."""


def begin_rollback(
    situation: Situation,
    rule: str,
    reason: str,
    message: str,
    *,
    objective: str | None = None,
    breach_visible_at: datetime | None = None,
) -> Change:
    """Latch the revert: from here on the candidate cannot come back without a new deployment."""
    deployment = situation.deployment
    assert deployment is not None
    rollback = RollbackStatus(
        deployment_id=deployment.id,
        reason=reason,
        objective=objective,
        message=message,
        breach_visible_at=breach_visible_at or situation.now,
        decided_at=situation.now,
    )
    status = in_state(situation, StepState.REVERTING).model_copy(
        update={"rollback": rollback, "objectives": situation.rows or situation.snapshot.status.objectives}
    )
    return moved(situation, rule, status, Occurrence("RollbackStarted", f"{reason}: {message}", warning=True))


def reverting(situation: Situation) -> Change | None:
    """A revert under way goes on: traffic first, then the ReplicaSet, each timed."""
    status, now = situation.snapshot.status, situation.now
    if situation.state is not StepState.REVERTING or status.rollback is None:
        return None
    rollback = status.rollback
    if rollback.traffic_reverted_at is None:
        if status.stable_revision is None or (situation.is_confirmed and situation.is_stable_selected):
            seconds = _seconds(now - rollback.breach_visible_at)
            changed = rollback.model_copy(update={"traffic_reverted_at": now, "traffic_seconds": seconds})
            message = f"all traffic on stable {seconds:.3f}s after the breach was visible"
            updated = status.model_copy(update={"rollback": changed})
            return moved(situation, "reverting", updated, Occurrence("TrafficReverted", message))
        if now < rollback.decided_at + SCALE_DOWN_REGARDLESS:
            return waiting(situation, "reverting", "RevertingTraffic", rollback.message, next_="ReplicaSet reverts")
    candidate = situation.candidate
    if candidate is not None and not candidate.is_empty:
        until = scales_down_at(situation.snapshot.spec, rollback)
        return waiting(
            situation,
            "reverting",
            "RevertingReplicaSet",
            rollback.message,
            next_="rolled back",
            until=until,
            every=CHECK_AGAIN,  # pods that go wake their rollout
        )
    if rollback.traffic_reverted_at is None:
        return waiting(situation, "reverting", "CannotSteer", "the router has not taken the route back to stable yet")
    seconds = _seconds(now - rollback.breach_visible_at)
    changed = rollback.model_copy(update={"replica_set_reverted_at": now, "replica_set_seconds": seconds})
    ended = end_deployment(
        situation, status.model_copy(update={"rollback": changed}), Outcome.ROLLED_BACK, rollback.reason
    )
    message = f"{rollback.reason}: {rollback.message}; traffic reverted after {rollback.traffic_seconds:.3f}s"
    occurrence = Occurrence("RolledBack", f"{message}, ReplicaSet after {seconds:.3f}s", warning=True)
    return moved(situation, "reverting", ended, occurrence)


def scales_down_at(spec: ModelRolloutSpec, rollback: RollbackStatus) -> datetime:
    """After the drain, and not before the proxies have followed; without both when the router does not for long."""
    if rollback.traffic_reverted_at is None:
        return rollback.decided_at + SCALE_DOWN_REGARDLESS
    return rollback.traffic_reverted_at + max(spec.drain, SETTLE)


def _seconds(duration: timedelta) -> float:
    return round(duration.total_seconds(), 3)


def aborted(situation: Situation) -> Change | None:
    """A person's order to revert, for this very deployment."""
    deployment = situation.deployment
    if deployment is None or situation.ordered(names.ABORT) != deployment.id:
        return None
    return begin_rollback(situation, "aborted", "Aborted", f"ordered by the annotation {names.ABORT}")


def superseded(situation: Situation) -> Change | None:
    """Spec asks for another revision than the one under way: give this one up."""
    deployment = situation.deployment
    if deployment is None or deployment.revision == situation.revision or situation.state in PROMOTING:
        return None
    message = f"{deployment.id} gives way: spec now asks for revision {situation.revision}"
    status = end_deployment(situation, situation.snapshot.status, Outcome.SUPERSEDED, "SpecChanged")
    return moved(situation, "superseded", status, Occurrence("Superseded", message))


def objective_breached(situation: Situation) -> Change | None:
    """A required objective fails while the candidate has traffic, shadow or live."""
    if situation.deployment is None or not situation.breaches:
        return None
    worst = situation.breaches[0]
    message = f"{worst.name}: {worst.message}"
    return begin_rollback(
        situation,
        "objective_breached",
        "ObjectiveBreached",
        message,
        objective=worst.name,
        breach_visible_at=worst.last_tick,
    )


def candidate_restarted(situation: Situation) -> Change | None:
    """A container that died takes its counters along, so a restart is a failure of its own."""
    deployment, candidate = situation.deployment, situation.candidate
    if deployment is None or candidate is None or situation.judged_kind is None:
        return None
    restarts = candidate.restarts - deployment.restarts_at_start
    if restarts <= 0:
        return None
    message = f"{restarts} container restart(s) in ReplicaSet {candidate.name} since its first traffic"
    if candidate.trouble:
        message += f": {candidate.trouble}"
    return begin_rollback(situation, "candidate_restarted", "CandidateRestarted", message)


def capacity_lost(situation: Situation) -> Change | None:
    """Live requests for a Service without a ready pod fail, and no metric of the pods tells it."""
    snapshot, revision = situation.snapshot, situation.snapshot.status.candidate_revision
    if situation.deployment is None or revision is None or not snapshot.spec.replicas:
        return None
    returning_ = situation.state is StepState.RETURNING
    if not returning_ and not situation.live_weight:
        return None
    service = "stable" if returning_ else "candidate"
    if situation.is_ready_behind(service, revision, 1):
        return None
    trouble = situation.candidate.trouble if situation.candidate else None
    message = f"no ready pod behind the {service} Service at {situation.live_weight or 100}% of the live requests"
    return begin_rollback(situation, "capacity_lost", "CapacityLost", message + (f": {trouble}" if trouble else ""))


def progress_deadline_exceeded(situation: Situation) -> Change | None:
    """Pods that do not become Ready, or a router that does not take the split, in time."""
    step = situation.step
    if situation.deployment is None or step is None:
        return None
    if step.state not in (StepState.CLEARING, StepState.PREPARING, StepState.SHIFTING) or _has_come(situation):
        return None
    deadline = situation.snapshot.spec.progress_deadline
    if situation.now < step.state_since + deadline:
        return None
    what = situation.candidate.trouble if situation.candidate else None
    if step.state is not StepState.PREPARING:
        what = "the router has not confirmed the split"
    message = f"{step.name} not reached within progressDeadline {format_duration(deadline)}"
    message += f": {what or 'pods are not Ready'}"
    return begin_rollback(situation, "progress_deadline_exceeded", "ProgressDeadlineExceeded", message)


def _has_come(situation: Situation) -> bool:
    """Whether what the state waits for is there: an operator that looks late must not take that for its absence."""
    step, revision = situation.step, situation.snapshot.status.candidate_revision
    if step is None or revision is None:
        return False
    if step.state is StepState.PREPARING:
        needed = situation.needed_replicas(step.index)
        return step.capacity_at is not None or situation.is_ready_behind("candidate", revision, needed)
    return situation.is_settled if step.state is StepState.CLEARING else situation.is_confirmed


def blind(situation: Situation) -> Change | None:
    """Without fresh evidence a candidate gets no live traffic; the deadline keeps running. Evidence of a split is not
    asked for before the operator has seen that it is live."""
    if situation.state not in _SEEING or not situation.live_weight:
        return None
    if situation.state is StepState.SHIFTING and situation.is_confirmed:
        return None
    policy = situation.snapshot.policy
    hold_after = policy.hold_after if policy else timedelta(seconds=60)
    gap = situation.evidence_gap()
    if gap < hold_after:
        return None
    missing = situation.unseen
    why = f"{missing[0].name}: {missing[0].message}" if missing else "the RolloutPolicy cannot be read"
    message = f"no evidence for {format_duration(_whole(gap))}, weight to 0 until it is back: {why}"
    status = in_state(situation, StepState.HELD, running_since=None)
    return moved(situation, "blind", status, Occurrence("Held", message, warning=True))


def _whole(duration: timedelta) -> timedelta:
    return timedelta(seconds=int(duration.total_seconds()))


def replanned(situation: Situation) -> Change | None:
    """Spec's steps were edited under way: another split waits for its pods as that of a new step does."""
    step, traffic, spec = situation.step, situation.snapshot.status.traffic, situation.step_spec
    if step is None or traffic is None or step.state not in STEP_STATES:
        return None
    live, wanted = Split.of(traffic), Split.of_step(spec)
    if live == wanted:
        return None
    index = min(step.index, len(situation.snapshot.spec.steps) - 1)
    changes = {"index": index, "name": spec.label, "reached_at": None, "running_since": None, "capacity_at": None}
    status = with_record(in_state(situation, StepState.PREPARING, **changes), name=spec.label)
    message = f"spec.steps was edited: {step.name} ({live}) becomes {spec.label} ({wanted})"
    return moved(situation, "replanned", status, Occurrence("StepChanged", message))


def drifted(situation: Situation) -> Change | None:
    """A route that no longer has the split of this step goes on only after evidence has been judged again.

    Another writer may have done it, or a leader of ours that took the traffic off and was killed before it could
    say why: to write the candidate's weight back at once would undo its revert.
    """
    if situation.state not in (StepState.RUNNING, StepState.PAUSED) or situation.is_confirmed:
        return None
    message = "the route no longer had the split of this step: no traffic until evidence is judged, then it starts over"
    status = in_state(situation, StepState.HELD, running_since=None)
    return moved(situation, "drifted", status, Occurrence("Held", message, warning=True))
