"""Rules of a deployment on its way: launch, clear, prepare, shift, run, promote."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from ops_commander.api.fields import format_duration
from ops_commander.api.policy import OnDeadline
from ops_commander.api.v1alpha1 import (
    ModelRolloutStatus,
    ObjectiveStatus,
    Outcome,
    Phase,
    RetiringStatus,
    Role,
    StepState,
    StepStatus,
    Verdict,
)
from ops_commander.core import consensus, evidence_kept, names, objectives, verifying
from ops_commander.core.changes import (
    CHECK_AGAIN,
    EVIDENCE_WAKES,
    Change,
    Occurrence,
    end_deployment,
    enter_step,
    in_state,
    looked_at_by,
    moved,
    waiting,
    with_deployment,
    with_record,
    with_step,
)
from ops_commander.core.reverts import begin_rollback
from ops_commander.core.rollout_risk import SHADOW_ONLY
from ops_commander.core.routes import Split
from ops_commander.core.situation import SETTLE, Situation


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
        return waiting(situation, "launching", reason, _capacity_text(situation, snapshot.spec.replicas), next_="live")
    if step.capacity_at is None:
        untested = verifying.awaiting_tests(situation, "launching")
        if untested:
            return untested
        occurrence = Occurrence("CapacityReady", f"{snapshot.spec.replicas} pod(s) Ready")
        return moved(situation, "launching", with_step(status, capacity_at=situation.now), occurrence)
    if not situation.is_confirmed:
        return waiting(situation, "launching", "WaitingForRoute", "the route has not been taken by a Gateway yet")
    live = status.model_copy(update={"stable_revision": revision, **_stable(status)})
    ended = end_deployment(situation, live, Outcome.COMPLETED, "FirstVersion")
    message = f"model version {_version(status)} is live as the first version"
    return moved(situation, "launching", ended, Occurrence("Completed", message))


def _version(status: ModelRolloutStatus) -> str:
    return status.deployment.model_version if status.deployment else "?"


def _stable(status: ModelRolloutStatus) -> dict[str, str | None]:
    """What becomes known of the stable version when a deployment makes it that."""
    return {
        "stable_version": _version(status),
        "stable_run_id": status.deployment.run_id if status.deployment else None,
    }


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
        return waiting(situation, "clearing", "ClearingTraffic", "all traffic to stable before the candidate starts")
    occurrence = Occurrence("CandidateStarting", f"creating {situation.needed_replicas(0)} candidate pod(s)")
    return moved(situation, "clearing", in_state(situation, StepState.PREPARING), occurrence)


def preparing(situation: Situation) -> Change | None:
    """Capacity before traffic: no weight moves to pods that are not Ready behind their Service."""
    step, status = situation.step, situation.snapshot.status
    if step is None or step.state is not StepState.PREPARING:
        return None
    needed = situation.needed_replicas(step.index)
    assert status.candidate_revision is not None
    if not situation.is_ready_behind("candidate", status.candidate_revision, needed):
        until = step.state_since + situation.snapshot.spec.progress_deadline
        change = waiting(
            situation, "preparing", "WaitingForPods", _capacity_text(situation, needed), next_=step.name, until=until
        )
        if step.capacity_at is None:
            return change
        since = situation.now if situation.snapshot.spec.paused else step.state_since
        return replace(change, status=with_step(status, capacity_at=None, state_since=since))
    if step.capacity_at is None:
        occurrence = Occurrence("CapacityReady", f"{needed} candidate pod(s) Ready for {step.name}")
        return moved(situation, "preparing", with_step(status, capacity_at=situation.now), occurrence)
    if situation.now < step.capacity_at + SETTLE:
        until = step.capacity_at + SETTLE
        return waiting(situation, "preparing", "Settling", "the proxies learn of the new pods", until=until)
    held = verifying.awaiting_tests(situation, "preparing") or consensus.awaiting_quorum(
        situation, "preparing", situation.step_spec
    )
    if held:
        return held
    if situation.snapshot.spec.paused:
        message = f"pods for {step.name} are Ready, held before it by spec.paused"
        return waiting(situation, "preparing", "Paused", message, next_="spec.paused: false", every=CHECK_AGAIN)
    shifted = in_state(situation, StepState.SHIFTING)
    if step.index == 0 and step.reached_at is None and situation.candidate:
        shifted = with_deployment(shifted, restarts_at_start=situation.candidate.restarts)
    split = Split.of_step(situation.step_spec)
    return moved(situation, "preparing", shifted, Occurrence("TrafficShifting", f"{step.name}: {split}"))


def shifting(situation: Situation) -> Change | None:
    """A step is reached when the router was seen to have its split."""
    step = situation.step
    if step is None or step.state is not StepState.SHIFTING:
        return None
    if not situation.is_confirmed:
        until = step.state_since + situation.snapshot.spec.progress_deadline
        return waiting(situation, "shifting", "WaitingForRouter", "the router has not confirmed the split", until=until)
    reached = step.reached_at or situation.now
    now = situation.now
    status = in_state(situation, StepState.RUNNING, reached_at=reached, running_since=now, evidence_since=now)
    status = with_record(status, reached_at=reached, evidence_since=now)
    return moved(situation, "shifting", status, Occurrence("StepReached", f"{step.name}: split confirmed"))


def held(situation: Situation) -> Change | None:
    """Back to the step's split once there is fresh evidence again, and if its pods are still there."""
    step = situation.step
    if step is None or step.state is not StepState.HELD:
        return None
    judged = any(row.role is Role.REQUIRED for row in situation.rows)
    if situation.snapshot.policy and judged and not situation.unseen:
        status = in_state(situation, StepState.PREPARING, capacity_at=None)
        return moved(situation, "held", status, Occurrence("Resumed", f"evidence is back: {step.name} goes on"))
    overdue = _overdue(situation)
    if overdue:
        return overdue
    why = _shortly(situation.unseen)
    until = _deadline(situation)
    return waiting(situation, "held", "NoEvidence", why, next_=_end_text(situation), until=until, every=CHECK_AGAIN)


