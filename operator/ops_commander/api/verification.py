"""What was verified of a candidate before any of its pods, as status keeps it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ops_commander.api.fields import Resource, Time
from ops_commander.api.risk import Verdict


class Waiver(Resource):
    """A declared major version that may break the API."""

    version: Annotated[str, Field(min_length=1, max_length=63)]
    """The model's version that it is for; it says nothing of another one."""
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    """How callers are brought over."""


class VerifiedComponent(Resource):
    """One part of a candidate, and what was found."""

    name: str
    """`identity`, `schema`, `lockfile`, `config`, `checkpoints[0]`, `tests`, `evidence` or `risk`; `files` where they
    cannot be read."""
    verdict: Verdict
    """Safe, ShadowOnly or Reject."""
    message: str
    """The gravest finding, in a sentence."""


class VerifiedFile(Resource):
    """A file of the model as it was verified; it must stay so until the deployment has ended."""

    path: str
    """Path below the run's artifacts, or `runs:/<run>/<path>` for a file of another run."""
    sha256: str
    """Of all bytes."""
    size: int
    """Bytes."""


class EvidenceFile(Resource):
    """An artifact in MLflow that proves something."""

    run_id: str
    """The run that has it."""
    path: str
    """Its path below the run's artifacts."""
    sha256: str
    """Of all bytes."""
    written_at: Time
    """When it was written."""


class VerificationStatus(Resource):
    """What was found of the wanted version's files: the same as `ops-commander preflight` finds."""

    revision: str
    """The revision that was verified."""
    verdict: Verdict
    """The worst of all components."""
    reason: str
    """Why, in one word: Verified, or the kind of the first veto."""
    message: str
    """Why, in a sentence."""
    model_version: str
    """Version of the registered model; an alias is resolved to it once."""
    run_id: str
    """MLflow run whose artifacts were read."""
    manifest_sha256: str
    """Of the candidate's manifest."""
    components: list[VerifiedComponent] = []
    """Each part of the candidate."""
    vetoes: list[str] = []
    """What rejects it whatever the risk is: kind and finding."""
    schema_drift: float | None = None
    """S: 0 no change of the API, 1 a breaking one."""
    dependency_mismatch: float | None = None
    """D: 0 the locked dependencies of production, 1 an incompatible one."""
    latency_upper_ms: float | None = None
    """Upper bound of the change of the P95 that the manifest states."""
    baseline_p95_ms: float | None = None
    """P95 of the baseline that the manifest states."""
    output_upper: float | None = None
    """Upper bound of the deviation of outputs that the manifest states."""
    files: list[VerifiedFile] = []
    """Files that are pinned: read again before every step."""
    evidence: list[EvidenceFile] = []
    """Reports that were written."""
    asked: str = ""
    """Digest of what `spec.preflight` asked to be verified."""
    checked_at: Time
    """When."""
