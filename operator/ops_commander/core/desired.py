"""What the cluster should look like for a status, and the actions that bring it there.

Order matters: traffic before pods. Actions that take traffic off a candidate are urgent: they are carried
out before the commit of status, never behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ops_commander.api.v1alpha1 import DeletionPolicy, ModelRolloutStatus, StepState, TrafficStatus
from ops_commander.core import candidate_tests, comparers, manifests, names, routes
from ops_commander.core.reverts import scales_down_at
from ops_commander.core.routes import ALL_STABLE, Split
from ops_commander.core.situation import PROMOTING, SETTLE, STEP_STATES, Situation
from ops_commander.core.snapshot import Manifest, ReplicaSetView, ServiceView, Snapshot


@dataclass(frozen=True)
class SteerRoute:
    """Replace the rules of an HTTPRoute as it was read: a referenced one, or one whose whole is refused."""

    name: str
    rules: list[dict[str, Any]]
    resource_version: str


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a whole object."""

    manifest: Manifest
    otherwise: SteerRoute | None = None
    """What to do where the API server refuses the object: take the traffic, if nothing else."""


@dataclass(frozen=True)
class Scale:
    """Set a ReplicaSet's size."""

    name: str
    replicas: int


@dataclass(frozen=True)
class Delete:
    """Delete an object; one that is gone already is fine."""

    kind: str
    name: str


@dataclass(frozen=True)
class SetOwner:
    """Let a deletion of the rollout take a ReplicaSet along, or spare it."""

    name: str
    owner_references: list[dict[str, Any]]


@dataclass(frozen=True)
class SetFinalizers:
    """Replace the rollout's own finalizers."""

    finalizers: tuple[str, ...]


@dataclass(frozen=True)
class NoteVote:
    """Tell a voter whether their vote counts."""

    name: str
    uid: str
    counted: bool
    reason: str
    message: str


Action = NoteVote | Apply | Scale | SteerRoute | Delete | SetOwner | SetFinalizers


def wanted_split(situation: Situation, status: ModelRolloutStatus) -> Split:
    """The split that belongs to a status."""
    step = status.step
    if step is None or status.stable_revision is None:
        return ALL_STABLE
    steps = situation.snapshot.spec.steps
    if step.state in STEP_STATES:
        return Split.of_step(steps[min(step.index, len(steps) - 1)])
    if step.state is StepState.PREPARING and status.traffic is not None:  # as it is, until the pods are there
        return Split.of(status.traffic)
    return Split(100) if step.state is StepState.SWITCHING else ALL_STABLE


def with_traffic(situation: Situation, status: ModelRolloutStatus) -> ModelRolloutStatus:
    """Status with the split it wants; a changed split has yet to be confirmed."""
    if status.stable_revision is None and not (status.step and status.step.capacity_at):
        return status.model_copy(update={"traffic": None})
    split = wanted_split(situation, status)
    if status.traffic and Split.of(status.traffic) == split:
        return status
    traffic = TrafficStatus(
        candidate_weight=split.candidate_weight,
        mirror_percent=split.mirror_percent,
        compare_percent=split.compare_percent,
        wanted_since=situation.now,
    )
    return status.model_copy(update={"traffic": traffic})


def service_revisions(status: ModelRolloutStatus) -> tuple[str | None, str | None]:
    """Revisions that the stable and the candidate Service select.

    Outside of a deployment both select stable: a stray weight on the candidate then fails nothing.
    """
    stable, candidate, step = status.stable_revision, status.candidate_revision, status.step
    if step is None:
        return stable, stable
    if step.state is StepState.LAUNCHING:
        return candidate, candidate
    if step.state in (StepState.CLEARING, StepState.REVERTING):
        return stable, stable
    if step.state in PROMOTING:
        return candidate, candidate
    return stable, candidate


