"""The rules of a rollout, in order: the first that answers decides.

A rule takes the situation and gives a Change (what status says next, and why) or None. It does no I/O and
reads no clock. What the cluster should look like for a status is in `desired.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ops_commander.api.fields import format_duration
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    HistoryEntry,
    ModelRolloutStatus,
    ObjectiveStatus,
    OnDeadline,
    Outcome,
    RetiringStatus,
    RollbackStatus,
    StepRecord,
    StepState,
    StepStatus,
    Verdict,
)
from ops_commander.core import names, objectives
from ops_commander.core.routes import Split
from ops_commander.core.situation import PROMOTING, SETTLE, Situation

LOOK_AGAIN = timedelta(seconds=1)
CHECK_AGAIN = timedelta(seconds=5)
SCALE_DOWN_REGARDLESS = timedelta(seconds=60)
"""A router that cannot be steered keeps a breached candidate alive no longer than this: half the RTO."""
HISTORY_LIMIT = 10

_PREPARING = StepState.PREPARING
_SEEING = frozenset({StepState.PREPARING, StepState.SHIFTING, StepState.RUNNING, StepState.PAUSED})
"""States in which a candidate with live traffic must be seen."""


@dataclass(frozen=True)
class Occurrence:
    """Something worth an Event and a record in the log."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Change:
    """What a rule decides."""

    rule: str
    status: ModelRolloutStatus
    reason: str
    message: str
    next: str | None = None
    requeue_at: datetime | None = None
    occurrences: tuple[Occurrence, ...] = field(default=())


Rule = Callable[[Situation], Change | None]


def _now(situation: Situation, rule: str, status: ModelRolloutStatus, *occurrences: Occurrence) -> Change:
    """A transition: the next state is looked at right away."""
    last = occurrences[-1]
    return Change(rule, status, last.reason, last.message, requeue_at=situation.now, occurrences=occurrences)


def _wait(
    situation: Situation,
    rule: str,
    reason: str,
    message: str,
    *,
    next_: str | None = None,
    until: datetime | None = None,
    every: timedelta = LOOK_AGAIN,
) -> Change:
    """No transition: what is waited for, and when to look again at the latest."""
    look = situation.now + every
    due = min(until, look) if until and until > situation.now else look
    return Change(rule, situation.snapshot.status, reason, message, next_, due)


def _step(status: ModelRolloutStatus, **changes: Any) -> ModelRolloutStatus:
    assert status.step is not None
    return status.model_copy(update={"step": status.step.model_copy(update=changes)})


def _in_state(situation: Situation, state: StepState, **changes: Any) -> ModelRolloutStatus:
    return _step(situation.snapshot.status, state=state, state_since=situation.now, **changes)


def _deployment(status: ModelRolloutStatus, **changes: Any) -> ModelRolloutStatus:
    assert status.deployment is not None
    return status.model_copy(update={"deployment": status.deployment.model_copy(update=changes)})


def _update_record(status: ModelRolloutStatus, **changes: Any) -> ModelRolloutStatus:
    assert status.deployment is not None
    records = list(status.deployment.steps)
    if records:
        records[-1] = records[-1].model_copy(update=changes)
    return _deployment(status, steps=records)


def _enter_step(situation: Situation, status: ModelRolloutStatus, index: int, state: StepState) -> ModelRolloutStatus:
    now = situation.now
    name = "launch" if state is StepState.LAUNCHING else situation.snapshot.spec.steps[index].label
    status = _update_record(status, left_at=now)
    assert status.deployment is not None
    records = [*status.deployment.steps, StepRecord(name=name, entered_at=now)]
    step = StepStatus(index=index, name=name, state=state, state_since=now, entered_at=now)
    return _deployment(status.model_copy(update={"step": step}), steps=records)


