"""What `lock-diff` says: for programs, people and pull requests."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from ops_commander.api.fields import Resource
from ops_commander.integration.dependencies.families import Role
from ops_commander.integration.dependencies.model import Format
from ops_commander.integration.documents import cell, printable


class Change(StrEnum):
    """How a package of the candidate stands to that of production."""

    SAME = "same"
    BUILD = "build"
    PATCH = "patch"
    MINOR = "minor"
    MAJOR = "major"
    MISSING = "missing"
    EXTRA = "extra"
    UNPINNED = "unpinned"
    HASH_DIFFERS = "hash differs"
    ABI = "ABI"


class Severity(StrEnum):
    """A veto rejects the candidate whatever the sum is; a warning is for somebody to look at."""

    VETO = "veto"
    WARNING = "warning"


class ConflictKind(StrEnum):
    """Names of what goes wrong together."""

    CUDA_MIXED = "CudaMixed"
    CUDA_CHANGED = "CudaChanged"
    CUDA_RUNTIME = "CudaRuntime"
    TOKENIZER = "Tokenizer"
    FRAMEWORK_PICKLE = "FrameworkPickle"
    SERIALIZER = "Serializer"
    NUMPY_ABI = "NumpyAbi"
    PYTHON_ABI = "PythonAbi"
    PLATFORM = "Platform"
    HASH = "HashDiffers"
    HASH_ADDED = "HashAdded"
    UNSATISFIED = "Unsatisfied"


class PackageDiff(Resource):
    """One package on both sides, and its share in the mismatch."""

    name: str
    """Normalised name; `python` is the interpreter."""
    change: Change
    """The worst that was found."""
    baseline: str | None
    """What production has."""
    candidate: str | None
    """What the candidate has."""
    role: Role
    """What the package is to a model."""
    direct: bool | None
    """Whether the project asks for it by itself; null where no lock says."""
    weight: float
    """k: 1 for interpreter, framework, numerics, serializer, tokenizer and CUDA; else 0.5 direct, 0.1 transitive."""
    mismatch: float
    """m, by the change."""
    reason: str
    """Why, in words."""


class Conflict(Resource):
    """Something that a change does to the model."""

    kind: ConflictKind
    """Which one."""
    severity: Severity
    """Whether it rejects the candidate."""
    message: str
    """What was found and what was expected."""
    packages: list[str]
    """The packages in it."""


class LockSummary(Resource):
    """A lock that was read."""

    file: str
    """As it was named."""
    format: Format
    """Told by its content."""
    sha256: str
    """Of the file."""
    packages: int
    """How many there are for the platform."""
    complete: bool
    """Whether it names all that is installed, and not only what was asked for."""
    notes: list[str] = Field(default_factory=list)
    """What was not compared."""


class LockDiff(Resource):
    """A candidate's lock against that of production."""

    platform: str
    """For which both were read."""
    baseline: LockSummary
    """Of production."""
    candidate: LockSummary
    """Of the candidate."""
    mismatch: float
    """D = 1 − Π(1 − k·m), to four places."""
    fail_on: float
    """The candidate is not aligned above this D."""
    aligned: bool
    """No veto, and D not above the limit."""
    packages: list[PackageDiff]
    """All packages, the worst first."""
    conflicts: list[Conflict]
    """What was named, vetoes first."""

    @property
    def vetoes(self) -> list[Conflict]:
        return [conflict for conflict in self.conflicts if conflict.severity is Severity.VETO]

    @property
    def changed(self) -> list[PackageDiff]:
        return [package for package in self.packages if package.change is not Change.SAME]


def as_json(diff: LockDiff) -> str:
    return diff.model_dump_json(by_alias=True, indent=2) + "\n"


def as_text(diff: LockDiff) -> str:
    changed = diff.changed
    lines = [
        f"{diff.candidate.file} ({diff.candidate.format}) against {diff.baseline.file} ({diff.baseline.format}),"
        f" for {diff.platform}",
        f"D = {diff.mismatch:.4f}: {len(diff.packages) - len(changed)} the same, {len(changed)} differ",
    ]
    for each in changed:
        weight = f"k {each.weight:g} · m {each.mismatch:g}"
        lines.append(f"  {each.change:<12} {each.name:<28} {weight:<15} {printable(each.reason)}")
    lines += [f"{each.severity}: {each.kind}: {printable(each.message)}" for each in diff.conflicts]
    lines += [f"note: {name}: {printable(note)}" for name, note in _notes(diff)]
    return "\n".join([*lines, _end(diff)]) + "\n"


def as_markdown(diff: LockDiff) -> str:
    lines = [
        f"### Dependencies: {'aligned' if diff.aligned else 'not aligned'}, D = {diff.mismatch:.4f}",
        "",
        f"`{cell(diff.candidate.file)}` against `{cell(diff.baseline.file)}`, for {diff.platform}.",
        "",
    ]
    if diff.changed:
        lines += ["| Package | Change | Production | Candidate | k | m |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {cell(each.name)} | {each.change} | {cell(each.baseline or '')} | {cell(each.candidate or '')}"
            f" | {each.weight:g} | {each.mismatch:g} |"
            for each in diff.changed
        ]
        lines.append("")
    lines += [f"- **{each.severity}** {each.kind}: {cell(each.message)}" for each in diff.conflicts]
    lines += [f"- note, {name}: {cell(note)}" for name, note in _notes(diff)]
    return "\n".join([*lines, "", _end(diff)]) + "\n"


def _notes(diff: LockDiff) -> list[tuple[str, str]]:
    return [(name, note) for name in ("baseline", "candidate") for note in getattr(diff, name).notes]


def _end(diff: LockDiff) -> str:
    if diff.vetoes:
        return f"not aligned: vetoed by {', '.join(sorted({each.kind for each in diff.vetoes}))}"
    if not diff.aligned:
        return f"not aligned: D {diff.mismatch:.4f} is above {diff.fail_on:g}"
    return "aligned"
