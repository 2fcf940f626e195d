"""Plots of a deployment: weights over time, and objectives with their intervals, as SVG."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ops_commander.api.v1alpha1 import DeploymentStatus, Interval, ObjectiveStatus, Outcome, StepState
from ops_commander.core.reports import svg
from ops_commander.core.reports.provenance import NO_RUN, Point, figure, quantity, span
from ops_commander.core.reports.slos import unit_of
from ops_commander.core.reports.subject import Subject, bound_of

WIDTH: Final = 900.0
LEFT: Final = 210.0
RIGHT: Final = 610.0
"""Ends of the drawing; names stand left of it, values right of it."""
_ROW: Final = 64.0
_WEIGHTS_HEIGHT: Final = 260.0
_PERCENT: Final = re.compile(r"([0-9]{1,3})%$")
_MOST_ROWS: Final = 100
_LONGEST_NAME: Final = 30


# --- Weights ------------------------------------------------------------------------------------------


def weight_of(step: str) -> int:
    """Percentage of the live requests in a step, by its name as shown."""
    if step in ("full", "launch"):
        return 100
    found = _PERCENT.search(step)
    return min(100, int(found[1])) if found else 0


def weights(subject: Subject) -> list[tuple[datetime, int]]:
    """From when on the candidate had which percentage of the live requests."""
    deployment = subject.deployment
    if deployment is None:
        return []
    found = [(deployment.started_at, 0)]
    for entry in deployment.transitions:
        if entry.state is StepState.RUNNING:
            found.append((entry.at, weight_of(_step_at(deployment, entry.at))))
        elif entry.state in (StepState.HELD, StepState.CLEARING):
            found.append((entry.at, 0))
    if subject.rollback and subject.rollback.traffic_reverted_at:
        found.append((subject.rollback.traffic_reverted_at, 0))
    if deployment.ended_at:
        found.append((deployment.ended_at, 100 if deployment.outcome is Outcome.COMPLETED else 0))
    return sorted(found, key=lambda item: item[0])


def _step_at(deployment: DeploymentStatus, moment: datetime) -> str:
    entered = [record for record in deployment.steps if record.entered_at <= moment]
    return entered[-1].name if entered else ""


def weights_svg(subject: Subject) -> str:
    """A stair: what share of the live requests the candidate had when."""
    points, deployment = weights(subject), subject.deployment
    title = f"Weight of {deployment.id}" if deployment else "Weight: no deployment has started"
    top, bottom = 40.0, _WEIGHTS_HEIGHT - 50
    parts = [svg.text(16, 22, title)]
    for share in (0, 25, 50, 75, 100):
        y = bottom - (bottom - top) * share / 100
        parts += [svg.line(60, y, WIDTH - 20, y), svg.text(52, y + 4, f"{share}%", fill=svg.FAINT, anchor="end")]
    if points and deployment:
        axis = _Axis.of_times([*(at for at, _ in points), deployment.ended_at or subject.now], 60, WIDTH - 20)
        parts += _stair(points, axis, deployment.ended_at or subject.now, top, bottom)
        parts += _marks(subject, axis, top, bottom)
    origin = subject.origin
    source = f"{origin.run_id}/{origin.path}" if origin else "status of the ModelRollout, no MLflow run"
    parts.append(svg.text(16, _WEIGHTS_HEIGHT - 10, f"Source: {source}", fill=svg.FAINT))
    return svg.document(WIDTH, _WEIGHTS_HEIGHT, title, parts)


def _stair(points: Sequence[tuple[datetime, int]], axis: _Axis, end: datetime, top: float, bottom: float) -> list[str]:
    drawn: list[tuple[float, float]] = []
    for at, weight in points:
        y = bottom - (bottom - top) * weight / 100
        if drawn:
            drawn.append((axis.place(at.timestamp()), drawn[-1][1]))
        drawn.append((axis.place(at.timestamp()), y))
    drawn.append((axis.place(max(end, points[-1][0]).timestamp()), drawn[-1][1]))
    first, last = points[0][0], max(end, points[-1][0])
    return [
        svg.path(drawn),
        svg.text(60, bottom + 18, f"{first:%Y-%m-%d %H:%M:%S}", fill=svg.FAINT),
        svg.text(WIDTH - 20, bottom + 18, f"{last:%Y-%m-%d %H:%M:%S}", fill=svg.FAINT, anchor="end"),
    ]


def _marks(subject: Subject, axis: _Axis, top: float, bottom: float) -> list[str]:
    """When the breach was visible."""
    if subject.rollback is None:
        return []
    x = axis.place(subject.rollback.breach_visible_at.timestamp())
    label = svg.text(x, top - 4, "breach visible", fill=svg.BAD, anchor="middle")
    return [svg.line(x, top, x, bottom, stroke=svg.BAD, dash="4 3"), label]


# --- Objectives ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values to places."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, margin: float = 0.1) -> _Axis:
        low, high = min(values), max(values)
        room = (high - low) * margin or abs(high) * margin or 1.0
        return cls(low - room, high + room, start, end) if margin else cls(low, high, start, end)

    @classmethod
    def of_times(cls, moments: Sequence[datetime], start: float, end: float) -> _Axis:
        seconds = [moment.timestamp() for moment in moments]
        low, high = min(seconds), max(seconds)
        return cls(low, high if high > low else low + 1, start, end)

    def place(self, value: float | None, unbounded: float = 0.0) -> float:
        """Within the drawing; `unbounded` is where a value that is absent or infinite lies."""
        if value is None or not math.isfinite(value):
            return unbounded
        share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))


def objectives_svg(subject: Subject) -> str:
    """A panel an objective: over time where its series is known, its latest interval otherwise."""
    rows = subject.rows[:_MOST_ROWS]
    height = 60 + _ROW * max(1, len(rows)) + 24
    title = f"Objectives of {subject.deployment.id}" if subject.deployment else "Objectives"
    parts = [svg.text(16, 22, f"{title}: value, CI95 and target")]
    for place, row in enumerate(rows):
        parts += _panel(subject, row, 44 + _ROW * place)
    if not rows:
        parts.append(svg.text(16, 60, "No objective was judged.", fill=svg.FAINT))
    if len(subject.rows) > len(rows):
        parts.append(svg.text(16, height - 8, f"{len(subject.rows) - len(rows)} more are not drawn.", fill=svg.FAINT))
    return svg.document(WIDTH, height, title, parts)


def _panel(subject: Subject, row: ObjectiveStatus, top: float) -> list[str]:
    origin = subject.origin_of(row)
    parts = [
        svg.line(16, top + _ROW - 6, WIDTH - 16, top + _ROW - 6),
        svg.text(16, top + 22, f"{row.slo}: {row.name}" if row.slo else row.name, most=_LONGEST_NAME),
        svg.text(16, top + 40, f"{row.verdict}, {row.target}", fill=svg.FAINT, most=_LONGEST_NAME),
    ]
    if origin is None:
        return [*parts, svg.text(LEFT, top + 30, NO_RUN, fill=svg.FAINT)]
    unit = unit_of(row)
    said = [figure(quantity(row.observed, unit), origin), f"CI95 {span(row.interval, unit) or 'not known'}"]
    parts += [svg.text(RIGHT + 16, top + 22 + 18 * place, text, fill=svg.INK) for place, text in enumerate(said)]
    points = [point for point in subject.provenance.series.get(row.name, ()) if _is_finite(point.value)]
    if len(points) > 1:
        return parts + _over_time(row, points, top)
    return parts + _latest(row, top)


def _latest(row: ObjectiveStatus, top: float) -> list[str]:
    """The interval as a bar, the value as a dot, the target as a line."""
    bound = bound_of(row)
    low, high = (row.interval.low, row.interval.high) if row.interval else (None, None)
    known = [value for value in (low, high, row.observed, bound.value if bound else None) if _is_finite(value)]
    if not known or not _is_finite(row.observed):
        return [svg.text(LEFT, top + 30, "not measured", fill=svg.FAINT)]
    axis, y = _Axis.of([float(value) for value in known if value is not None], LEFT, RIGHT), top + 28
    parts = []
    if row.interval:
        ends = axis.place(low, LEFT), axis.place(high, RIGHT)
        parts.append(
            svg.element("rect", x=min(ends), y=y - 7, width=abs(ends[1] - ends[0]), height=14.0, fill=svg.BAND)
        )
    parts.append(svg.element("circle", cx=axis.place(row.observed), cy=y, r=4.0, fill=svg.LINE))
    if bound and math.isfinite(bound.value):
        x = axis.place(bound.value)
        parts.append(svg.line(x, y - 16, x, y + 16, stroke=svg.BAD, dash="4 3"))
    return parts


def _over_time(row: ObjectiveStatus, points: Sequence[Point], top: float) -> list[str]:
    """The value as a line, its interval as a band, the target as a level."""
    bound = bound_of(row)
    ends = [_ends(point.interval) for point in points]
    values = [float(point.value) for point in points if point.value is not None]
    latest = [end for end in ends[-1] if _is_finite(end)]  # early intervals are wide: they would flatten the rest
    known = [*values, *(float(end) for end in latest if end is not None), *([bound.value] if bound else [])]
    upright = _Axis.of(known, top + _ROW - 12, top + 4)
    along = _Axis.of_times([point.at for point in points], LEFT, RIGHT)
    xs = [along.place(point.at.timestamp()) for point in points]
    above = [(x, upright.place(high, top + 4)) for x, (_, high) in zip(xs, ends, strict=True)]
    below = [(x, upright.place(low, top + _ROW - 12)) for x, (low, _) in zip(xs, ends, strict=True)]
    parts = [svg.path([*above, *reversed(below)], stroke="none", fill=svg.BAND)]
    parts.append(svg.path([(x, upright.place(value)) for x, value in zip(xs, values, strict=True)]))
    if bound:
        y = upright.place(bound.value)
        parts.append(svg.line(LEFT, y, RIGHT, y, stroke=svg.BAD, dash="4 3"))
    return parts


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (interval.low, interval.high) if interval else (None, None)


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
