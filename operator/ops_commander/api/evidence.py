"""What status keeps of a deployment's evidence in MLflow, and of what is still to be written there."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import WithJsonSchema

from ops_commander.api.fields import Resource, Time
from ops_commander.api.verification import EvidenceFile


class EvidenceRule(StrEnum):
    """Whether a promotion waits until its evidence is in MLflow. A revert never does."""

    REQUIRED = "Required"
    BEST_EFFORT = "BestEffort"


class AliasState(StrEnum):
    """What became of an alias of the registered model."""

    MOVED = "Moved"
    RESTORED = "Restored"
    KEPT = "Kept"
    REFUSED = "Refused"


class AliasStatus(Resource):
    """An alias of the registered model at the end of a deployment."""

    model: str
    """The registered model."""
    alias: str
    """The alias, from `spec.model.promotedAlias`."""
    state: AliasState
    """Moved to the new version, Restored to the stable one, Kept as somebody else has set it, or Refused by MLflow."""
    version: str | None = None
    """The version that it points to; absent where it points to none."""
    previous: str | None = None
    """The version that it pointed to before."""
    message: str = ""
    """In a sentence."""
    at: Time
    """When that was done or seen."""


class EvidenceStatus(Resource):
    """What MLflow has of a deployment."""

    run_id: str | None = None
    """The deployment's own MLflow run."""
    landmark: str = ""
    """How far the deployment had come when it was last written: each step left, each verdict and its end is one."""
    digest: str = ""
    """sha256 of `deployment.json` as it was last written."""
    written_at: Time | None = None
    """When it was last written in full."""
    is_complete: bool = False
    """Whether the end of the deployment was written too."""
    files: list[EvidenceFile] = []
    """Artifacts of the run."""
    alias: AliasStatus | None = None
    """What became of `spec.model.promotedAlias`; absent where there was nothing to do."""
    error: str | None = None
    """Why the latest attempt to write failed; it is tried again."""


class OutboxEntry(Resource):
    """A deployment that has ended, and whose evidence is not complete in MLflow yet."""

    deployment_id: str
    """The deployment."""
    ended_at: Time
    """When it ended."""
    evidence: EvidenceStatus = EvidenceStatus()
    """What MLflow has of it."""
    rollout: Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
    """The ModelRollout as it was then: of its pod template names and images of the containers alone."""