def _end_deployment(
    situation: Situation, status: ModelRolloutStatus, outcome: Outcome, reason: str
) -> ModelRolloutStatus:
    """Close the books on the deployment; its candidate retires unless it has become stable."""
    now = situation.now
    status = _deployment(_update_record(status, left_at=now), ended_at=now, outcome=outcome, reason=reason)
    deployment, candidate = status.deployment, status.candidate_revision
    assert deployment is not None
    entry = HistoryEntry(
        deployment_id=deployment.id,
        revision=deployment.revision,
        model_version=deployment.model_version,
        outcome=outcome,
        reason=reason,
        started_at=deployment.started_at,
        ended_at=now,
    )
    retiring = [item for item in status.retiring if item.revision != candidate]
    if candidate and candidate != status.stable_revision:
        retiring.append(RetiringStatus(revision=candidate))
    changes = {
        "history": [entry, *status.history][:HISTORY_LIMIT],
        "retiring": retiring,
        "candidate_revision": None,
        "step": None,
    }
    return status.model_copy(update=changes)


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
    status = _in_state(situation, StepState.REVERTING).model_copy(
        update={"rollback": rollback, "objectives": situation.rows or situation.snapshot.status.objectives}
    )
    return _now(situation, rule, status, Occurrence("RollbackStarted", f"{reason}: {message}", warning=True))


# --- Reverting comes before everything else ---------------------------------------------------------


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
            return _now(situation, "reverting", updated, Occurrence("TrafficReverted", message))
        if now < rollback.decided_at + SCALE_DOWN_REGARDLESS:
            return _wait(situation, "reverting", "RevertingTraffic", rollback.message, next_="ReplicaSet reverts")
    candidate = situation.candidate
    if candidate is not None and (candidate.desired or candidate.current):
        return _wait(situation, "reverting", "RevertingReplicaSet", rollback.message, next_="rolled back")
    if rollback.traffic_reverted_at is None:
        return _wait(situation, "reverting", "CannotSteer", "the router has not taken the route back to stable yet")
    seconds = _seconds(now - rollback.breach_visible_at)
    changed = rollback.model_copy(update={"replica_set_reverted_at": now, "replica_set_seconds": seconds})
    ended = _end_deployment(
        situation, status.model_copy(update={"rollback": changed}), Outcome.ROLLED_BACK, rollback.reason
    )
    message = f"{rollback.reason}: {rollback.message}; traffic reverted after {rollback.traffic_seconds:.3f}s"
    occurrence = Occurrence("RolledBack", f"{message}, ReplicaSet after {seconds:.3f}s", warning=True)
    return _now(situation, "reverting", ended, occurrence)


def _version(status: ModelRolloutStatus) -> str:
    return status.deployment.model_version if status.deployment else "?"


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
    status = _end_deployment(situation, situation.snapshot.status, Outcome.SUPERSEDED, "SpecChanged")
    return _now(situation, "superseded", status, Occurrence("Superseded", message))


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
        breach_visible_at=worst.evidence_at,
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
    if situation.deployment is None or step is None or (step.capacity_at is not None and step.state is _PREPARING):
        return None
    if step.state not in (StepState.CLEARING, StepState.PREPARING, StepState.SHIFTING):
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


def blind(situation: Situation) -> Change | None:
    """Without fresh evidence a candidate gets no live traffic; the deadline keeps running."""
    if situation.state not in _SEEING or not situation.live_weight:
        return None
    policy = situation.snapshot.policy
    hold_after = policy.hold_after if policy else timedelta(seconds=60)
    gap = situation.evidence_gap()
    if gap < hold_after:
        return None
    missing = [row for row in situation.rows if row.reason in objectives.NO_EVIDENCE and row.required]
    why = f"{missing[0].name}: {missing[0].message}" if missing else "the RolloutPolicy cannot be read"
    message = f"no evidence for {format_duration(_whole(gap))}, weight to 0 until it is back: {why}"
    status = _in_state(situation, StepState.HELD, running_since=None)
    return _now(situation, "blind", status, Occurrence("Held", message, warning=True))


def _whole(duration: timedelta) -> timedelta:
    return timedelta(seconds=int(duration.total_seconds()))


def replanned(situation: Situation) -> Change | None:
    """Spec's steps were edited under way: another split waits for its pods as that of a new step does."""
    step, traffic, spec = situation.step, situation.snapshot.status.traffic, situation.step_spec
    if step is None or traffic is None or step.state not in (StepState.SHIFTING, StepState.RUNNING, StepState.PAUSED):
        return None
    live, wanted = Split(traffic.candidate_weight, traffic.mirror_percent), Split(spec.weight, spec.mirror_percent)
    if live == wanted:
        return None
    index = min(step.index, len(situation.snapshot.spec.steps) - 1)
    changes = {"index": index, "name": spec.label, "reached_at": None, "running_since": None, "capacity_at": None}
    status = _update_record(_in_state(situation, StepState.PREPARING, **changes), name=spec.label)
    message = f"spec.steps was edited: {step.name} ({live}) becomes {spec.label} ({wanted})"
    return _now(situation, "replanned", status, Occurrence("StepChanged", message))