def replicas_of(situation: Situation, status: ModelRolloutStatus, view: ReplicaSetView | None, revision: str) -> int:
    """Wanted size of a revision's ReplicaSet."""
    snapshot, step = situation.snapshot, status.step
    present = view.desired if view else 0
    if revision == status.stable_revision:
        return snapshot.spec.replicas
    if revision == status.candidate_revision and step is not None:
        if step.state is StepState.LAUNCHING or step.state in PROMOTING:
            return snapshot.spec.replicas
        if step.state is StepState.CLEARING:
            return present
        if step.state is StepState.REVERTING:
            is_due = status.rollback is not None and situation.now >= scales_down_at(snapshot.spec, status.rollback)
            return 0 if is_due else present
        return situation.needed_replicas(min(step.index, len(snapshot.spec.steps) - 1))
    for item in status.retiring:
        if item.revision == revision:
            drained = item.unreferenced_at and situation.now >= item.unreferenced_at + snapshot.spec.drain
            return 0 if drained else present
    return present


def actions_for(situation: Situation, status: ModelRolloutStatus) -> tuple[list[Action], list[Action]]:
    """Urgent actions and the others, each only where what is there differs from what is wanted."""
    snapshot = situation.snapshot
    stable, candidate = service_revisions(status)
    route = _route_actions(situation, status)
    services = [
        *_service_action(snapshot, snapshot.stable_service, names.stable_service_name(snapshot.name), stable),
        *_service_action(snapshot, snapshot.candidate_service, names.candidate_service_name(snapshot.name), candidate),
    ]
    pods = _replica_set_actions(situation, status)
    after = Situation(replace(snapshot, status=status), situation.now)
    services.extend(Apply(manifest) for manifest in comparers.missing(after))
    pods.extend(Delete(kind, name) for kind, name in comparers.leftovers(after))
    if _takes_traffic_off(status):
        return [*route, *services], pods
    if status.step and status.step.state is StepState.SHIFTING:
        return [], [*services, *pods, *route]
    return [], [*services, *route, *pods]


def _takes_traffic_off(status: ModelRolloutStatus) -> bool:
    return status.step is not None and status.step.state in (StepState.REVERTING, StepState.HELD)


def _route_actions(situation: Situation, status: ModelRolloutStatus) -> list[Action]:
    snapshot, traffic = situation.snapshot, status.traffic
    if traffic is None:
        return []
    split = Split.of(traffic)
    if routes.is_as_wanted(snapshot, split):
        return []
    return steer(snapshot, split)


def steer(snapshot: Snapshot, split: Split, *, with_candidate: bool = True) -> list[Action]:
    """The write that gives the route a split."""
    by_rules: SteerRoute | None = None
    if snapshot.route is not None:
        rules = routes.steered_rules(snapshot, split, with_candidate=with_candidate)
        version = snapshot.route["metadata"]["resourceVersion"]
        by_rules = SteerRoute(routes.route_name(snapshot), rules, version)
    if routes.is_generated(snapshot):
        return [Apply(routes.wanted_route(snapshot, split, with_candidate=with_candidate), by_rules)]
    return [by_rules] if by_rules else []


def _service_action(snapshot: Snapshot, view: ServiceView | None, name: str, revision: str | None) -> list[Action]:
    if revision is None:
        return []
    wanted = manifests.service(snapshot, name, revision)
    if view is not None and manifests.is_up_to_date(snapshot, view.manifest, wanted):
        return []
    return [Apply(wanted)]


