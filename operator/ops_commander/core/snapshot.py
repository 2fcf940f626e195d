"""What was observed about one rollout at one moment: all that a decision may depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ops_commander.api.evidence import EvidenceStatus
from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.api.v1alpha1 import BaselineStatus, ModelRolloutSpec, ModelRolloutStatus, TestState
from ops_commander.api.verification import EvidenceFile, VerificationStatus
from ops_commander.api.vote import Vote
from ops_commander.core.names import REVISION_LABEL, revision_of
from ops_commander.core.tally import NOTHING, Tally

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

    @property
    def is_empty(self) -> bool:
        """Whether it neither has pods nor is to have any."""
        return not self.desired and not self.current


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
class Evidence:
    """What Prometheus has said of one objective since the present split was confirmed."""

    tally: Tally = NOTHING
    origin: datetime | None = None
    """From which tick on requests count."""
    seen_at: datetime | None = None
    """The latest tick that was answered, with or without rows."""
    fresh_at: datetime | None = None
    """The latest tick at which every arm that is judged had rows."""
    error: str | None = None
    """Why the latest tick brought nothing, or could not be counted."""
    source: str | None = None
    """The Prometheus server that was asked."""
    ahead: Ahead | None = None
    """What is known besides the tally, while the ticks between both are still being read."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """The latest ticks, counted by themselves: after a restart they are known before the history of the step is."""

    tally: Tally
    after: int
    """Ticks that the step had before them."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """An MLflow run as objectives read it."""

    run_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Latest value of each metric."""
    artifacts: frozenset[str] = frozenset()
    """Paths that were asked for and exist."""
    artifact_uri: str = ""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the stable version showed before the deployment, or why that is not known."""

    objectives: tuple[BaselineStatus, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What the verification of files has brought so far; all None while it is under way."""

    found: VerificationStatus | None = None
    error: str | None = None
    """Why it could not be done; it is tried again."""
    unchanged: bool | None = None
    """Whether the pinned files are still as they were, when that was asked before a step."""
    problems: tuple[str, ...] = ()
    """What is not as it was."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A Job that tests the candidate."""

    name: str
    state: TestState
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    log: EvidenceFile | None = None
    """What its pod said, once it is kept."""


@dataclass(frozen=True, slots=True)
class ComparerView:
    """The comparer's ReplicaSets by name, and its Service; either may be absent."""

    replica_sets: tuple[str, ...] = ()
    has_service: bool = False
    is_ready: bool = False


@dataclass(frozen=True, slots=True)
class Installation:
    """What the operator's own installation gives to rollouts."""

    image: str = ""
    """Its image, which the comparer runs from too; empty where it is not known."""
    image_pull_policy: str = "IfNotPresent"
    mlflow_url: str = ""
    """Empty: runs are neither verified nor written to."""


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
    """By objective that Prometheus answers."""
    runs: Mapping[str, RunRecord] = field(default_factory=dict)
    """By run id: those that objectives read, as far as MLflow has answered."""
    baseline: Baseline | None = None
    """Asked for before a deployment starts; None where it was not."""
    verified: Verified | None = None
    """Files of the model; None where nothing was asked."""
    test_jobs: Mapping[str, JobView] = field(default_factory=dict)
    """By name of the Job: those of the deployment under way."""
    comparer: ComparerView | None = None
    """The comparer as it is in the cluster."""
    votes: tuple[Vote, ...] = ()
    """Votes on the rollout, where the policy lets others than the operator cast one."""
    installation: Installation = Installation()
    written: Mapping[str, EvidenceStatus] = field(default_factory=dict)
    """By deployment id: what this process has written to MLflow, or why it could not."""
    interval: timedelta = timedelta(seconds=5)
    """Time between ticks."""
    observing_since: datetime | None = None
    """Since when this process polls metrics: evidence cannot be older."""
    stale_after: timedelta = timedelta(seconds=20)
    """Age from which an answer of Prometheus says nothing about now."""

    @property
    def wanted_run_id(self) -> str | None:
        """The MLflow run of the wanted version: as spec names it, or as its verification has found it."""
        found = self.verification_of(revision_of(self.spec))
        return self.spec.model.run_id or (found.run_id if found else None)

    def verification_of(self, revision: str | None) -> VerificationStatus | None:
        """What was found of a revision's files, freshly or before."""
        fresh = self.verified.found if self.verified else None
        found = fresh or self.status.verification
        return found if found and found.revision == revision else None