def drifted(situation: Situation) -> Change | None:
    """Evidence counts only under the step's own split: another writer's change starts the dwell over."""
    if situation.state not in (StepState.RUNNING, StepState.PAUSED) or situation.is_confirmed:
        return None
    message = "the route no longer had the split of this step: written again, the dwell starts over"
    status = _in_state(situation, StepState.SHIFTING, running_since=None)
    return _now(situation, "drifted", status, Occurrence("TrafficShifting", message, warning=True))


# --- A deployment on its way ------------------------------------------------------------------------


def launching(situation: Situation) -> Change | None:
    """The first version goes live directly once it is Ready: there is nothing to compare it with."""
    snapshot, status, step = situation.snapshot, situation.snapshot.status, situation.step
    if step is None or step.state is not StepState.LAUNCHING:
        return None
    revision = status.candidate_revision
    assert revision is not None
    if not situation.is_ready_behind("stable", revision, snapshot.spec.replicas):
        late = situation.now >= step.entered_at + snapshot.spec.progress_deadline
        reason = "ProgressDeadlineExceeded" if late else "WaitingForPods"
        return _wait(situation, "launching", reason, _capacity_text(situation, snapshot.spec.replicas), next_="live")
    if step.capacity_at is None:
        occurrence = Occurrence("CapacityReady", f"{snapshot.spec.replicas} pod(s) Ready")
        return _now(situation, "launching", _step(status, capacity_at=situation.now), occurrence)
    if not situation.is_confirmed:
        return _wait(situation, "launching", "WaitingForRoute", "the route has not been taken by a Gateway yet")
    live = status.model_copy(update={"stable_revision": revision, "stable_version": _version(status)})
    ended = _end_deployment(situation, live, Outcome.COMPLETED, "FirstVersion")
    message = f"model version {_version(status)} is live as the first version"
    return _now(situation, "launching", ended, Occurrence("Completed", message))


def _capacity_text(situation: Situation, needed: int) -> str:
    candidate = situation.candidate
    ready = candidate.ready if candidate else 0
    trouble = f": {candidate.trouble}" if candidate and candidate.trouble else ""
    return f"{ready} of {needed} pod(s) Ready{trouble}"


def clearing(situation: Situation) -> Change | None:
    """The router must be off the candidate Service before that one turns to new pods."""
    if situation.state is not StepState.CLEARING:
        return None
    if not situation.is_settled:
        return _wait(situation, "clearing", "ClearingTraffic", "all traffic to stable before the candidate starts")
    occurrence = Occurrence("CandidateStarting", f"creating {situation.needed_replicas(0)} candidate pod(s)")
    return _now(situation, "clearing", _in_state(situation, StepState.PREPARING), occurrence)


def preparing(situation: Situation) -> Change | None:
    """Capacity before traffic: no weight moves to pods that are not Ready behind their Service."""
    step, status = situation.step, situation.snapshot.status
    if step is None or step.state is not StepState.PREPARING:
        return None
    needed = situation.needed_replicas(step.index)
    assert status.candidate_revision is not None
    if not situation.is_ready_behind("candidate", status.candidate_revision, needed):
        until = step.state_since + situation.snapshot.spec.progress_deadline
        change = _wait(
            situation, "preparing", "WaitingForPods", _capacity_text(situation, needed), next_=step.name, until=until
        )
        if step.capacity_at is None:
            return change
        since = situation.now if situation.snapshot.spec.paused else step.state_since
        return replace(change, status=_step(status, capacity_at=None, state_since=since))
    if step.capacity_at is None:
        occurrence = Occurrence("CapacityReady", f"{needed} candidate pod(s) Ready for {step.name}")
        return _now(situation, "preparing", _step(status, capacity_at=situation.now), occurrence)
    if situation.now < step.capacity_at + SETTLE:
        until = step.capacity_at + SETTLE
        return _wait(situation, "preparing", "Settling", "the proxies learn of the new pods", until=until)
    if situation.snapshot.spec.paused:
        message = f"pods for {step.name} are Ready, held before it by spec.paused"
        return _wait(situation, "preparing", "Paused", message, next_="spec.paused: false", every=CHECK_AGAIN)
    shifted = _in_state(situation, StepState.SHIFTING)
    if step.index == 0 and step.reached_at is None and situation.candidate:
        shifted = _deployment(shifted, restarts_at_start=situation.candidate.restarts)
    spec = situation.step_spec
    split = Split(spec.weight, spec.mirror_percent)
    return _now(situation, "preparing", shifted, Occurrence("TrafficShifting", f"{step.name}: {split}"))


