"""What a check of an artifact says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from pydantic import Field

from ops_commander.api.fields import Resource, Time
from ops_commander.integration.documents import printable

MAX_FINDINGS: Final = 500


class Severity(StrEnum):
    """Refused: the artifact may not be used. Warning: somebody must look at it. Info: worth knowing."""

    INFO = "info"
    WARNING = "warning"
    REFUSED = "refused"


class Format(StrEnum):
    """Told by content. `raw` is only ever declared: bytes that nothing but their checksum speaks for."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    GGUF = "gguf"
    NPY = "npy"
    NPZ = "npz"
    JSON = "json"
    HDF5 = "hdf5"
    KERAS = "keras"
    PICKLE = "pickle"
    PYTORCH = "pytorch"
    TORCHSCRIPT = "torchscript"
    ZIP = "zip"
    RAW = "raw"
    UNKNOWN = "unknown"


class Trust(StrEnum):
    """Of an import that a pickle asks for."""

    ALLOWED = "allowed"
    SUSPICIOUS = "suspicious"
    DANGEROUS = "dangerous"


class Finding(Resource):
    """One thing that was found."""

    kind: str
    """What it is, in CamelCase."""
    severity: Severity
    """Whether it refuses the artifact."""
    message: str
    """What was found and what was expected."""
    offset: int | None = None
    """Bytes from the start of the file, or of the entry that the message names."""


class Import(Resource):
    """A name that a pickle imports when it is loaded."""

    module: str
    """As the pickle says it."""
    name: str
    """The attribute, which may be dotted."""
    trust: Trust
    """Allowed ones rebuild numbers; dangerous ones run commands, code or further pickles."""
    offset: int
    """Of the opcode."""


class TensorInfo(Resource):
    """An input or an output of a graph."""

    name: str
    """As the graph says it."""
    dtype: str
    """Of its elements."""
    shape: list[int | str]
    """A text is a dimension that varies."""


class Tensors(Resource):
    """Sums over all tensors."""

    count: int = 0
    """How many there are."""
    parameters: int = 0
    """Elements of all together."""
    bytes: int = 0
    """Their size in the file, and in files beside it."""
    dtypes: dict[str, int] = Field(default_factory=dict)
    """Tensors by type."""
    nan: int | None = None
    """Elements that are no number; null where they were not counted."""
    infinite: int | None = None
    """Elements that are infinite; null where they were not counted."""
    inputs: list[TensorInfo] = Field(default_factory=list)
    """Of a graph."""
    outputs: list[TensorInfo] = Field(default_factory=list)
    """Of a graph."""


class ArtifactReport(Resource):
    """One artifact, described without being loaded."""

    path: str
    """As it was named."""
    format: Format
    """Told by its content."""
    size: int
    """In bytes."""
    sha256: str
    """Of all bytes."""
    modified: Time | None = None
    """When the file was last written."""
    tensors: Tensors | None = None
    """For formats that say so."""
    imports: list[Import] = Field(default_factory=list)
    """For formats with pickles in them."""
    external: list[str] = Field(default_factory=list)
    """Files beside it that it reads its weights from."""
    details: dict[str, str] = Field(default_factory=dict)
    """What the format says of itself, as its version."""
    findings: list[Finding] = Field(default_factory=list)
    """The worst first."""

    @property
    def refused(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity is Severity.REFUSED]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity is Severity.WARNING]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of an artifact. All that is not allowed is refused."""

    sha256: str | None = None
    format: Format | None = None
    max_age: timedelta | None = None
    allow_pickle: bool = False
    allow_imports: tuple[str, ...] = ()
    """Patterns as `sklearn.*`, for imports that are not known; dangerous ones stay refused."""
    count_non_finite: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds memory and time."""

    header: int = 100_000_000
    values: int = 5_000_000
    """Opcodes, fields or structural characters of one artifact."""
    entries: int = 100_000
    unpacked: int = 4 * 1024**3
    ratio: int = 200


class Malformed(Exception):
    """The artifact is not what its format asks for; what was found until then still counts."""

    def __init__(self, kind: str, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.offset = kind, message, offset


@dataclass
class Notes:
    """What one look at an artifact collects."""

    policy: Policy = field(default_factory=Policy)
    limits: Limits = field(default_factory=Limits)
    findings: list[Finding] = field(default_factory=list)
    imports: dict[tuple[str, str], Import] = field(default_factory=dict)
    external: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    tensors: Tensors | None = None
    pickles: int = 0
    spent: int = 0
    unpacked: int = 0

    def info(self, kind: str, message: str, offset: int | None = None) -> None:
        self._add(Severity.INFO, kind, message, offset)

    def warn(self, kind: str, message: str, offset: int | None = None) -> None:
        self._add(Severity.WARNING, kind, message, offset)

    def refuse(self, kind: str, message: str, offset: int | None = None) -> None:
        self._add(Severity.REFUSED, kind, message, offset)

    def malformed(self, error: Malformed, where: str = "") -> None:
        self.refuse(error.kind, f"{where}: {error.message}" if where else error.message, error.offset)

    def spend(self, amount: int = 1, offset: int | None = None) -> None:
        """Counts work. Raises Malformed at the limit."""
        self.spent += amount
        if self.spent > self.limits.values:
            raise Malformed("TooLarge", f"more than {self.limits.values} values: expected fewer", offset)

    def _add(self, severity: Severity, kind: str, message: str, offset: int | None) -> None:
        finding = Finding(kind=kind, severity=severity, message=printable(message, 500), offset=offset)
        if finding in self.findings:
            return
        if len(self.findings) < MAX_FINDINGS or (
            severity is Severity.REFUSED and len(self.findings) < 2 * MAX_FINDINGS
        ):
            self.findings.append(finding)
