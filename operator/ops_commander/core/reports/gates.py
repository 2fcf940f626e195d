"""SAFETY GATE STATUS: what a candidate must pass besides its objectives. What is not known is not passed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ops_commander.api.conditions import ConditionType
from ops_commander.api.risk import Band
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import Outcome, TestState, TestStatus
from ops_commander.core.evaluators import RTO_SECONDS
from ops_commander.core.quorum import ROLES
from ops_commander.core.reports.markup import ABSENT, cell_code, one_line, plain, table
from ops_commander.core.reports.provenance import NOT_MEASURED, Origin, figure
from ops_commander.core.reports.subject import Subject

COLUMNS: Final = ("Gate", "Threshold", "Observed", "Pass/Fail", "Evidence Path")
WORDS: Final = {
    RiskVerdict.SAFE: "Safe",
    RiskVerdict.SHADOW_ONLY: "Shadow Only",
    RiskVerdict.REJECT: "Reject",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate. All but `evidence` is plain text."""

    name: str
    threshold: str
    observed: str
    """A figure has its provenance already."""
    passed: bool | None
    """None: not known."""
    evidence: str = ABSENT
    """Markdown."""


def lines(subject: Subject) -> list[str]:
    said = {True: "Pass", False: "Fail", None: "Fail (not known)"}
    return table(
        COLUMNS,
        (
            [plain(gate.name), plain(gate.threshold), plain(gate.observed), said[gate.passed], gate.evidence]
            for gate in gates(subject)
        ),
    )


def gates(subject: Subject) -> list[Gate]:
    """In the order in which a candidate meets them."""
    return [
        _files(subject),
        *_tests(subject),
        _risk(subject),
        _breaches(subject),
        _fresh(subject),
        _router(subject),
        _votes(subject),
        rollback(subject),
        *_recovery(subject),
    ]


def _cell(origin: Origin | None) -> str:
    return origin.cell if origin else ABSENT


def _files(subject: Subject) -> Gate:
    found, name, threshold = subject.verification, "Files verified", "Safe or Shadow Only, no veto"
    if found is None:
        asked = subject.rollout.spec.preflight is not None
        observed = "not verified yet" if asked else "not verified: spec.preflight is not set"
        return Gate(name, threshold, observed, None)
    passed = found.verdict is not RiskVerdict.REJECT and not found.vetoes
    observed = f"{WORDS[found.verdict]} ({one_line(found.reason, 60)})"
    return Gate(name, threshold, observed, passed, _cell(subject.files_origin))


def _tests(subject: Subject) -> Iterator[Gate]:
    for test in subject.deployment.tests if subject.deployment else ():
        yield _test(test)
    if subject.deployment and subject.deployment.tests:
        return
    parts = subject.verification.components if subject.verification else []
    part = next((item for item in parts if item.name == "tests"), None)
    if part is None:
        yield Gate("Tests before traffic", "Passed", "none are known of", None)
        return
    observed = f"of the manifest: {WORDS[part.verdict]}"
    passed = part.verdict is RiskVerdict.SAFE
    yield Gate("Tests before traffic", "Passed", observed, passed, _cell(subject.files_origin))


def _test(test: TestStatus) -> Gate:
    ended = test.state in (TestState.PASSED, TestState.FAILED)
    passed = test.state is TestState.PASSED if ended else None
    evidence = cell_code(f"{test.log.run_id}/{test.log.path}") if test.log else f"Job {cell_code(test.job)}"
    return Gate(f"{test.kind} test {one_line(test.name, 63)}", "Passed", test.state, passed, evidence)


def _risk(subject: Subject) -> Gate:
    risk, name, threshold = subject.risk, "Composite risk", "Low or Medium, no veto"
    if risk is None:
        return Gate(name, threshold, NOT_MEASURED, None)
    passed = risk.band is not Band.HIGH and not risk.vetoes
    vetoes = f", vetoed by {', '.join(one_line(veto.partition(':')[0], 60) for veto in risk.vetoes)}"
    observed = figure(f"{risk.value:.4f}", subject.risk_origin)
    said = f"{risk.band}: {observed}{vetoes if risk.vetoes else ''}"
    return Gate(name, threshold, said, passed, _cell(subject.risk_origin))


def _breaches(subject: Subject) -> Gate:
    name, threshold = "Objectives", "none breached"
    if not subject.rows:
        return Gate(name, threshold, NOT_MEASURED, None)
    broken = ", ".join(row.name for row in subject.breached)
    observed = f"breached: {broken}" if broken else "none breached"
    return Gate(name, threshold, observed, not broken, _cell(subject.origin))


def _fresh(subject: Subject) -> Gate:
    name, threshold = "Metrics", "all there and fresh"
    if not subject.rows:
        return Gate(name, threshold, NOT_MEASURED, None)
    unseen = "; ".join(f"{row.name}: {row.reason}" for row in subject.unseen)
    return Gate(name, threshold, unseen or "all there and fresh", not unseen, _cell(subject.origin))


def _router(subject: Subject) -> Gate:
    name, threshold = "Traffic split", "confirmed by the router"
    found = subject.condition(ConditionType.TRAFFIC_SYNCED)
    if found is None:
        return Gate(name, threshold, NOT_MEASURED, None)
    passed = {"True": True, "False": False}.get(found.status)
    return Gate(name, threshold, one_line(found.reason, 60), passed, _cell(subject.origin))


def _votes(subject: Subject) -> Gate:
    quorum = subject.quorum
    if quorum is None:
        return Gate("Quorum", f"GO votes of {len(ROLES)}, all in", "no votes were asked for", None)
    threshold = f"{quorum.required} of {len(ROLES)} GO, all votes in"
    observed = figure(f"{quorum.go} GO of {quorum.cast} cast", subject.origin)
    passed = quorum.reached_at is not None or (None if quorum.cast < len(ROLES) else False)
    objects = ", ".join(cell_code(f"Vote/{row.name}") for row in subject.votes if row.name)
    return Gate("Quorum", threshold, observed, passed, objects or _cell(subject.origin))


def rollback(subject: Subject) -> Gate:
    """Whether there is a version to go back to, and able to serve."""
    name, threshold = "Rollback ready", "a version to go back to, its pods Ready"
    deployment = subject.deployment
    if deployment is None or deployment.stable_revision is None:
        return Gate(name, "a version to go back to", "there is none: nothing was stable before", False)
    if subject.outcome is Outcome.COMPLETED:
        kept = subject.rollout.spec.revision_history_limit > 0
        observed = f"revision {deployment.stable_revision} is {'kept at no pods' if kept else 'not kept'}"
        return Gate(name, "the version before is kept", observed, kept, _cell(subject.origin))
    status = subject.status
    passed = status.replicas > 0 and status.ready_replicas >= min(status.replicas, subject.rollout.spec.replicas)
    what = "all pods Ready" if passed else "not all of its pods are Ready"
    observed = f"stable revision {deployment.stable_revision}: {what}"
    return Gate(name, threshold, observed, passed, _cell(subject.origin))


def _recovery(subject: Subject) -> Iterator[Gate]:
    found = subject.rollback
    if found is None:
        return
    name, threshold = "Recovery time", f"≤ {RTO_SECONDS:.0f} s from breach visible to pods reverted"
    took = found.replica_set_seconds
    if took is None:
        yield Gate(name, threshold, "the revert is under way", None)
        return
    yield Gate(name, threshold, figure(f"{took:.3f}s", subject.origin), took <= RTO_SECONDS, _cell(subject.origin))
