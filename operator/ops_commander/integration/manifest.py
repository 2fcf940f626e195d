"""`candidate_manifest.yaml`: what a candidate is, and what speaks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from ops_commander.api.fields import PositiveDuration, Resource, Time
from ops_commander.integration.artifacts.findings import Format
from ops_commander.integration.documents import BadInput, Document, Place, inside, load_yaml, read_text

API_VERSION: Final = "ops-commander.dev/candidate-manifest/v1"
MAX_BYTES: Final = 512 * 1024

_PRINTABLE: Final = "^[^\\x00-\\x1f\\x7f]+$"

Name = Annotated[str, Field(pattern=_PRINTABLE, max_length=253)]
PathText = Annotated[str, Field(pattern=_PRINTABLE, max_length=1024)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]
Uri = Annotated[str, Field(pattern="^[a-z][a-z0-9+.-]*:[^\\s]+$", max_length=2048)]
Pattern = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_.]*(\\.\\*)?$", max_length=253)]


class Strict(Resource):
    """Base of the manifest: a field that is not known is a typing error, and is named."""

    model_config = ConfigDict(extra="forbid")


class Model(Strict):
    """Which version of which model, and the run that made it."""

    name: Name
    """Name of the registered model."""
    version: Name
    """Its version, as text."""
    run_id: Name
    """MLflow run that made it."""


class SchemaPair(Strict):
    """What callers rely on, and what they would meet."""

    baseline: PathText
    """API schema that production has."""
    candidate: PathText
    """API schema of the candidate."""


class LockPair(Strict):
    """What production is installed with, and what the candidate is."""

    production: PathText
    """Lock of the running image: uv.lock, pylock.toml, requirements.txt, pip inspect JSON or conda.yaml."""
    candidate: PathText
    """Lock of the candidate, in any of these formats."""


class Config(Strict):
    """The candidate's config, and its checksum in the registry."""

    path: PathText
    """JSON, YAML or any other file."""
    sha256: Sha256
    """Of its bytes, or of its canonical JSON."""


class _Reference(Strict):
    path: PathText | None = None
    """Relative to the manifest, and in its folder."""
    uri: Uri | None = None
    """Where it is fetched from, if it is not beside the manifest."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.uri is None):
            raise ValueError("has path and uri, or neither: expected one of path and uri")
        return self

    @property
    def name(self) -> str:
        return self.path or self.uri or ""


class Checkpoint(_Reference):
    """Weights, and how far they are trusted."""

    sha256: Sha256
    """Of all bytes."""
    max_age: PositiveDuration | None = None
    """How old it may be; unset: any age."""
    created_at: Time | None = None
    """When it was written; unset: the last change of the file."""
    format: Format | None = None
    """What it should be; unset: any format that is allowed."""
    allow_pickle: bool = False
    """Take formats that can run code when they are loaded, if no import in them is dangerous."""
    allow_imports: Annotated[list[Pattern], Field(max_length=100)] = Field(default_factory=list)
    """Imports of a pickle that somebody vouches for, as `sklearn.*`."""
    count_non_finite: bool = False
    """Read all values of safetensors, and refuse NaN and infinity."""


class Test(Strict):
    """A test that was run on this candidate."""

    __test__ = False

    name: Name
    """What it tested."""
    passed: bool
    """Whether it passed."""
    evidence: PathText | None = None
    """Its report, relative to the manifest."""
    sha256: Sha256 | None = None
    """Of the report."""


class Evidence(_Reference):
    """Something that speaks for the candidate."""

    run_id: Name
    """The run that made it."""
    sha256: Sha256 | None = None
    """Of all bytes."""
    max_age: PositiveDuration | None = None
    """How old it may be; unset: any age."""


class Latency(Strict):
    """Change of the P95, measured before: its upper bound counts."""

    upper_ms: Annotated[float, Field(allow_inf_nan=False)]
    """Upper bound of the CI95 of P95 candidate − P95 baseline."""
    baseline_p95_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """P95 of the baseline."""
    run_id: Name
    """The run that measured it."""


class Output(Strict):
    """Deviation of outputs on the same requests, measured before: its upper bound counts."""

    upper: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Upper bound of the CI95 of the mean deviation of a pair."""
    run_id: Name
    """The run that measured it."""


class Measured(Strict):
    """Parts of the risk that only requests can tell. What is not stated counts as 1."""

    latency: Latency | None = None
    """Change of the P95."""
    output: Output | None = None
    """Deviation of outputs."""


class CandidateManifest(Strict):
    """What a candidate is, and what speaks for it. Paths are relative to this file and stay in its folder."""

    model_config = ConfigDict(title="candidate_manifest")

    api_version: Literal["ops-commander.dev/candidate-manifest/v1"] = API_VERSION
    """Version of this file's form."""
    model: Model
    """Which version of which model."""
    schemas: Annotated[SchemaPair, Field(alias="schema")]
    """API schemas."""
    lockfile: LockPair
    """Locks of dependencies."""
    config: Config
    """Config of the candidate."""
    checkpoints: Annotated[list[Checkpoint], Field(min_length=1, max_length=1000)]
    """All files with weights."""
    tests: Annotated[list[Test], Field(max_length=1000)] = Field(default_factory=list)
    """Tests that were run on this candidate: without one it goes nowhere, unless Jobs of the cluster test it."""
    evidence: Annotated[list[Evidence], Field(max_length=1000)] = Field(default_factory=list)
    """What else speaks for it."""
    measured: Measured = Field(default_factory=Measured)
    """What was measured before."""


def read_manifest(path: Path, name: str | None = None) -> tuple[CandidateManifest, Document, str]:
    """The manifest, where each of its values stands, and the sha256 of its bytes; `name` is what messages call it.

    Raises BadInput.
    """
    text = read_text(path, MAX_BYTES, name)
    document = load_yaml(text.text, text.file)
    if not isinstance(document.value, dict):
        raise BadInput(text.file, document.position(()), "is no mapping", f"the fields {_names()}")
    try:
        manifest = CandidateManifest.model_validate(document.value)
    except ValidationError as error:
        raise _bad_input(text.file, document, error) from error
    return manifest, document, text.sha256


def resolve(path: Path, document: Document, place: Place, reference: str, name: str | None = None) -> Path:
    """The file that the manifest names. Raises BadInput where it is not in the manifest's folder."""
    return inside(path.parent, reference, name or str(path), document.position(place))


def _names() -> str:
    return ", ".join(field.alias or name for name, field in CandidateManifest.model_fields.items())


def _bad_input(file: str, document: Document, error: ValidationError) -> BadInput:
    """The first error; how many others there are."""
    errors = error.errors(include_url=False)
    first = errors[0]
    place: Place = tuple(first["loc"])
    problem, expected = _said(first)
    more = f" ({len(errors) - 1} more after it)" if len(errors) > 1 else ""
    return BadInput(file, document.position(place), problem, f"{expected}{more}")


def _said(error: Any) -> tuple[str, str]:
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return "is missing", "a value"
    if kind == "extra_forbidden":
        return "is not a field", "one of the fields of the reference"
    problem, found, expected = message.partition(": expected ")
    if found:
        return problem, expected
    return f"is {str(error['input'])[:100]!r}", message[:1].lower() + message[1:]
