"""Rules while no deployment is under way: settled, latched, waiting for checks, or starting one."""

from __future__ import annotations

from ops_commander.api.v1alpha1 import DeploymentStatus, Outcome, StepState
from ops_commander.core import evidence_kept, names
from ops_commander.core.changes import CHECK_AGAIN, Change, Occurrence, enter_step, moved
from ops_commander.core.situation import Situation


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


def unverified(situation: Situation) -> Change | None:
    """Nothing unverified ships: a candidate starts only when every check has passed."""
    status = situation.snapshot.status
    for check in situation.failed_checks:
        again = situation.now + CHECK_AGAIN * 6
        return Change("unverified", status, check.reason, check.message, "correct the field named", again)
    for check in situation.open_checks:
        again = situation.now + CHECK_AGAIN
        return Change("unverified", status, check.reason, check.message, "verified again", again)
    if evidence_kept.is_blocked(situation):
        message = f"evidence of {len(status.outbox)} deployments is not in MLflow yet: none starts before"
        return Change("unverified", status, evidence_kept.REASON, message, requeue_at=situation.now + CHECK_AGAIN * 3)
    if situation.snapshot.spec.paused:
        return Change("unverified", status, "Paused", "spec.paused holds the start", "spec.paused: false")
    return None


def retried(situation: Situation) -> Change | None:
    """A person's order to try the reverted revision again."""
    rejected = situation.rejected
    if rejected is None or situation.ordered(names.RETRY) != rejected.id:
        return None
    return _start(situation, "retried", f"ordered by the annotation {names.RETRY}")


def starting(situation: Situation) -> Change | None:
    """A new revision begins its way: in shadow, or live at once where nothing is live yet."""
    return _start(situation, "starting", "spec asks for a new revision")


def _start(situation: Situation, rule: str, why: str) -> Change:
    snapshot, status, now = situation.snapshot, situation.snapshot.status, situation.now
    number = status.deployments + 1
    identity = names.deployment_id(snapshot.name, situation.revision, number)
    verification = situation.verification
    version = verification.model_version if verification else snapshot.spec.model.label
    deployment = DeploymentStatus(
        id=identity,
        revision=situation.revision,
        model=snapshot.spec.model.name,
        model_version=version,
        generation=snapshot.generation,
        started_at=now,
        run_id=verification.run_id if verification else snapshot.spec.model.run_id,
        stable_revision=status.stable_revision,
        stable_version=status.stable_version,
        stable_run_id=status.stable_run_id,
        baseline=list(snapshot.baseline.objectives) if snapshot.baseline else [],
    )
    changes = {
        "deployments": number,
        "deployment": deployment,
        "candidate_revision": situation.revision,
        "retiring": [item for item in status.retiring if item.revision != situation.revision],
        "objectives": [],
        "rollback": None,
        "risk": None,
    }
    begun = status.model_copy(update=changes)
    state = StepState.CLEARING if status.stable_revision else StepState.LAUNCHING
    begun = enter_step(situation, begun, 0, state)
    message = f"{identity}: model version {version}, {why}"
    return moved(situation, rule, begun, Occurrence("DeploymentStarted", message))
