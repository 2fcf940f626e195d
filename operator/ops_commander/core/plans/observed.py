"""What is observed around a plan's action under way, and what may be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from ops_commander.api.action_plan import ActionPlanSpec, ActionPlanStatus
from ops_commander.api.v1alpha1 import ModelRollout, ModelRolloutSpec, ModelRolloutStatus


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan as it was read."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    spec: ActionPlanSpec
    status: ActionPlanStatus

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class RolloutView:
    """The ModelRollout of a deploy action."""

    name: str
    generation: int
    annotations: Mapping[str, str]
    spec: ModelRolloutSpec
    status: ModelRolloutStatus
    raw_spec: Mapping[str, Any]
    """As it stands in the cluster."""
    by_plans: frozenset[str] = frozenset()
    """Fields of spec that belong to the field manager of plans."""


class JobState(StrEnum):
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class JobView:
    """The Job of an action."""

    name: str
    plan_uid: str | None
    """The plan that owns it."""
    state: JobState
    message: str
    """Why it is in that state, in the words of its condition."""
    seconds: float | None = None
    """How long it took, once it has ended."""


class RunState(StrEnum):
    RUNNING = "RUNNING"
    SCHEDULED = "SCHEDULED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def is_end(self) -> bool:
        return self in (RunState.FINISHED, RunState.FAILED, RunState.KILLED)


@dataclass(frozen=True, slots=True)
class RunView:
    """An MLflow run of a plan or of one of its actions."""

    run_id: str
    state: RunState
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifact: str | None = None
    """Path of what the operator has stored with it."""
    sha256: str | None = None
    """Of its bytes."""


@dataclass(frozen=True, slots=True)
class Collected:
    """A window of metrics as Prometheus gave it."""

    metrics: Mapping[str, float]
    """By name in criteria; `coverage` is the share of the window that was seen."""
    document: Mapping[str, Any]
    """What becomes the artifact."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that the action under way needs to be decided."""

    has_mlflow: bool = False
    rollout: RolloutView | None = None
    job: JobView | None = None
    pod_template: Mapping[str, Any] | None = None
    """The PodTemplate that the action names, if there is one of that name."""
    run: RunView | None = None
    """The action's run."""
    plan_run: RunView | None = None
    model_metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the run of the model that is deployed."""
    collected: Collected | None = None
    deployed: tuple[ModelRollout, ...] = ()
    """Rollouts of the plan's deploy actions, where a report is asked for."""
    trouble: str | None = None
    """What could not be read now, and why. What is absent beside it may exist all the same."""
    refused: str | None = None
    """Why the API server or MLflow did not take what the action was to make."""


# --- effects: each may be repeated ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnsureRun:
    """An MLflow run with this tag, made where there is none."""

    marker: str
    name: str
    experiment: str
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class FinishRun:
    """Ends a run that its Job has left open."""

    run_id: str
    state: RunState


@dataclass(frozen=True, slots=True)
class Store:
    """An artifact and metrics of a run, which is finished by it."""

    run_id: str
    path: str
    content: bytes
    metrics: Mapping[str, float]
    also: Mapping[str, bytes] = field(default_factory=dict)
    """Artifacts beside it, by path."""


@dataclass(frozen=True, slots=True)
class ApplyRollout:
    """A ModelRollout, or some of its fields, by server-side apply."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AbortRollout:
    """An order to revert this deployment."""

    name: str
    deployment_id: str


@dataclass(frozen=True, slots=True)
class CreateJob:
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteJob:
    name: str


Effect = EnsureRun | FinishRun | Store | ApplyRollout | AbortRollout | CreateJob | DeleteJob


@dataclass(frozen=True, slots=True)
class Moment:
    """A plan, what is around it, and now."""

    plan: PlanView
    observed: Observed
    now: datetime
    mlflow_url: str = ""
    """As Jobs reach it."""
    begun: datetime | None = None
    """When this process began to look: what status says of evidence may be of the one before."""
