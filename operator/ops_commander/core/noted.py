"""What a snapshot adds to status before any rule is asked: confirmations, adoptions, retirements."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import ModelRolloutStatus, RetiringStatus, TrafficStatus
from ops_commander.core import candidate_tests, evidence_kept, routes
from ops_commander.core.changes import Occurrence
from ops_commander.core.routes import ALL_STABLE, Split
from ops_commander.core.situation import Situation
from ops_commander.core.snapshot import Snapshot


def noted(snapshot: Snapshot, now: datetime) -> tuple[Snapshot, tuple[Occurrence, ...]]:
    """The snapshot with status brought up to what was observed, and what is worth telling of it."""
    adopted, adoption = _adopted(snapshot)
    traffic, drift = _traffic(adopted, now)
    current = replace(adopted, status=adopted.status.model_copy(update={"traffic": traffic}))
    status = current.status.model_copy(update={"retiring": _retiring(Situation(current, now))})
    status, checked = _verified(current, status)
    status, kept = evidence_kept.noted(current, _tested(current, status))
    return replace(current, status=status), (*adoption, *drift, *checked, *kept)


def _verified(snapshot: Snapshot, status: ModelRolloutStatus) -> tuple[ModelRolloutStatus, tuple[Occurrence, ...]]:
    """What was found of the files is kept with the rollout: it is not read again after a restart."""
    found = snapshot.verified.found if snapshot.verified else None
    if found is None or found == status.verification:
        return status, ()
    is_bad = found.verdict is RiskVerdict.REJECT
    occurrence = Occurrence("VerificationFailed" if is_bad else "Verified", found.message, warning=is_bad)
    return status.model_copy(update={"verification": found}), (occurrence,)


def _tested(snapshot: Snapshot, status: ModelRolloutStatus) -> ModelRolloutStatus:
    """The tests of a deployment under way, as their Jobs stand."""
    if status.deployment is None or not candidate_tests.are_asked_for(status):
        return status
    deployment = status.deployment.model_copy(update={"tests": candidate_tests.rows(snapshot)})
    return status.model_copy(update={"deployment": deployment})


def _adopted(snapshot: Snapshot) -> tuple[Snapshot, tuple[Occurrence, ...]]:
    """A stable version that an earlier ModelRollout of this name has left serving is taken over."""
    status, service = snapshot.status, snapshot.stable_service
    if status.stable_revision or status.deployment or service is None or service.revision is None:
        return snapshot, ()
    view = snapshot.replica_sets.get(service.revision)
    if view is None or not view.ready:
        return snapshot, ()
    changes = {"stable_revision": view.revision, "stable_version": view.model_version}
    message = f"ReplicaSet {view.name} is serving already: taken over as the stable version"
    taken = replace(snapshot, status=status.model_copy(update=changes))
    return taken, (Occurrence("Adopted", message),)


def _traffic(snapshot: Snapshot, now: datetime) -> tuple[TrafficStatus | None, tuple[Occurrence, ...]]:
    """Confirm a wanted split when the router was seen to have it; take that back when the route has drifted."""
    traffic = snapshot.status.traffic
    if traffic is None:
        return None, ()
    split = Split.of(traffic)
    if routes.has_split(snapshot, split):
        confirmed_at = traffic.confirmed_at or (now if _is_taken(snapshot, split) else None)
        return traffic.model_copy(update={"confirmed_at": confirmed_at}), ()
    if traffic.confirmed_at is None:
        return traffic, ()
    message = f"route {routes.route_name(snapshot)} no longer says {split}: it is written again"
    lost = traffic.model_copy(update={"confirmed_at": None, "wanted_since": now})
    return lost, (Occurrence("RouteDrift", message, warning=True),)


def _is_taken(snapshot: Snapshot, split: Split) -> bool:
    """Going back to stable needs the router to have seen the route, any other way also its consent."""
    if not routes.is_observed(snapshot.route):
        return False
    goes_back = split == ALL_STABLE and snapshot.status.stable_revision is not None
    return goes_back or not routes.is_refused(snapshot.route)


def _retiring(situation: Situation) -> list[RetiringStatus]:
    """Revisions on their way out, strays included, each with since when it can get no request."""
    snapshot = situation.snapshot
    active = {snapshot.status.stable_revision, snapshot.status.candidate_revision}
    since = {item.revision: item.unreferenced_at for item in snapshot.status.retiring}
    leaving = []
    for revision, view in sorted(snapshot.replica_sets.items()):
        if revision in active or view.is_empty:
            continue
        unreferenced_at = since.get(revision) or _unreferenced_at(situation, revision)
        leaving.append(RetiringStatus(revision=revision, unreferenced_at=unreferenced_at))
    return leaving


def _unreferenced_at(situation: Situation, revision: str) -> datetime | None:
    snapshot: Snapshot = situation.snapshot
    selected = {view.revision for view in (snapshot.stable_service, snapshot.candidate_service) if view}
    status: ModelRolloutStatus = snapshot.status
    if revision in selected or (status.traffic is not None and not situation.is_settled):
        return None
    return situation.now
