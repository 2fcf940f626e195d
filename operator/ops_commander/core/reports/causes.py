"""Candidates for the root cause of a revert, ranked by the evidence for each. None of them is claimed to be it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import ObjectiveStatus, RollbackStatus, StepState, TestState, Trend, Verdict
from ops_commander.core.objectives import NO_EVIDENCE
from ops_commander.core.reports.gates import WORDS
from ops_commander.core.reports.provenance import NO_RUN, Origin, figure, quantity, quoted
from ops_commander.core.reports.slos import unit_of
from ops_commander.core.reports.subject import Subject, bound_of

_TIMES: Final = ("s", "ms", "us", "µs")
_PRESSURE: Final = (
    "OOMKilled",
    "Evicted",
    "Insufficient",
    "Unschedulable",
    "DiskPressure",
    "MemoryPressure",
    "throttl",
)
_BY_PERSON: Final = "Aborted"
_OTHERWISE: Final = {
    "DeadlineInconclusive": "Not proved within the step's maximum time",
    "ArtifactChanged": "A file of the candidate changed after it was verified",
}
_DEADLINE: Final = "ProgressDeadlineExceeded"


class Strength(IntEnum):
    """How much speaks for a cause."""

    DECISIVE = 3
    """The revert was decided on it."""
    STRONG = 2
    """It was measured or found, and is bad."""
    WEAK = 1
    """It changed, or moved, and is not known to be bad."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A candidate. All texts are plain."""

    strength: Strength
    name: str
    finding: str
    origin: Origin | None = None


Search = Callable[[Subject, RollbackStatus], Iterator[Cause]]


def ranked(subject: Subject, rollback: RollbackStatus) -> list[Cause]:
    """The strongest first; equals as searched for."""
    found = [cause for search in SEARCHES for cause in search(subject, rollback)]
    if not any(cause.strength is Strength.DECISIVE for cause in found):
        name = _OTHERWISE.get(rollback.reason, rollback.reason)
        found.append(Cause(Strength.DECISIVE, name, quoted(rollback.message, subject.origin), subject.origin))
    return sorted(found, key=lambda cause: -cause.strength)


def _person(subject: Subject, rollback: RollbackStatus) -> Iterator[Cause]:
    if rollback.reason == _BY_PERSON:
        yield Cause(Strength.DECISIVE, "Order of a person", rollback.message, subject.origin)


def _restarts(subject: Subject, rollback: RollbackStatus) -> Iterator[Cause]:
    if rollback.reason == "CandidateRestarted":
        yield Cause(Strength.DECISIVE, "Container restarts", quoted(rollback.message, subject.origin), subject.origin)
    deployment = subject.deployment
    if deployment and deployment.restarts_at_start:
        said = figure(f"{deployment.restarts_at_start} restart(s) before the first traffic", subject.origin)
        yield Cause(Strength.WEAK, "Container restarts", said, subject.origin)


def _objectives(subject: Subject, rollback: RollbackStatus) -> Iterator[Cause]:
    """What failed, and how the candidate did beside stable; latency by the step that it was seen in."""
    for row in subject.rows:
        strength = _strength(row, rollback)
        if strength is None:
            continue
        kind = "Latency" if row.unit in _TIMES else "Composite risk" if row.query == "composite risk" else "Behaviour"
        origin = subject.origin_of(row)
        yield Cause(strength, f"{kind} in step {last_step(subject)}: {row.name}", against_stable(row, origin), origin)


def _strength(row: ObjectiveStatus, rollback: RollbackStatus) -> Strength | None:
    if row.name == rollback.objective:
        return Strength.DECISIVE
    if row.verdict is Verdict.FAIL:
        return Strength.STRONG
    bound = bound_of(row)
    worse = bound and row.trend is (Trend.RISING if bound.is_upper else Trend.FALLING)
    return Strength.WEAK if worse else None