def shifting(situation: Situation) -> Change | None:
    """A step is reached when the router was seen to have its split."""
    step = situation.step
    if step is None or step.state is not StepState.SHIFTING:
        return None
    if not situation.is_confirmed:
        until = step.state_since + situation.snapshot.spec.progress_deadline
        return _wait(situation, "shifting", "WaitingForRouter", "the router has not confirmed the split", until=until)
    reached = step.reached_at or situation.now
    status = _in_state(situation, StepState.RUNNING, reached_at=reached, running_since=situation.now)
    status = _update_record(status, reached_at=reached)
    return _now(situation, "shifting", status, Occurrence("StepReached", f"{step.name}: split confirmed"))


def held(situation: Situation) -> Change | None:
    """Back to the step's split once both arms have fresh data again, and if its pods are still there."""
    step = situation.step
    if step is None or step.state is not StepState.HELD:
        return None
    rows = [row for row in situation.rows if row.required]
    if situation.snapshot.policy and rows and all(row.reason not in objectives.NO_EVIDENCE for row in rows):
        status = _in_state(situation, StepState.PREPARING, capacity_at=None)
        return _now(situation, "held", status, Occurrence("Resumed", f"evidence is back: {step.name} goes on"))
    overdue = _overdue(situation)
    if overdue:
        return overdue
    why = _shortly([row for row in rows if row.reason in objectives.NO_EVIDENCE])
    return _wait(situation, "held", "NoEvidence", why, next_=_end_text(situation), every=CHECK_AGAIN)


def paused(situation: Situation) -> Change | None:
    """A person holds the rollout: no advance and no deadline, but breaches still revert."""
    step, spec = situation.step, situation.snapshot.spec
    if step is None:
        return None
    if step.state is StepState.RUNNING and spec.paused:
        status = _in_state(situation, StepState.PAUSED)
        return _now(situation, "paused", status, Occurrence("Paused", f"held in {step.name} by spec.paused"))
    if step.state is not StepState.PAUSED:
        return None
    if spec.paused:
        message = f"held in {step.name} by spec.paused"
        return _wait(situation, "paused", "Paused", message, next_="spec.paused: false", every=CHECK_AGAIN)
    now = situation.now
    status = _in_state(situation, StepState.RUNNING, reached_at=now, running_since=now)
    return _now(situation, "paused", status, Occurrence("Resumed", f"{step.name} starts over, with its deadline"))


def promoted(situation: Situation) -> Change | None:
    """A person's order to leave this step now, for this very deployment, once."""
    deployment, step = situation.deployment, situation.step
    order = situation.ordered(names.PROMOTE)
    if deployment is None or step is None or order is None or order == situation.snapshot.status.handled_promote:
        return None
    if step.state not in (StepState.RUNNING, StepState.PAUSED):
        return None
    if order not in (deployment.id, f"{deployment.id}/{step.index}"):
        return None
    why = f"ordered by the annotation {names.PROMOTE}"
    change = _advance(situation, "promoted", why)
    return replace(change, status=change.status.model_copy(update={"handled_promote": order}))


def _advance(situation: Situation, rule: str, why: str) -> Change:
    step = situation.step
    assert step is not None
    if situation.is_last_step:
        occurrence = Occurrence("PromotionStarted", f"{step.name} is done ({why}): the candidate becomes stable")
        return _now(situation, rule, _in_state(situation, StepState.SWITCHING), occurrence)
    status = situation.snapshot.status.model_copy(update={"objectives": situation.rows})
    status = _enter_step(situation, status, step.index + 1, StepState.PREPARING)
    assert status.step is not None
    return _now(situation, rule, status, Occurrence("StepCompleted", f"{step.name} is done ({why})"))


