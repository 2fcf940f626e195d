"""What a deployment has gained over the stable version: only what its whole interval shows, and a run proves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ops_commander.api.action_plan import Action, ActionKind, ActionState, ActionStatus
from ops_commander.api.v1alpha1 import ObjectiveStatus
from ops_commander.core.objectives import NO_EVIDENCE
from ops_commander.core.reports.provenance import Origin
from ops_commander.core.reports.subject import Subject, bound_of

IMPROVEMENT: Final = "S5"
ABLATION: Final = "S6"
DOUBTED: Final = NO_EVIDENCE | {"RoutingMismatch", "Overdispersed"}
"""Reasons for which an interval proves nothing."""
_TIMES: Final = ("s", "ms", "us", "µs")


@dataclass(frozen=True, slots=True)
class Gain:
    """One objective on which the candidate is better, with the whole of its interval."""

    row: ObjectiveStatus
    origin: Origin | None
    """None: nothing proves it, so it is not reported."""


def gains(subject: Subject) -> list[Gain]:
    """Improvements but those of the latency."""
    return list(_found(subject, (row for row in subject.rows if _is_gain(row) and row.unit not in _TIMES)))


def faster(subject: Subject) -> list[Gain]:
    """Improvements of the latency."""
    return list(_found(subject, (row for row in subject.rows if _is_gain(row) and row.unit in _TIMES)))


def mitigations(subject: Subject) -> list[Gain]:
    """Ablations that cost the candidate what they should: attention has not collapsed."""
    return list(_found(subject, (row for row in subject.rows if row.slo == ABLATION and _is_met(row))))


def _found(subject: Subject, rows: Iterable[ObjectiveStatus]) -> Iterator[Gain]:
    return (Gain(row, subject.origin_of(row)) for row in rows)


def _is_gain(row: ObjectiveStatus) -> bool:
    bound, interval = bound_of(row), row.interval
    if bound is None or interval is None or row.reason in DOUBTED:
        return False
    is_improvement = row.slo == IMPROVEMENT and row.judged == "candidate"
    if not is_improvement and "to stable" not in row.target:
        return False
    none = 1.0 if row.judged == "ratio" else 0.0
    end = interval.high if bound.is_upper else interval.low
    return end is not None and (end < none if bound.is_upper else end > none)


def _is_met(row: ObjectiveStatus) -> bool:
    bound, interval = bound_of(row), row.interval
    if bound is None or interval is None or interval.low is None or row.reason in DOUBTED:
        return False
    return interval.low >= bound.value


def experiments(subject: Subject) -> list[tuple[Action, ActionStatus]]:
    """Experiments of the plan that have met their criteria."""
    if subject.plan is None:
        return []
    rows = {row.id: row for row in subject.plan.status.actions}
    found = ((action, rows.get(action.id)) for action in subject.plan.spec.actions)
    return [
        (action, row)
        for action, row in found
        if action.kind is ActionKind.EXPERIMENT and row and row.state is ActionState.SUCCEEDED
    ]


def origin_of(row: ActionStatus) -> Origin | None:
    """Of the figures of an action."""
    evidence = row.evidence
    return Origin(evidence.run_id, evidence.artifact) if evidence and evidence.run_id and evidence.artifact else None
