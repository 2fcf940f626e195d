"""What was observed about one rollout at one moment: all that a decision may depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ops_commander.api.v1alpha1 import ModelRolloutSpec, ModelRolloutStatus, RolloutPolicySpec
from ops_commander.core.names import REVISION_LABEL

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReplicaSetView:
    """A revision's ReplicaSet and pods."""

    name: str
    revision: str
    desired: int
    current: int
    ready: int
    created_at: datetime
    model_version: str = ""
    target_port: int | None = None
    """Port that its pods serve, as it was when they were made."""
    owned: bool = False
    """Whether a deletion of the rollout takes it along."""
    restarts: int = 0
    """Container restarts of its present pods, added up."""
    trouble: str | None = None
    """Why its pods are not Ready, in the words of the kubelet or scheduler."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A Service and the ready endpoints behind it, counted by revision."""

    manifest: Manifest
    ready: Mapping[str, int] = field(default_factory=dict)

    @property
    def revision(self) -> str | None:
        selected = self.manifest.get("spec", {}).get("selector") or {}
        revision: str | None = selected.get(REVISION_LABEL)
        return revision


@dataclass(frozen=True, slots=True)
class Buckets:
    """Cumulative counts of a classic histogram over a window, edges rising, the last one infinite."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        return self.counts[-1] if self.counts else 0.0


Value = float | Buckets | None
"""What one query says of one arm; None where it has no row for it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The latest answers to one objective's queries, for both arms on the same tick."""

    at: datetime | None
    """When Prometheus answered; None before the first answer."""
    candidate: tuple[Value, ...] = ()
    stable: tuple[Value, ...] = ()
    error: str | None = None
    """Why the latest poll brought nothing."""
    fresh_at: datetime | None = None
    """When every arm that is judged last had data."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing verified before a candidate goes anywhere. `passed` is None while it is not known."""

    name: str
    passed: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One rollout with everything around it."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    deleted_at: datetime | None
    finalizers: tuple[str, ...]
    annotations: Mapping[str, str]
    spec: ModelRolloutSpec
    status: ModelRolloutStatus
    policy: RolloutPolicySpec | None
    checks: tuple[Check, ...] = ()
    replica_sets: Mapping[str, ReplicaSetView] = field(default_factory=dict)
    """By revision."""
    stable_service: ServiceView | None = None
    candidate_service: ServiceView | None = None
    route: Manifest | None = None
    has_leftover_route: bool = False
    """Whether a generated route is still there although spec refers to another one."""
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    """By objective."""
    observing_since: datetime | None = None
    """Since when this process polls metrics: evidence cannot be older."""
    stale_after: timedelta = timedelta(seconds=20)
    """Age from which an answer of Prometheus says nothing about now."""