def _replica_set_actions(situation: Situation, status: ModelRolloutStatus) -> list[Action]:
    snapshot = situation.snapshot
    actions: list[Action] = []
    wanted = {revision for revision in (status.stable_revision, status.candidate_revision) if revision}
    for revision in sorted(wanted | set(snapshot.replica_sets)):
        view = snapshot.replica_sets.get(revision)
        replicas = replicas_of(situation, status, view, revision)
        if view is None:
            starts = status.step is not None and status.step.state in (StepState.LAUNCHING, StepState.PREPARING)
            if revision == situation.revision and (replicas or starts):
                identity = status.deployment.id if status.deployment else ""
                actions.append(Apply(manifests.replica_set(snapshot, revision, replicas, identity)))
        elif view.desired != replicas:
            actions.append(Scale(view.name, replicas))
        if view is not None and view.owned != bool(manifests.owner_references(snapshot)):
            actions.append(SetOwner(view.name, manifests.owner_references(snapshot)))
    actions.extend(Apply(job) for job in candidate_tests.missing(replace(snapshot, status=status), situation.now))
    actions.extend(Delete("Job", name) for name in candidate_tests.abandoned(replace(snapshot, status=status)))
    if snapshot.has_leftover_route and situation.is_confirmed:
        actions.append(Delete("HTTPRoute", snapshot.name))
    return [*actions, *_forgotten(snapshot, status)]


def _forgotten(snapshot: Snapshot, status: ModelRolloutStatus) -> list[Action]:
    """Old ReplicaSets beyond the history limit, oldest first."""
    kept = {status.stable_revision, status.candidate_revision, *(item.revision for item in status.retiring)}
    old = [view for view in snapshot.replica_sets.values() if view.revision not in kept and view.is_empty]
    old.sort(key=lambda view: view.created_at, reverse=True)
    return [Delete("ReplicaSet", view.name) for view in old[snapshot.spec.revision_history_limit :]]


def removal_actions(situation: Situation) -> list[Action]:
    """A deleted rollout leaves the stable version serving and cleans the rest, or takes all along.

    Ends with the finalizer's removal once nothing else is left to do.
    """
    snapshot = situation.snapshot
    if snapshot.spec.deletion_policy is DeletionPolicy.DELETE_ALL:
        return _remove_all(snapshot)
    stable = snapshot.status.stable_revision
    if stable is None or stable not in snapshot.replica_sets:
        return _remove_all(snapshot)
    if snapshot.route is not None and not routes.has_split(snapshot, ALL_STABLE, with_candidate=False):
        return steer(snapshot, ALL_STABLE, with_candidate=False)
    if not _route_left(situation):
        return []
    switched: list[Action] = []
    if snapshot.stable_service is not None:
        name = names.stable_service_name(snapshot.name)
        switched = _service_action(snapshot, snapshot.stable_service, name, stable)
    leftovers: list[Action] = [
        Delete("ReplicaSet", view.name) for view in snapshot.replica_sets.values() if view.revision != stable
    ]
    if snapshot.candidate_service is not None:
        leftovers.append(Delete("Service", names.candidate_service_name(snapshot.name)))
    return [*switched, *leftovers] or [_release(snapshot)]


def _route_left(situation: Situation) -> bool:
    """Whether the router is off the candidate, or has had long enough to be."""
    deleted_at = situation.snapshot.deleted_at
    assert deleted_at is not None
    waited = situation.now - deleted_at
    if situation.snapshot.route is None or waited > SETTLE * 30:
        return True
    return routes.is_observed(situation.snapshot.route) and waited > SETTLE * 2


def _remove_all(snapshot: Snapshot) -> list[Action]:
    actions: list[Action] = []
    if snapshot.route is not None and routes.is_generated(snapshot):
        actions.append(Delete("HTTPRoute", snapshot.name))
    if snapshot.stable_service is not None:
        actions.append(Delete("Service", names.stable_service_name(snapshot.name)))
    if snapshot.candidate_service is not None:
        actions.append(Delete("Service", names.candidate_service_name(snapshot.name)))
    actions.extend(Delete("ReplicaSet", view.name) for view in snapshot.replica_sets.values())
    return actions or [_release(snapshot)]


def _release(snapshot: Snapshot) -> Action:
    return SetFinalizers(tuple(item for item in snapshot.finalizers if item != names.FINALIZER))
