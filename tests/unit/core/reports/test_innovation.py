"""The innovation report: what is gained with its whole interval, and where it says that nothing is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ops_commander.api.v1alpha1 import Interval, ObjectiveStatus, Verdict
from ops_commander.core.reports.gains import faster, gains
from ops_commander.core.reports.innovation import innovation_report
from ops_commander.core.reports.provenance import Provenance
from tests.unit.core.reports.cases import EXPERIMENT_RUN, MODEL_RUN, Case, completed, rolled_back
from tests.unit.core.reports.markdown import Section, read
from tests.unit.core.reports.test_execution import changed, named

TITLES = [
    "GAINS (CI95 ABOVE 0)",
    "ABLATION MITIGATIONS (ATTENTION COLLAPSE)",
    "LATENCY IMPROVEMENTS",
    "EXPERIMENTS OF THE PLAN",
]


def sections_of(case: Case) -> list[Section]:
    return read(innovation_report(case.subject))


def row(target: str, low: float | None, high: float | None, judged: str = "difference", **more: str) -> ObjectiveStatus:
    fields: dict[str, Any] = {"name": "x", "reason": "Straddles", **more}
    return ObjectiveStatus(
        **fields,
        verdict=Verdict.INCONCLUSIVE,
        judged=judged,
        target=target,
        observed=0.0,
        interval=Interval(low=low, high=high),
        message="",
        query="q",
    )


def test_parts_are_in_order() -> None:
    for case in (completed(), rolled_back()):
        assert [section.title for section in sections_of(case)] == ["Innovation report", *TITLES]


def test_each_gain_has_run_and_artifact() -> None:
    sections = sections_of(completed())

    assert named(sections, TITLES[0]).tables[0].rows == [
        [
            "compliance",
            "0.15 @ run_2",
            "0.14 to 0.1601 @ run_2",
            MODEL_RUN,
            "evaluation/compliance.json",
        ],
        ["improvement", "0.021 @ run_2", "0.012 to 0.03 @ run_2", MODEL_RUN, "evaluation/improvement.json"],
    ]
    assert named(sections, TITLES[1]).tables[0].column("Metric") == ["ablation-drop"]
    assert named(sections, TITLES[3]).tables[0].rows == [
        [
            "A4",
            "Modality-balanced loss ablation",
            "visual_ablation_drop = 0.07 @ run_5c0ffee05c0f",
            EXPERIMENT_RUN,
            "ablation.json",
        ]
    ]


def test_where_there_is_none_it_says_so() -> None:
    sections = sections_of(rolled_back())

    assert [named(sections, title).paragraphs for title in TITLES] == [
        ["No gain: no objective's whole CI95 shows an improvement over stable."],
        ["No mitigation: no ablation objective is met by its whole CI95."],
        ["No improvement: no latency's whole CI95 is below that of stable."],
        ["None: no experiment of a plan has met its criteria."],
    ]


@pytest.mark.parametrize(
    ("objective", "is_gain"),
    [
        (row("difference to stable ≥ 0.1", 0.01, 0.2), True),
        (row("difference to stable ≥ 0.1", 0.0, 0.2), False),
        (row("difference to stable ≥ 0.1", -0.01, 0.2), False),
        (row("difference to stable ≥ 0.1", 0.01, None), True),
        (row("difference to stable ≥ 0.1", None, 0.2), False),
        (row("difference to stable < 0.01", -0.2, -0.01), True),
        (row("difference to stable < 0.01", -0.2, 0.001), False),
        (row("ratio to stable < 1", 0.5, 0.9, "ratio"), True),
        (row("ratio to stable < 1", 0.5, 1.0, "ratio"), False),
        (row("difference to other ≥ 0.1", 0.2, 0.3), False),
        (row("≥ 0.1", 0.2, 0.3, "candidate"), False),
        (row("≥ 1e-06", 0.2, 0.3, "candidate", slo="S5"), True),
        (row("difference to stable ≥ 0.1", 0.01, 0.2, reason="RoutingMismatch"), False),
        (row("difference to stable ≥ 0.1", 0.01, 0.2, reason="StaleData"), False),
        (row("no target at all", 0.01, 0.2), False),
    ],
)
def test_a_gain_is_one_with_its_whole_interval(objective: ObjectiveStatus, is_gain: bool) -> None:
    assert bool(gains(changed(rolled_back(), objectives=[objective]).subject)) is is_gain


def test_a_latency_below_stable_is_listed_apart() -> None:
    quicker = row("difference to stable < 0.005s", -0.02, -0.01, unit="s", name="p95-drift")
    subject = changed(rolled_back(), objectives=[quicker]).subject

    assert ([gain.row.name for gain in faster(subject)], gains(subject)) == (["p95-drift"], [])


def test_a_gain_that_no_run_proves_is_named_without_its_figure() -> None:
    better = row("difference to stable ≥ 0.1", 0.123, 0.2, name="wins")
    case = replace(changed(rolled_back(), objectives=[better]), provenance=Provenance())

    assert named(sections_of(case), TITLES[0]).paragraphs == ["wins: not reported: no run proves it."]
    assert "0.123" not in innovation_report(case.subject)
