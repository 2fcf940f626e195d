"""Package by package, and D = 1 − Π(1 − k·m)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ops_commander.core import risk
from ops_commander.integration.dependencies import hashes
from ops_commander.integration.dependencies.families import Role, cuda_family, role_of
from ops_commander.integration.dependencies.model import Interpreter, Lock, Package
from ops_commander.integration.dependencies.platform import Platform
from ops_commander.integration.dependencies.report import Change, PackageDiff

MISMATCH: Final = {
    Change.SAME: 0.0,
    Change.BUILD: 0.1,
    Change.PATCH: 0.1,
    Change.MINOR: 0.4,
    Change.MAJOR: 1.0,
    Change.MISSING: 1.0,
    Change.EXTRA: 0.1,
    Change.UNPINNED: 0.5,
    Change.HASH_DIFFERS: 1.0,
    Change.ABI: 1.0,
}
Found = tuple[Change, str]

_CONDA_PYTHON: Final = re.compile(r"py(\d)\.?(\d{1,2})(?![.\d])")


def packages(baseline: Lock, candidate: Lock, platform: Platform) -> list[PackageDiff]:
    """All packages, the worst first."""
    found = [_interpreter(baseline.python, candidate.python, platform)]
    for name in sorted(set(baseline.packages) | set(candidate.packages)):
        found.append(_package(name, baseline.packages.get(name), candidate.packages.get(name), platform))
    return sorted(found, key=lambda each: (-each.weight * each.mismatch, -each.mismatch, each.name))


def mismatch(diffs: list[PackageDiff]) -> Decimal:
    """D, in decimals and to four places."""
    return risk.noisy_or(risk.exact(each.weight) * risk.exact(each.mismatch) for each in diffs)


def _package(name: str, baseline: Package | None, candidate: Package | None, platform: Platform) -> PackageDiff:
    change, reason = _worst(_changes(baseline, candidate, platform))
    role, direct = role_of(name), _direct(baseline, candidate)
    return PackageDiff(
        name=name,
        change=change,
        baseline=baseline.said if baseline else None,
        candidate=candidate.said if candidate else None,
        role=role,
        direct=direct,
        weight=_weight(role, direct),
        mismatch=MISMATCH[change],
        reason=reason,
    )


def _worst(found: Iterator[Found]) -> Found:
    """The first of those with the greatest m."""
    return max(found, key=lambda each: MISMATCH[each[0]])


def _direct(baseline: Package | None, candidate: Package | None) -> bool | None:
    said = {package.direct for package in (baseline, candidate) if package}
    if True in said:
        return True
    return False if False in said else None


def _weight(role: Role, direct: bool | None) -> float:
    """Where no lock says whether it is transitive it counts as direct, which is more."""
    if role is not Role.OTHER:
        return 1.0
    return 0.1 if direct is False else 0.5


def _changes(baseline: Package | None, candidate: Package | None, platform: Platform) -> Iterator[Found]:
    if candidate is None:
        assert baseline is not None
        yield Change.MISSING, f"{baseline.said} is in production and not in the candidate"
        return
    yield from _abi(baseline, candidate, platform)
    from_source = candidate.source and baseline and baseline.source
    if candidate.version is None and not from_source:
        yield Change.UNPINNED, f"{candidate.said}: the version is not fixed"
    if baseline is None:
        yield Change.EXTRA, f"{candidate.said} is not in production"
        return
    if baseline.version is None and not from_source:
        yield Change.UNPINNED, f"production has {baseline.said}: the version is not fixed"
    yield from _versions(baseline, candidate)
    if _same_version(baseline, candidate):
        yield from _bytes(baseline, candidate, platform)


def _abi(baseline: Package | None, candidate: Package, platform: Platform) -> Iterator[Found]:
    if candidate.files and not any(platform.takes(file.file) for file in candidate.files):
        yield Change.ABI, f"{candidate.said} has no file for {platform}"
    if (python := _CONDA_PYTHON.search(candidate.build)) and (int(python[1]), int(python[2])) != platform.python:
        yield Change.ABI, f"build {candidate.build} is for Python {python[1]}.{python[2]}, not {platform.python_text}"
    if baseline is None:
        return
    ours, theirs = cuda_family(baseline), cuda_family(candidate)
    tagged = baseline.local or candidate.local or baseline.build or candidate.build
    if ours != theirs and tagged and baseline.version and candidate.version:
        arrow = f"{baseline.said} → {candidate.said}"
        yield Change.ABI, f"{arrow}: built for {theirs or 'no stated CUDA'}, production for {ours or 'no stated CUDA'}"


def _same_version(baseline: Package, candidate: Package) -> bool:
    if baseline.version is None or candidate.version is None:
        return baseline.version == candidate.version and bool(baseline.source and candidate.source)
    return (baseline.parsed or baseline.version) == (candidate.parsed or candidate.version)


def _versions(baseline: Package, candidate: Package) -> Iterator[Found]:
    """`same` is always among them, so that there is a worst."""
    yield Change.SAME, candidate.said
    if baseline.version is None or candidate.version is None:
        return
    arrow = f"{baseline.said} → {candidate.said}"
    ours, theirs = baseline.parsed, candidate.parsed
    if ours is None or theirs is None:
        if baseline.version != candidate.version:
            yield Change.MAJOR, f"{arrow}: versions that have no order"
    elif ours != theirs:
        yield _step(ours, theirs), f"{arrow}{'' if ours < theirs else ' (older than production)'}"
    if baseline.build and candidate.build and baseline.build != candidate.build:
        yield Change.BUILD, f"{arrow}: build {baseline.build} → {candidate.build}"


def _step(ours: Version, theirs: Version) -> Change:
    if (ours.epoch, ours.major) != (theirs.epoch, theirs.major):
        return Change.MAJOR
    if ours.minor != theirs.minor:
        return Change.MAJOR if ours.major == 0 else Change.MINOR
    return Change.BUILD if _release(ours) == _release(theirs) else Change.PATCH


def _release(version: Version) -> tuple[int, ...]:
    release = list(version.release)
    while release and release[-1] == 0:
        release.pop()
    return tuple(release)


def _bytes(baseline: Package, candidate: Package, platform: Platform) -> Iterator[Found]:
    """Of one version: whether it is the same bytes."""
    compared = hashes.compare(baseline, candidate, platform)
    if compared.differs:
        yield Change.HASH_DIFFERS, f"{candidate.said}: {compared.differs}"
    if compared.proved:
        return
    ours, theirs = baseline.source, candidate.source
    if ours != theirs:
        if ours.startswith("git+") and theirs.startswith("git+"):
            yield Change.HASH_DIFFERS, f"{candidate.said}: another commit than {baseline.said} of the same version"
        else:
            yield (
                Change.UNPINNED,
                f"{candidate.said}: from elsewhere than {baseline.said}, and no hash says it is equal",
            )
    elif ours and not _is_fixed(ours):
        yield Change.UNPINNED, f"{candidate.said}: its source can change under the same version"


def _is_fixed(source: str) -> bool:
    return re.search(r"(?:@|[#?&]rev=|#)[0-9a-f]{40}", source) is not None


def _interpreter(baseline: Interpreter, candidate: Interpreter, platform: Platform) -> PackageDiff:
    change, reason = _worst(_interpreter_changes(baseline, candidate, platform))
    return PackageDiff(
        name="python",
        change=change,
        baseline=baseline.version or baseline.specifier or None,
        candidate=candidate.version or candidate.specifier or None,
        role=Role.INTERPRETER,
        direct=True,
        weight=1.0,
        mismatch=MISMATCH[change],
        reason=reason,
    )


def _interpreter_changes(baseline: Interpreter, candidate: Interpreter, platform: Platform) -> Iterator[Found]:
    yield Change.SAME, candidate.version or candidate.specifier or f"not stated: {platform.python_text} is assumed"
    for side, name in ((baseline, "production"), (candidate, "the candidate")):
        yield from _on_platform(side, name, platform)
    ours, theirs = _python(baseline), _python(candidate)
    if ours and theirs and ours.release[:2] == theirs.release[:2] and _release(ours) != _release(theirs):
        yield Change.PATCH, f"{ours} → {theirs}"


def _on_platform(side: Interpreter, name: str, platform: Platform) -> Iterator[Found]:
    """Each side against the stated platform: so both agree with each other."""
    if side.machine and side.machine.lower() not in (platform.machine, {"x86_64": "amd64"}.get(platform.machine)):
        yield Change.ABI, f"{name} is for {side.machine}, not {platform.machine}"
    if side.system and side.system.lower() != platform.system:
        yield Change.ABI, f"{name} is for {side.system}, not {platform.system}"
    if (version := _python(side)) and version.release[:2] != platform.python:
        yield Change.ABI, f"{name} has Python {version}, the platform {platform.python_text}"
    if side.specifier and not side.version and not _allows(side.specifier, platform):
        yield Change.ABI, f"{name} asks for Python {side.specifier}, the platform has {platform.python_text}"


def _python(side: Interpreter) -> Version | None:
    try:
        return Version(side.version) if side.version else None
    except ValueError:
        return None


def _allows(specifier: str, platform: Platform) -> bool:
    """Whether some patch of the platform's Python fits. `=3.11` is conda's spelling of `==3.11.*`."""
    if fuzzy := re.fullmatch(r"=(\d+(?:\.\d+)*)", specifier):
        specifier = f"=={fuzzy[1]}.*"
    try:
        allowed = SpecifierSet(specifier)
        return any(allowed.contains(f"{platform.python_text}.{patch}") for patch in (*range(30), 99))
    except ValueError:
        return False
