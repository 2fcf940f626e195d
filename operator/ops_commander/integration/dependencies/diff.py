"""Two locks in, one report out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ops_commander.integration.dependencies import compare, conflicts
from ops_commander.integration.dependencies.model import Lock
from ops_commander.integration.dependencies.platform import Platform
from ops_commander.integration.dependencies.read import read_lock
from ops_commander.integration.dependencies.report import LockDiff, LockSummary, Severity

FAIL_ON: Final = 1.0


def diff_files(baseline: Path, candidate: Path, platform: Platform | None = None, fail_on: float = FAIL_ON) -> LockDiff:
    """Raises BadInput, naming the file, where one cannot be read."""
    platform = platform or Platform()
    return diff_locks(read_lock(baseline, platform), read_lock(candidate, platform), platform, fail_on)


def diff_locks(baseline: Lock, candidate: Lock, platform: Platform, fail_on: float = FAIL_ON) -> LockDiff:
    packages = compare.packages(baseline, candidate, platform)
    found = conflicts.find(baseline, candidate, packages, platform)
    mismatch = float(compare.mismatch(packages))
    return LockDiff(
        platform=str(platform),
        baseline=_summary(baseline),
        candidate=_summary(candidate, against=baseline),
        mismatch=mismatch,
        fail_on=fail_on,
        aligned=mismatch <= fail_on and all(each.severity is not Severity.VETO for each in found),
        packages=packages,
        conflicts=found,
    )


def _summary(lock: Lock, against: Lock | None = None) -> LockSummary:
    notes = list(lock.notes)
    if against is not None and against.complete and not lock.complete:
        notes.append("names what was asked for, while production names all: what it leaves out counts as missing")
    return LockSummary(
        file=lock.file,
        format=lock.format,
        sha256=lock.sha256,
        packages=len(lock.packages),
        complete=lock.complete,
        notes=notes,
    )
