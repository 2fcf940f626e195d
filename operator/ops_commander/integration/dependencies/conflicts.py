"""Conflicts by name: what a change of versions does to a model. Vetoes: another CUDA family, other bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ops_commander.integration.dependencies import hashes
from ops_commander.integration.dependencies.families import (
    PICKLE_FRAMEWORKS,
    TOKENIZERS,
    Role,
    cuda_families,
    runs_on_accelerators,
)
from ops_commander.integration.dependencies.model import Lock, Package
from ops_commander.integration.dependencies.platform import Platform
from ops_commander.integration.dependencies.report import Change, Conflict, ConflictKind, PackageDiff, Severity

_VISIBLE: Final = frozenset({Change.MINOR, Change.MAJOR, Change.MISSING, Change.UNPINNED, Change.EXTRA})
_RUNTIMES: Final = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu11", "nvidia-cuda-runtime-cu12")


def find(baseline: Lock, candidate: Lock, diffs: list[PackageDiff], platform: Platform) -> list[Conflict]:
    """Vetoes first."""
    found = [
        *_cuda_mixed(candidate),
        *_cuda_changed(baseline, candidate),
        *_cuda_runtime(candidate),
        *_hashes(baseline, candidate, diffs, platform),
        *_by_package(diffs),
        *_unsatisfied(candidate, platform),
    ]
    return sorted(found, key=lambda each: each.severity is not Severity.VETO)


def _conflict(kind: ConflictKind, severity: Severity, message: str, *packages: str) -> Conflict:
    return Conflict(kind=kind, severity=severity, message=message, packages=sorted(packages))


def _said(families: dict[str, list[Package]]) -> str:
    return "; ".join(
        f"{family}: {', '.join(f'{each.name} {each.version or each.build}' for each in members[:4])}"
        + (f" and {len(members) - 4} more" if len(members) > 4 else "")
        for family, members in sorted(families.items())
    )


def _cuda_mixed(candidate: Lock) -> Iterator[Conflict]:
    families = cuda_families(candidate)
    if len(families) > 1:
        names = [each.name for members in families.values() for each in members]
        message = f"{len(families)} CUDA families in one environment ({_said(families)}): expected one"
        yield _conflict(ConflictKind.CUDA_MIXED, Severity.VETO, message, *names)


def _cuda_changed(baseline: Lock, candidate: Lock) -> Iterator[Conflict]:
    ours, theirs = cuda_families(baseline), cuda_families(candidate)
    if set(ours) == set(theirs):
        return
    names = [each.name for families in (ours, theirs) for members in families.values() for each in members]
    message = f"the CUDA family is {_said(theirs) or 'not stated'}: expected production's, {_said(ours) or 'none'}"
    both_said = bool(ours and theirs)
    whole = baseline.complete and candidate.complete
    both_run = runs_on_accelerators(baseline.packages) and runs_on_accelerators(candidate.packages)
    severity = Severity.VETO if both_said or (whole and both_run) else Severity.WARNING
    yield _conflict(ConflictKind.CUDA_CHANGED, severity, message, *names)


def _cuda_runtime(candidate: Lock) -> Iterator[Conflict]:
    """Majors that differ are mixed families already; here the minors."""
    torch = candidate.packages.get("torch")
    tag = torch.local.removeprefix("cu") if torch and torch.local.startswith("cu") else ""
    if not tag.isdigit() or len(tag) < 3:
        return
    wanted = f"{tag[:2]}.{tag[2:]}"
    for name in _RUNTIMES:
        runtime = candidate.packages.get(name)
        if runtime is None or runtime.parsed is None or _is_at(runtime.parsed, wanted):
            continue
        message = f"torch {torch.version if torch else ''} is built for CUDA {wanted}, {name} is {runtime.version}"
        yield _conflict(ConflictKind.CUDA_RUNTIME, Severity.WARNING, message, "torch", name)


def _is_at(version: Version, wanted: str) -> bool:
    return version.release[:2] == Version(wanted).release[:2]


def _hashes(baseline: Lock, candidate: Lock, diffs: list[PackageDiff], platform: Platform) -> Iterator[Conflict]:
    for diff in diffs:
        if diff.change is Change.HASH_DIFFERS:
            message = f"{diff.name} {diff.reason}: expected the same bytes under the same version"
            yield _conflict(ConflictKind.HASH, Severity.VETO, message, diff.name)
        ours, theirs = baseline.packages.get(diff.name), candidate.packages.get(diff.name)
        if ours and theirs and ours.version and ours.version == theirs.version:
            compared = hashes.compare(ours, theirs, platform)
            if compared.differs and diff.change is not Change.HASH_DIFFERS:
                message = f"{diff.name}: {compared.differs}: expected the same bytes under the same version"
                yield _conflict(ConflictKind.HASH, Severity.VETO, message, diff.name)
            if compared.added:
                message = f"{diff.name} {theirs.version}: {compared.added}"
                yield _conflict(ConflictKind.HASH_ADDED, Severity.WARNING, message, diff.name)


def _by_package(diffs: list[PackageDiff]) -> Iterator[Conflict]:
    for diff in diffs:
        if diff.name == "python" and diff.change is Change.ABI:
            message = f"{diff.reason}: compiled modules and pickles are bound to the minor version"
            yield _conflict(ConflictKind.PYTHON_ABI, Severity.WARNING, message, "python")
        elif diff.change is Change.ABI:
            yield _conflict(ConflictKind.PLATFORM, Severity.WARNING, diff.reason, diff.name)
        if diff.change not in _VISIBLE or (diff.change is Change.EXTRA and diff.name not in TOKENIZERS):
            continue
        if about := _meaning(diff):
            yield _conflict(about[0], Severity.WARNING, f"{diff.name}: {diff.reason}: {about[1]}", diff.name)


def _meaning(diff: PackageDiff) -> tuple[ConflictKind, str] | None:
    if diff.name in TOKENIZERS:
        return ConflictKind.TOKENIZER, "token ids may differ from those that the model's weights were trained with"
    if diff.name in PICKLE_FRAMEWORKS:
        return ConflictKind.FRAMEWORK_PICKLE, "models pickled under one minor version may not load in another"
    if diff.name == "numpy" and diff.change is Change.MAJOR:
        return ConflictKind.NUMPY_ABI, "modules compiled for one major version do not load in another"
    if diff.role is Role.SERIALIZER:
        return ConflictKind.SERIALIZER, "what production's version has written may not be read, or not alike"
    return None


def _unsatisfied(candidate: Lock, platform: Platform) -> Iterator[Conflict]:
    """As `pip check` does; only `pip inspect` says what is required."""
    for package in candidate.packages.values():
        for text in package.requires:
            if problem := _problem(text, candidate, platform):
                message = f"{package.name} {package.version} requires {text}: {problem}"
                yield _conflict(ConflictKind.UNSATISFIED, Severity.WARNING, message, package.name)


def _problem(text: str, candidate: Lock, platform: Platform) -> str:
    try:
        requirement = Requirement(text)
    except ValueError:
        return ""
    if not platform.holds(requirement.marker):
        return ""
    other = candidate.packages.get(canonicalize_name(requirement.name))
    if other is None:
        return "not installed"
    if other.parsed and not requirement.specifier.contains(other.parsed, prereleases=True):
        return f"{other.version} is installed"
    return ""


def tokenizer_against_weights(candidate: Lock, recorded: dict[str, str]) -> list[Conflict]:
    """Versions that the weights' own config names (`transformers_version`), against what will read them."""
    found = []
    for name, version in recorded.items():
        package = candidate.packages.get(name)
        if package is None or package.parsed is None:
            continue
        written = Package(name, version).parsed
        if written is None or package.parsed.release[:2] != written.release[:2]:
            message = f"the weights were written with {name} {version}, the candidate installs {package.version}"
            found.append(_conflict(ConflictKind.TOKENIZER, Severity.WARNING, message, name))
    return found
