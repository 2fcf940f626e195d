"""Whether two locks mean the same bytes by one version."""

from __future__ import annotations

from dataclasses import dataclass

from ops_commander.integration.dependencies.model import Package
from ops_commander.integration.dependencies.platform import Platform


@dataclass(frozen=True, slots=True)
class Comparison:
    """`differs` names what is not the same; `added` what only the candidate allows to be installed."""

    proved: bool = False
    differs: str = ""
    added: str = ""


def compare(baseline: Package, candidate: Package, platform: Platform) -> Comparison:
    """By file name where both name files, by the sets of hashes where one does not."""
    if baseline.files and candidate.files:
        return _by_name(baseline, candidate, platform)
    ours, theirs = _all(baseline), _all(candidate)
    algorithms = _algorithms(ours) & _algorithms(theirs)
    ours, theirs = _only(ours, algorithms), _only(theirs, algorithms)
    if not ours or not theirs:
        return Comparison()
    if ours.isdisjoint(theirs):
        return Comparison(differs=f"none of its hashes is one of production's ({min(theirs)[:23]}…)")
    added = theirs - ours
    return Comparison(True, added=f"{len(added)} hashes that production does not have" if added else "")


def _by_name(baseline: Package, candidate: Package, platform: Platform) -> Comparison:
    ours = {file.file: file.hashes for file in baseline.files}
    theirs = {file.file: file.hashes for file in candidate.files}
    proved = False
    for file in sorted(set(ours) & set(theirs)):
        for algorithm in set(ours[file]) & set(theirs[file]):
            if ours[file][algorithm].lower() != theirs[file][algorithm].lower():
                return Comparison(differs=f"{file} has {algorithm}:{theirs[file][algorithm][:16]}…")
            proved = True
    added = [file for file in sorted(set(theirs) - set(ours)) if platform.takes(file)]
    return Comparison(proved, added=f"{', '.join(added)[:200]} is not in production's lock" if added else "")


def _all(package: Package) -> frozenset[str]:
    named = {f"{name}:{value.lower()}" for file in package.files for name, value in file.hashes.items()}
    return package.hashes | named


def _algorithms(hashes: frozenset[str]) -> set[str]:
    return {each.split(":")[0] for each in hashes}


def _only(hashes: frozenset[str], algorithms: set[str]) -> frozenset[str]:
    return frozenset(each for each in hashes if each.split(":")[0] in algorithms)