def paused(situation: Situation) -> Change | None:
    """A person holds the rollout: no advance and no deadline, but breaches still revert."""
    step, spec = situation.step, situation.snapshot.spec
    if step is None:
        return None
    if step.state is StepState.RUNNING and spec.paused:
        status = in_state(situation, StepState.PAUSED)
        return moved(situation, "paused", status, Occurrence("Paused", f"held in {step.name} by spec.paused"))
    if step.state is not StepState.PAUSED:
        return None
    if spec.paused:
        message = f"held in {step.name} by spec.paused"
        return waiting(situation, "paused", "Paused", message, next_="spec.paused: false", every=CHECK_AGAIN)
    now = situation.now
    status = in_state(situation, StepState.RUNNING, reached_at=now, running_since=now)
    return moved(situation, "paused", status, Occurrence("Resumed", f"{step.name} starts over, with its deadline"))


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
    held = consensus.awaiting_quorum(situation, "promoted", situation.next_step)
    if held:
        return held
    unready = verifying.awaiting_files(situation, "promoted") or evidence_kept.awaiting_evidence(situation, "promoted")
    if unready:
        late = _overdue(situation)
        return late if late and late.occurrences else unready
    change = _advance(situation, "promoted", why)
    return replace(change, status=change.status.model_copy(update={"handled_promote": order}))


def _advance(situation: Situation, rule: str, why: str) -> Change:
    step = situation.step
    assert step is not None
    if situation.is_last_step:
        occurrence = Occurrence("PromotionStarted", f"{step.name} is done ({why}): the candidate becomes stable")
        switching = in_state(situation, StepState.SWITCHING)
        if evidence_kept.is_required(situation):
            switching = with_deployment(switching, kept_at=situation.now)
        return moved(situation, rule, switching, occurrence)
    status = situation.snapshot.status.model_copy(update={"objectives": situation.rows})
    status = enter_step(situation, status, step.index + 1, StepState.PREPARING)
    assert status.step is not None
    return moved(situation, rule, status, Occurrence("StepCompleted", f"{step.name} is done ({why})"))


def running(situation: Situation) -> Change | None:
    """Leave a step when it has dwelled long enough and every required objective passes on the same evidence."""
    step = situation.step
    if step is None or step.state is not StepState.RUNNING or step.running_since is None:
        return None
    spec = situation.step_spec
    dwelled_at = step.running_since + spec.min_duration
    verdict = objectives.overall(situation.rows)
    unread = None
    if situation.snapshot.policy is not None and verdict is Verdict.PASS and situation.now >= dwelled_at:
        held = consensus.awaiting_quorum(situation, "running", situation.next_step)
        if held:
            return held
        unread = verifying.awaiting_files(situation, "running") or evidence_kept.awaiting_evidence(situation, "running")
        if unread is None:
            return _advance(situation, "running", f"all objectives met for {format_duration(spec.min_duration)}")
    waits = unread or verifying.stays(situation, _unproved(situation, verdict, dwelled_at))
    return _overdue(situation) or looked_at_by(waits, situation.now, _deadline(situation))