def against_stable(row: ObjectiveStatus, origin: Origin | None) -> str:
    """Candidate beside stable, in one line."""
    if origin is None:
        return f"{row.verdict}: {NO_RUN}"
    unit = row.unit
    said = f"{row.verdict}: candidate {figure(quantity(row.candidate, unit), origin)}"
    if row.stable is not None:
        said += f", stable {figure(quantity(row.stable, unit), origin)}"
    if row.judged != "candidate":
        said += f", {row.judged} {figure(quantity(row.observed, unit_of(row)), origin)}"
    return said + (f", {row.trend}" if row.trend else "")


def last_step(subject: Subject) -> str:
    """The step in which the revert began, as shown."""
    steps = subject.deployment.steps if subject.deployment else []
    return steps[-1].name if steps else "none"


def _pods(subject: Subject, rollback: RollbackStatus) -> Iterator[Cause]:
    """No ready pods, a deadline, and what Kubernetes says of resources."""
    said = quoted(rollback.message, subject.origin)
    if any(word.lower() in rollback.message.lower() for word in _PRESSURE):
        yield Cause(Strength.DECISIVE, "Resource pressure", said, subject.origin)
    elif rollback.reason in ("CapacityLost", _DEADLINE):
        name = "Pods not Ready" if rollback.reason == "CapacityLost" else "Pods or router not in time"
        yield Cause(Strength.DECISIVE, name, said, subject.origin)


def _files(subject: Subject, _: RollbackStatus) -> Iterator[Cause]:
    """Findings of schema, dependencies, config and checkpoints."""
    found = subject.verification
    if found is None:
        return
    for veto in found.vetoes:
        yield Cause(Strength.STRONG, f"Veto {veto.partition(':')[0]}", veto, subject.files_origin)
    for part in found.components:
        if part.verdict is not RiskVerdict.SAFE:
            said = f"{WORDS[part.verdict]}: {part.message}"
            yield Cause(Strength.STRONG, f"Finding in {part.name}", said, subject.files_origin)
    for name, value in (("API schema changed", found.schema_drift), ("Dependencies differ", found.dependency_mismatch)):
        if value:
            yield Cause(Strength.WEAK, name, figure(f"{value:.4f} of 1", subject.files_origin), subject.files_origin)


def _tests(subject: Subject, rollback: RollbackStatus) -> Iterator[Cause]:
    if rollback.reason == "TestsNotFinished":
        yield Cause(Strength.DECISIVE, "Tests did not end in time", rollback.message, subject.origin)
    for test in subject.deployment.tests if subject.deployment else ():
        if test.state is TestState.FAILED:
            origin = Origin(test.log.run_id, test.log.path) if test.log else None
            said = test.message or f"Job {test.job} failed"
            yield Cause(Strength.DECISIVE, f"{test.kind} test {test.name} failed", said, origin)


def _sight(subject: Subject, rollback: RollbackStatus) -> Iterator[Cause]:
    """Evidence that was missing, which a deadline turns into a revert."""
    held = [entry for entry in _transitions(subject) if entry == StepState.HELD]
    unseen = [row for row in subject.rows if row.reason in NO_EVIDENCE]
    is_decisive = rollback.objective is None and "evidence" in rollback.message.lower()
    if unseen or held or is_decisive:
        names = ", ".join(row.name for row in unseen) or "no objective at the end"
        said = f"without evidence: {names}; held {'at least once' if held else 'never'}"
        yield Cause(Strength.DECISIVE if is_decisive else Strength.WEAK, "Metrics missing or stale", said)


def _transitions(subject: Subject) -> Iterator[StepState | None]:
    return (entry.state for entry in subject.deployment.transitions) if subject.deployment else iter(())


def _artifact(subject: Subject, _: RollbackStatus) -> Iterator[Cause]:
    """What is different from stable, always."""
    deployment = subject.deployment
    if deployment is None:
        return
    before = f"version {deployment.stable_version or 'unknown'} (run {deployment.stable_run_id or 'unknown'})"
    after = f"version {deployment.model_version} (run {deployment.run_id or 'unknown'})"
    said = f"{before} → {after}; revision {deployment.stable_revision or 'none'} → {deployment.revision}"
    yield Cause(Strength.WEAK, "The artifact changed", said, subject.files_origin or subject.origin)


SEARCHES: Final[tuple[Search, ...]] = (_person, _tests, _restarts, _pods, _objectives, _files, _sight, _artifact)
