"""INTEGRATION COMPATIBILITY MATRIX: each part of the candidate, and the candidate as a whole."""

from __future__ import annotations

import re
from typing import Final

from ops_commander.api.risk import Part
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import RiskPartStatus, RiskSource, TestKind, TestState
from ops_commander.api.verification import VerificationStatus, VerifiedComponent
from ops_commander.core.reports.gates import WORDS
from ops_commander.core.reports.markup import ABSENT, cell_code, plain, table
from ops_commander.core.reports.provenance import NOT_MEASURED, figure
from ops_commander.core.reports.subject import Subject

COLUMNS: Final = (
    "Component",
    "Schema Match",
    "Regression",
    "Latency Impact",
    "Composite Risk",
    "Verdict",
    "Evidence",
)
_CHANGE: Final = re.compile(r"at most (-?[0-9]+(?:[.][0-9]+)?(?:E[-+]?[0-9]+)?) ms")


def lines(subject: Subject) -> list[str]:
    found = subject.verification
    rows = [_component(subject, found, part) for part in found.components] if found else []
    return table(COLUMNS, [*rows, _whole(subject)])


def _component(subject: Subject, found: VerificationStatus, part: VerifiedComponent) -> list[str]:
    origin = subject.files_origin
    match = regression = ABSENT
    if part.name == "schema":
        match = _schema(subject, found)
    if part.name == "tests":
        regression = WORDS[part.verdict]
    reports = [cell_code(f"{item.run_id}/{item.path}") for item in found.evidence if _is_about(item.path, part.name)]
    evidence = ", ".join(reports) or (origin.cell if origin else ABSENT)
    return [plain(part.name), match, regression, ABSENT, ABSENT, WORDS[part.verdict], evidence]


def _is_about(path: str, component: str) -> bool:
    word = {"lockfile": "lock"}.get(component, component.partition("[")[0])
    return word in path.rpartition("/")[2]


def _schema(subject: Subject, found: VerificationStatus) -> str:
    if found.schema_drift is None:
        return NOT_MEASURED
    said = "match" if found.schema_drift == 0 else "broken" if found.schema_drift >= 1 else "changed"
    return f"{said}: {figure(f'{found.schema_drift:.4f}', subject.files_origin)}"


def _whole(subject: Subject) -> list[str]:
    risk, origin = subject.risk, subject.risk_origin
    model = f"{subject.rollout.spec.model.name} {subject.model_version}"
    return [
        f"**{plain(model)}**",
        _schema(subject, subject.verification) if subject.verification else NOT_MEASURED,
        _regression(subject),
        _latency(subject),
        figure(f"{risk.value:.4f} ({risk.band})", origin) if risk else NOT_MEASURED,
        WORDS[risk.verdict] if risk else _without_risk(subject),
        origin.cell if origin else ABSENT,
    ]


def _without_risk(subject: Subject) -> str:
    if subject.verification is None:
        return "Not assessed"
    return WORDS[subject.verification.verdict]


def _part(subject: Subject, name: Part) -> RiskPartStatus | None:
    parts = subject.risk.parts if subject.risk else []
    return next((part for part in parts if part.name is name and part.source is not RiskSource.MISSING), None)


def _regression(subject: Subject) -> str:
    """Deviation of outputs, and what regression tests said."""
    part = _part(subject, Part.OUTPUT)
    said = []
    if part:
        said.append(figure(f"output deviation {part.value:.4f}", subject.risk_origin))
    tests = subject.deployment.tests if subject.deployment else []
    ended = [test for test in tests if test.kind is TestKind.REGRESSION]
    if ended:
        passed = all(test.state is TestState.PASSED for test in ended)
        said.append("tests passed" if passed else "tests not passed")
    return "; ".join(said) or NOT_MEASURED


def _latency(subject: Subject) -> str:
    """The largest change of the P95 that is still possible, as the risk took it."""
    part = _part(subject, Part.LATENCY)
    found = _CHANGE.search(part.explanation) if part else None
    return figure(f"≤ {float(found[1]):+.4g} ms" if found else None, subject.risk_origin)


def is_rejected(subject: Subject) -> bool:
    """Whether files or risk reject the candidate, whatever else is well."""
    verdicts = [found.verdict for found in (subject.verification, subject.risk) if found]
    vetoes = [veto for found in (subject.verification, subject.risk) if found for veto in found.vetoes]
    return bool(vetoes) or RiskVerdict.REJECT in verdicts