def _unproved(situation: Situation, verdict: Verdict, dwelled_at: datetime) -> Change:
    step = situation.step
    assert step is not None
    undecided = situation.undecided
    if verdict is not Verdict.PASS or situation.snapshot.policy is None:
        message = _shortly(undecided)
        ends, reason = _end_text(situation), undecided[0].reason if undecided else "NotJudged"
        return waiting(situation, "running", reason, message, next_=ends, every=_pace(situation))
    message = f"all objectives met, dwelling until {dwelled_at:%H:%M:%S}"
    following = "promotion" if situation.is_last_step else situation.snapshot.spec.steps[step.index + 1].label
    due = f"{following} at {dwelled_at:%H:%M:%S}"
    return waiting(situation, "running", "Dwelling", message, next_=due, until=dwelled_at, every=_pace(situation))


def _pace(situation: Situation) -> timedelta:
    """Answers of Prometheus wake their rollout; runs of MLflow are looked up with it, and again where they were not
    read."""
    judged = situation.judged
    return CHECK_AGAIN if not judged or any(item.run for item in judged) else EVIDENCE_WAKES


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
    return (step.reached_at or step.entered_at) + situation.step_spec.max_duration + consensus.rested(situation)


def _end_text(situation: Situation) -> str | None:
    deadline = _deadline(situation)
    policy = situation.snapshot.policy
    if deadline is None or (policy and policy.on_deadline is OnDeadline.PAUSE) or consensus.is_open(situation):
        return None
    if _is_for_shadow_only(situation):
        return f"waits for a person from {deadline:%H:%M:%S} on"
    return f"rollback at {deadline:%H:%M:%S}"


def _is_for_shadow_only(situation: Situation) -> bool:
    """Whether nothing but a Medium risk keeps a running step from being left; once a person is waited for, what is
    not known for a while does not end that."""
    rows, status = situation.undecided, situation.snapshot.status
    awaited = status.phase is Phase.PAUSED and status.reason == SHADOW_ONLY
    open_ = [row for row in rows if not (awaited and row.reason in objectives.NOT_KNOWN)]
    return situation.state is StepState.RUNNING and bool(open_) and all(row.reason == SHADOW_ONLY for row in open_)


def _overdue(situation: Situation) -> Change | None:
    """Prefer rollback over uncertainty: a step that could not be proved in time reverts."""
    deadline, policy, step = _deadline(situation), situation.snapshot.policy, situation.step
    if deadline is None or step is None or situation.now < deadline or situation.snapshot.spec.paused:
        return None
    undecided = situation.undecided
    if _is_for_shadow_only(situation):
        message = "; ".join(f"{row.name}: {row.message}" for row in undecided)
        return waiting(situation, "overdue", SHADOW_ONLY, message, next_="promote or abort", every=CHECK_AGAIN)
    if situation.may_be_found_by_reading(deadline):
        return None
    details = "; ".join(f"{row.name} {row.reason}: {row.message}" for row in undecided)
    details = details or ("policy cannot be read" if policy is None else _unfinished(step))
    message = f"{step.name} not proved within {format_duration(situation.step_spec.max_duration)}: {details}"
    if policy and policy.on_deadline is OnDeadline.PAUSE:
        next_ = "abort" if step.state is StepState.HELD else "promote or abort"
        return waiting(situation, "overdue", "DeadlineInconclusive", message, next_=next_, every=CHECK_AGAIN)
    return begin_rollback(situation, "overdue", "DeadlineInconclusive", message)


def _unfinished(step: StepStatus) -> str:
    return "its evidence was not written to MLflow" if step.proved_at else "its files were not read again"


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
        return waiting(situation, "switching", "SwitchingService", "the stable Service turns to the candidate's pods")
    if step.capacity_at is None or step.capacity_at < step.state_since:
        occurrence = Occurrence("StableServiceSwitched", "the stable Service has the candidate's pods")
        return moved(situation, "switching", with_step(status, capacity_at=situation.now), occurrence)
    if situation.now < step.capacity_at + SETTLE:
        until = step.capacity_at + SETTLE
        return waiting(situation, "switching", "Settling", "the proxies learn of the new pods", until=until)
    occurrence = Occurrence("TrafficReturning", "the route goes back to the stable Service")
    return moved(situation, "switching", in_state(situation, StepState.RETURNING), occurrence)


def returning(situation: Situation) -> Change | None:
    """Promotion, second half: the route is back on the stable Service, the old version retires."""
    status = situation.snapshot.status
    if situation.state is not StepState.RETURNING:
        return None
    if not situation.is_settled:
        return waiting(situation, "returning", "WaitingForRouter", "the route goes back to the stable Service")
    old, new = status.stable_revision, status.candidate_revision
    retiring = [item for item in status.retiring if item.revision != new]
    if old and old != new:
        retiring.append(RetiringStatus(revision=old))
    live = status.model_copy(update={"stable_revision": new, **_stable(status), "retiring": retiring})
    ended = end_deployment(situation, live, Outcome.COMPLETED, "AllStepsPassed")
    message = f"model version {_version(status)} is stable"
    return moved(situation, "returning", ended, Occurrence("Completed", message))
