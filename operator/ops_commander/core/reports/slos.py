"""SLO STATUS TABLE: each objective that was judged, with where its figures come from."""

from __future__ import annotations

from typing import Final

from ops_commander.api.v1alpha1 import ObjectiveStatus
from ops_commander.core.reports.markup import ABSENT, plain, table
from ops_commander.core.reports.provenance import figure, quantity, span
from ops_commander.core.reports.subject import Subject

COLUMNS: Final = ("SLO", "Target", "Observed", "CI95", "Status", "Trend", "Evidence")
SHIPPED: Final = tuple(f"S{number}" for number in range(1, 9))


def lines(subject: Subject) -> list[str]:
    rows = [_row(subject, row) for row in subject.rows]
    return [*table(COLUMNS, rows), "", _unjudged(subject)]


def _row(subject: Subject, row: ObjectiveStatus) -> list[str]:
    origin = subject.origin_of(row)
    name = f"{plain(row.slo)}: {plain(row.name)}" if row.slo else plain(row.name)
    return [
        name,
        plain(row.target),
        figure(quantity(row.observed, unit_of(row)), origin),
        figure(span(row.interval, unit_of(row)), origin),
        f"{row.verdict} ({plain(row.reason)})",
        row.trend or "not known",
        origin.cell if origin else ABSENT,
    ]


def unit_of(row: ObjectiveStatus) -> str:
    """Ratios have none."""
    return "" if row.judged == "ratio" else row.unit


def _unjudged(subject: Subject) -> str:
    """The shipped objectives that no step of this deployment has judged."""
    known = {row.slo for row in subject.rows}
    missing = [slo for slo in SHIPPED if slo not in known]
    if not missing:
        return "All of S1 to S8 were judged."
    return f"Not judged: {', '.join(missing)}."