def running(situation: Situation) -> Change | None:
    """Leave a step when it has dwelled long enough and every required objective passes on the same evidence."""
    step = situation.step
    if step is None or step.state is not StepState.RUNNING or step.running_since is None:
        return None
    spec = situation.step_spec
    dwelled_at = step.running_since + spec.min_duration
    verdict = objectives.overall(situation.rows)
    if situation.snapshot.policy is not None and verdict is Verdict.PASS and situation.now >= dwelled_at:
        return _advance(situation, "running", f"all objectives met for {format_duration(spec.min_duration)}")
    overdue = _overdue(situation)
    if overdue:
        return overdue
    undecided = [row for row in situation.rows if row.required and row.verdict is not Verdict.PASS]
    if verdict is not Verdict.PASS or situation.snapshot.policy is None:
        message = _shortly(undecided)
        ends, reason = _end_text(situation), undecided[0].reason if undecided else "NotJudged"
        until = _deadline(situation)
        return _wait(situation, "running", reason, message, next_=ends, until=until, every=CHECK_AGAIN)
    message = f"all objectives met, dwelling until {dwelled_at:%H:%M:%S}"
    following = "promotion" if situation.is_last_step else situation.snapshot.spec.steps[step.index + 1].label
    due = f"{following} at {dwelled_at:%H:%M:%S}"
    return _wait(situation, "running", "Dwelling", message, next_=due, until=dwelled_at, every=CHECK_AGAIN)


def _shortly(rows: list[ObjectiveStatus]) -> str:
    """The first row in full, the others by name: SLOsMet tells each of them."""
    if not rows:
        return "the RolloutPolicy cannot be read"
    others = ", ".join(f"{row.name} {row.reason}" for row in rows[1:])
    return f"{rows[0].name}: {rows[0].message}" + (f" (also {others})" if others else "")


def _deadline(situation: Situation) -> datetime | None:
    step = situation.step
    if step is None:
        return None
    return (step.reached_at or step.entered_at) + situation.step_spec.max_duration


def _end_text(situation: Situation) -> str | None:
    deadline = _deadline(situation)
    policy = situation.snapshot.policy
    if deadline is None or (policy and policy.on_deadline is OnDeadline.PAUSE):
        return None
    return f"rollback at {deadline:%H:%M:%S}"


def _overdue(situation: Situation) -> Change | None:
    """Prefer rollback over uncertainty: a step that could not be proved in time reverts."""
    deadline, policy, step = _deadline(situation), situation.snapshot.policy, situation.step
    if deadline is None or step is None or situation.now < deadline or situation.snapshot.spec.paused:
        return None
    undecided = [row for row in situation.rows if row.required and row.verdict is not Verdict.PASS]
    details = "; ".join(f"{row.name} {row.reason}: {row.message}" for row in undecided) or "policy cannot be read"
    message = f"{step.name} not proved within {format_duration(situation.step_spec.max_duration)}: {details}"
    if policy and policy.on_deadline is OnDeadline.PAUSE:
        next_ = "promote or abort"
        return _wait(situation, "overdue", "DeadlineInconclusive", message, next_=next_, every=CHECK_AGAIN)
    return begin_rollback(situation, "overdue", "DeadlineInconclusive", message)


def switching(situation: Situation) -> Change | None:
    """Promotion, first half: the stable Service turns to the candidate's pods while it has no traffic."""
    step, status = situation.step, situation.snapshot.status
    if step is None or step.state is not StepState.SWITCHING:
        return None
    revision = status.candidate_revision
    assert revision is not None
    behind = situation.snapshot.candidate_service
    serving = behind.ready.get(revision, 0) if behind else 0
    if not situation.is_ready_behind("stable", revision, max(1, serving)):
        return _wait(situation, "switching", "SwitchingService", "the stable Service turns to the candidate's pods")
    if step.capacity_at is None or step.capacity_at < step.state_since:
        occurrence = Occurrence("StableServiceSwitched", "the stable Service has the candidate's pods")
        return _now(situation, "switching", _step(status, capacity_at=situation.now), occurrence)
    if situation.now < step.capacity_at + SETTLE:
        until = step.capacity_at + SETTLE
        return _wait(situation, "switching", "Settling", "the proxies learn of the new pods", until=until)
    occurrence = Occurrence("TrafficReturning", "the route goes back to the stable Service")
    return _now(situation, "switching", _in_state(situation, StepState.RETURNING), occurrence)


def returning(situation: Situation) -> Change | None:
    """Promotion, second half: the route is back on the stable Service, the old version retires."""
    status = situation.snapshot.status
    if situation.state is not StepState.RETURNING:
        return None
    if not situation.is_settled:
        return _wait(situation, "returning", "WaitingForRouter", "the route goes back to the stable Service")
    old, new = status.stable_revision, status.candidate_revision
    retiring = [item for item in status.retiring if item.revision != new]
    if old and old != new:
        retiring.append(RetiringStatus(revision=old))
    live = status.model_copy(update={"stable_revision": new, "stable_version": _version(status), "retiring": retiring})
    ended = _end_deployment(situation, live, Outcome.COMPLETED, "AllStepsPassed")
    message = f"model version {_version(status)} is stable"
    return _now(situation, "returning", ended, Occurrence("Completed", message))


# --- No deployment under way ------------------------------------------------------------------------


def retried(situation: Situation) -> Change | None:
    """A person's order to try the reverted revision again."""
    rejected = situation.rejected
    if rejected is None or situation.ordered(names.RETRY) != rejected.id:
        return None
    return _start(situation, "retried", f"ordered by the annotation {names.RETRY}")


def latched(situation: Situation) -> Change | None:
    """A reverted revision stays out until spec changes or a person orders a retry."""
    rejected = situation.rejected
    if rejected is None or situation.ordered(names.RETRY) == rejected.id:
        return None
    status, rollback = situation.snapshot.status, situation.snapshot.status.rollback
    why = rollback.message if rollback else ""
    message = f"{rejected.id} was reverted, {rejected.reason}: {why}"
    hint = f"change spec, or annotate {names.RETRY}={rejected.id}"
    return Change("latched", status, rejected.reason or "RolledBack", message, hint)


def settled(situation: Situation) -> Change | None:
    """The stable version is the wanted one."""
    status = situation.snapshot.status
    if status.stable_revision != situation.revision or situation.deployment is not None:
        return None
    replica_set = situation.replica_set(status.stable_revision)
    ready = replica_set.ready if replica_set else 0
    wanted = situation.snapshot.spec.replicas
    if status.deployment and status.deployment.outcome is not Outcome.COMPLETED:
        status = status.model_copy(update={"deployment": None, "rollback": None})
    message = f"model version {status.stable_version}: {ready} of {wanted} pod(s) Ready, all traffic on stable"
    return Change("settled", status, "Stable", message)


def unverified(situation: Situation) -> Change | None:
    """Nothing unverified ships: a candidate starts only when every check has passed."""
    status = situation.snapshot.status
    for check in situation.failed_checks:
        again = situation.now + CHECK_AGAIN * 6
        return Change("unverified", status, check.reason, check.message, "correct the field named", again)
    for check in situation.open_checks:
        again = situation.now + CHECK_AGAIN
        return Change("unverified", status, check.reason, check.message, "verified again", again)
    if situation.snapshot.spec.paused:
        return Change("unverified", status, "Paused", "spec.paused holds the start", "spec.paused: false")
    return None


def starting(situation: Situation) -> Change | None:
    """A new revision begins its way: in shadow, or live at once where nothing is live yet."""
    return _start(situation, "starting", "spec asks for a new revision")


def _start(situation: Situation, rule: str, why: str) -> Change:
    snapshot, status, now = situation.snapshot, situation.snapshot.status, situation.now
    number = status.deployments + 1
    identity = names.deployment_id(snapshot.name, situation.revision, number)
    deployment = DeploymentStatus(
        id=identity,
        revision=situation.revision,
        model_version=snapshot.spec.model.version,
        generation=snapshot.generation,
        started_at=now,
    )
    changes = {
        "deployments": number,
        "deployment": deployment,
        "candidate_revision": situation.revision,
        "retiring": [item for item in status.retiring if item.revision != situation.revision],
        "objectives": [],
        "rollback": None,
    }
    begun = status.model_copy(update=changes)
    state = StepState.CLEARING if status.stable_revision else StepState.LAUNCHING
    begun = _enter_step(situation, begun, 0, state)
    message = f"{identity}: model version {snapshot.spec.model.version}, {why}"
    return _now(situation, rule, begun, Occurrence("DeploymentStarted", message))


RULES: tuple[Rule, ...] = (
    reverting,
    aborted,
    superseded,
    objective_breached,
    candidate_restarted,
    capacity_lost,
    progress_deadline_exceeded,
    blind,
    replanned,
    drifted,
    launching,
    clearing,
    preparing,
    shifting,
    held,
    promoted,
    paused,
    running,
    switching,
    returning,
    settled,
    latched,
    unverified,
    retried,
    starting,
)
