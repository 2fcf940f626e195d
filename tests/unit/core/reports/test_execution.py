"""The execution report: nine parts in their order, exact columns, no figure without its run, one honest verdict."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ops_commander.api.action_plan import ReportKind
from ops_commander.api.v1alpha1 import ObjectiveStatus, Trend, Verdict
from ops_commander.core.plans import naming
from ops_commander.core.reports import closing
from ops_commander.core.reports.closing import FinalVerdict
from ops_commander.core.reports.execution import MOST_WORDS, execution_report, summary
from ops_commander.core.reports.files import action_files, deployment_files
from ops_commander.core.reports.provenance import Origin, Provenance, figure, quantity, span
from ops_commander.core.reports.subject import Subject
from tests.unit.core.reports.cases import (
    CASES,
    DEPLOY_RUN,
    GRAFANA_RUN,
    Case,
    awaiting_votes,
    completed,
    failed_test,
    held,
    nothing_started,
    rolled_back,
    without_run,
)
from tests.unit.core.reports.markdown import NotStrict, Section, read

TITLES = [
    "DEPLOYMENT SUMMARY",
    "SLO STATUS TABLE",
    "SAFETY GATE STATUS",
    "INTEGRATION COMPATIBILITY MATRIX",
    "TEAM CONSENSUS",
    "EXECUTION PROGRESS (Actions from Planning Team)",
    "FINAL VERDICT",
    "RELAY NOTE (Innovation Channel)",
]
COLUMNS = {
    "SLO STATUS TABLE": ["SLO", "Target", "Observed", "CI95", "Status", "Trend", "Evidence"],
    "SAFETY GATE STATUS": ["Gate", "Threshold", "Observed", "Pass/Fail", "Evidence Path"],
    "INTEGRATION COMPATIBILITY MATRIX": [
        *("Component", "Schema Match", "Regression", "Latency Impact", "Composite Risk", "Verdict", "Evidence")
    ],
    "TEAM CONSENSUS": ["Agent", "Recommendation", "Risk Assessment", "Key Concern"],
}
FIGURES = {
    "SLO STATUS TABLE": ["Observed", "CI95"],
    "SAFETY GATE STATUS": ["Observed"],
    "INTEGRATION COMPATIBILITY MATRIX": ["Schema Match", "Regression", "Latency Impact", "Composite Risk"],
}
CLOSING = re.compile(r"Ops Commander Final Verdict: (GO|SHADOW ONLY|PAUSE_AND_FIX|REJECT) — ([^\n]+)\.")
WHOLE = (
    "all production metrics verified through MLflow and Grafana evidence, integration risk assessed,"
    " team consensus achieved, rollback ready"
)
NUMBER = re.compile(r"(?<![\w-])[-+−]?\d+(?:\.\d+)?(?:e-?\d+)?(?:ms|s|%)?(?![\w-])")
PROVED = re.compile(r"@ run_[\w.-]+")


def sections_of(case: Case) -> list[Section]:
    return read(execution_report(case.subject))


def named(sections: Iterable[Section], title: str) -> Section:
    return next(section for section in sections if section.title == title)


def assert_whole(sections: list[Section]) -> None:
    """All parts, in order, with their columns, and the closing line at the end."""
    assert [section.title for section in sections if section.level < 3] == ["Execution report", *TITLES]
    for title, columns in COLUMNS.items():
        assert [table.header for table in named(sections, title).tables] == [columns]
    assert [table for section in sections if section.title not in COLUMNS for table in section.tables] == []
    said = [
        text for section in sections for text in section.paragraphs if text.startswith("Ops Commander Final Verdict:")
    ]
    assert said == [sections[-1].paragraphs[-1]]
    assert CLOSING.fullmatch(said[0])


def assert_no_bare_figure(sections: list[Section]) -> None:
    for title, columns in FIGURES.items():
        for table in named(sections, title).tables:
            for cell in (cell for column in columns for cell in table.column(column)):
                assert not NUMBER.search(cell) or PROVED.search(cell), (title, cell)


@pytest.mark.parametrize("name", CASES)
def test_parts_and_columns_are_exact_and_in_order(name: str) -> None:
    sections = sections_of(CASES[name]())

    assert_whole(sections)
    assert_no_bare_figure(sections)


@pytest.mark.parametrize("name", CASES)
def test_the_summary_has_at_most_200_words(name: str) -> None:
    case = CASES[name]()
    long = case.rollout.model_copy(
        update={"metadata": {**case.rollout.metadata, "name": "word " * 500, "namespace": "other " * 500}}
    )

    assert 5 < len(summary(case.subject).split()) <= MOST_WORDS == 200
    assert len(summary(Subject(long, case.now)).split()) <= MOST_WORDS


@pytest.mark.parametrize("name", CASES)
def test_without_a_run_no_figure_is_printed_but_the_report_is_whole(name: str) -> None:
    case = replace(CASES[name](), provenance=Provenance())
    sections = sections_of(case)

    assert_whole(sections)
    live = [row for row in named(sections, "SLO STATUS TABLE").tables[0].rows if row[-1] == "—"]
    assert all(row[2] in ("not reported: no run", "not reported: not measured") for row in live)
    rows = [row for section in sections for table in section.tables for row in table.rows]
    assert not any("run_8724" in cell for row in rows for cell in row)


def test_a_figure_names_its_run_and_its_artifact() -> None:
    table = named(sections_of(completed()), "SLO STATUS TABLE").tables[0]
    rows = {row[0]: row for row in table.rows}

    assert rows["S2: p95-latency"][2:4] == ["47.5ms @ run_87245b5f0c7b", "0ms to 50ms @ run_87245b5f0c7b"]
    assert rows["S2: p95-latency"][-1] == f"{DEPLOY_RUN}/deployment.json"
    assert rows["S1: compliance"][2] == "0.15 @ run_2"
    assert rows["S1: compliance"][-1] == "run-2/evaluation/compliance.json"
    assert [row[0] for row in table.rows] == sorted(row[0] for row in table.rows)


def test_the_run_in_status_proves_figures_and_a_series_path_is_named() -> None:
    case = rolled_back()
    deployment = case.rollout.status.deployment
    assert deployment is not None
    status = case.rollout.status.model_copy(
        update={"deployment": deployment.model_copy(update={"deploy_run_id": "f00dfeed" * 4})}
    )
    known = Provenance(series_paths={"error-rate": "series/error-rate.csv"})
    subject = Subject(case.rollout.model_copy(update={"status": status}), case.now, provenance=known)
    rows = {row[0]: row for row in named(read(execution_report(subject)), "SLO STATUS TABLE").tables[0].rows}

    assert rows["S3: error-rate"][2] == "0 @ run_f00dfeedf00d"
    assert rows["S3: error-rate"][-1] == f"{'f00dfeed' * 4}/series/error-rate.csv"
    assert rows["S2: p95-latency"][-1] == f"{'f00dfeed' * 4}/deployment.json"


def test_what_was_not_judged_is_said() -> None:
    assert "Not judged: S4, S7." in named(sections_of(completed()), "SLO STATUS TABLE").paragraphs
    assert named(sections_of(nothing_started()), "SLO STATUS TABLE").tables[0].rows == []


# --- The verdict --------------------------------------------------------------------------------------


def final(case: Case) -> tuple[str, str]:
    found = CLOSING.fullmatch(sections_of(case)[-1].paragraphs[-1])
    assert found
    return found[1], found[2]


def test_the_closing_line_is_whole_where_all_of_it_is_true() -> None:
    assert final(completed()) == ("GO", WHOLE)


@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (completed, FinalVerdict.GO),
        (rolled_back, FinalVerdict.REJECT),
        (awaiting_votes, FinalVerdict.SHADOW_ONLY),
        (held, FinalVerdict.PAUSE_AND_FIX),
        (without_run, FinalVerdict.PAUSE_AND_FIX),
        (failed_test, FinalVerdict.PAUSE_AND_FIX),
        (nothing_started, FinalVerdict.PAUSE_AND_FIX),
    ],
)
def test_one_verdict_is_chosen(make: Any, verdict: FinalVerdict) -> None:
    assert final(make())[0] == verdict


def test_a_clause_that_is_not_true_says_what_is_missing() -> None:
    _, said = final(awaiting_votes())

    assert "all production metrics verified" not in said and "no Grafana run" in said
    assert "integration risk not assessed (nothing asks for the composite risk)" in said
    missing = "missing: Quality & Safety Officer, Ops Commander"
    assert f"team consensus not achieved ({missing})" in said
    assert said.endswith("rollback ready")


def test_without_mlflow_the_metrics_are_named_that_nothing_proves() -> None:
    _, said = final(replace(completed(), provenance=Provenance()))

    assert "production metrics not verified (no MLflow run for p95-latency, error-rate, integration-risk)" in said
    assert "integration risk not assessed (no run proves it)" in said


def changed(case: Case, **update: Any) -> Case:
    return replace(
        case, rollout=case.rollout.model_copy(update={"status": case.rollout.status.model_copy(update=update)})
    )


def test_each_clause_can_fail_alone() -> None:
    case = completed()
    bare = case.rollout.model_copy(update={"metadata": {"name": "ranker", "namespace": "shop"}})
    kept = case.rollout.model_copy(update={"spec": case.rollout.spec.model_copy(update={"revision_history_limit": 0})})
    broken = {
        "production metrics not verified (no Grafana run)": replace(case, rollout=bare),
        "integration risk not assessed (nothing asks for the composite risk)": changed(case, risk=None),
        "team consensus not achieved (no votes were asked for)": changed(case, quorum=None),
        "rollback not ready (revision 8lww2wbkxh is not kept)": replace(case, rollout=kept),
    }
    for number, (said, other) in enumerate(broken.items()):
        texts = [clause.text for clause in closing.clauses(other.subject)]
        assert texts[number] == said
        assert sum(text not in WHOLE for text in texts) == 1


def test_what_is_said_of_another_deployment_or_revision_is_left_out() -> None:
    case = completed()
    status = case.rollout.status
    assert status.verification and status.quorum and status.risk
    other = changed(
        case,
        verification=status.verification.model_copy(update={"revision": "otherother"}),
        quorum=status.quorum.model_copy(update={"deployment_id": "ranker-otherother-1"}),
    ).subject

    assert (other.verification, other.risk, other.quorum, other.votes) == (None, None, None, [])


def test_rows_from_before_the_deployment_are_left_out() -> None:
    case = rolled_back()
    old = [
        row.model_copy(update={"last_tick": row.last_tick and row.last_tick - timedelta(days=1)})
        for row in case.rollout.status.objectives
    ]

    assert changed(case, objectives=old).subject.rows == []
    foreign = ObjectiveStatus(
        name="compliance", verdict=Verdict.PASS, reason="Met", target="≥ 0.1", message="0.2 @ run-9", query="c",
        source="run-9/c.json",
    )  # fmt: skip
    assert foreign not in changed(completed(), objectives=[foreign]).subject.rows


# --- Other parts --------------------------------------------------------------------------------------


def test_votes_show_a_no_go_first_and_quote_the_concern() -> None:
    section = named(sections_of(completed()), "TEAM CONSENSUS")

    assert section.tables[0].rows[0] == [
        "Quality & Safety Officer",
        "NO-GO",
        "High",
        "“scores of Dutch queries fell by 3 %”",
    ]
    assert section.paragraphs[-1] == "Quorum: 2/3 GO votes → PROCEED TO CANARY 5%"
    waiting = named(sections_of(awaiting_votes()), "TEAM CONSENSUS")
    missing = "missing: Quality & Safety Officer, Ops Commander"
    assert waiting.paragraphs[-1] == f"Quorum: 1/3 GO votes, {missing} → HOLD"
    assert [row[1] for row in waiting.tables[0].rows] == ["GO", "missing", "missing"]


def test_the_plan_is_shown_by_priority_with_boxes() -> None:
    sections = sections_of(completed())
    progress = named(sections, TITLES[5])

    assert progress.items == [
        "Source: reports/handoff/pending_actions.json",
        "Meeting: meeting_20251014_120000",
    ]
    assert [section.title for section in sections if section.level == 3] == ["HIGH", "MEDIUM", "LOW"]
    high = named(sections, "HIGH").items
    assert high[0] == "[x] A1: Deploy V1.0 to production"
    assert [item.partition(":")[0] for item in high[1:]] == [
        *("Owner", "Estimate", "Status", "Evidence", "Result", "Expected completion")
    ]
    assert named(sections, "LOW").items[0].startswith("[ ] A6")


def test_a_gate_that_is_not_known_is_not_passed() -> None:
    rows = {row[0]: row for row in named(sections_of(without_run()), "SAFETY GATE STATUS").tables[0].rows}

    assert rows["Files verified"][3] == "Fail (not known)"
    assert rows["Recovery time"][2] == "not reported: no run"
    assert rows["Recovery time"][3] == "Pass"


def test_the_final_verdict_names_runs_and_deployment() -> None:
    items = named(sections_of(completed()), "FINAL VERDICT").items

    assert [item.partition(":")[0] for item in items] == [
        *("Deployment status", "Justification", "Next actions", "Risk mitigation", "Evidence summary")
    ]
    assert DEPLOY_RUN in items[-1] and GRAFANA_RUN in items[-1] and "ranker-27jgnvh5xp-2" in items[-1]


def test_files_of_a_deployment() -> None:
    both = {"reports/execution_report.md", "reports/innovation_report.md", "reports/audit.jsonl"}
    plots = {"reports/weights.svg", "reports/objectives.svg"}
    one, other = completed(), rolled_back()

    assert set(deployment_files(one.rollout, one.now)) == both | plots
    assert set(deployment_files(one.rollout, one.now, one.plan)) == both | plots | {
        "reports/execution_progress_update.md"
    }
    assert set(deployment_files(other.rollout, other.now)) == both | plots | {"reports/post_incident_report.md"}
    assert set(deployment_files(nothing_started().rollout, other.now)) == both


def test_a_plan_that_is_not_at_hand_is_named() -> None:
    case = completed()
    metadata = {**case.rollout.metadata, "annotations": {naming.BY_PLAN: "meeting|1"}}
    subject = Subject(case.rollout.model_copy(update={"metadata": metadata}), case.now)

    assert named(read(execution_report(subject)), TITLES[5]).items[0] == "Source: ActionPlan meeting|1"


def test_an_action_gets_the_kinds_of_report_that_it_asks_for() -> None:
    one, other = completed(), rolled_back()
    plan = one.plan
    assert plan is not None
    search = other.rollout.model_copy(update={"metadata": {"name": "search", "namespace": "shop"}})
    plots = {"weights.svg", "objectives.svg"}

    alone = action_files([ReportKind.PROGRESS, ReportKind.INNOVATION], plan, [one.rollout], one.now)
    both = action_files([ReportKind.EXECUTION], plan, [one.rollout, search], one.now)
    assert set(alone) == {"reports/execution_progress_update.md", "reports/innovation_report.md"}
    assert set(both) == {
        f"reports/{name}/{path}" for name in ("ranker", "search") for path in {"execution_report.md", *plots}
    }
    assert "A1" in both["reports/search/execution_report.md"]


# --- Words of figures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.463, "s", "463ms"),
        (2.5, "s", "2.5s"),
        (-0.004, "s", "-4ms"),
        (0.0042, "", "0.0042"),
        (120.0, "req/s", "120 req/s"),
        (3.0, "%", "3%"),
        (float("inf"), "s", "∞s"),
        (None, "s", None),
    ],
)
def test_a_quantity_is_short(value: float | None, unit: str, said: str | None) -> None:
    assert quantity(value, unit) == said


def test_a_figure_is_one_only_with_its_run() -> None:
    assert figure("463ms", Origin("8724", "series.csv")) == "463ms @ run_8724"
    assert figure("463ms", Origin("run_8724", "series.csv")) == "463ms @ run_8724"
    assert figure("463ms", Origin("| <b>", "x")) == "463ms @ run_b"
    assert figure("463ms", Origin("§", "x")) == "463ms @ run_unnamed"
    assert figure("463ms", None) == "not reported: no run"
    assert figure(None, Origin("8724", "x")) == "not reported: not measured"
    assert span(None) is None


def test_a_trend_is_shown_in_a_word() -> None:
    rows = [row.model_copy(update={"trend": Trend.RISING}) for row in rolled_back().rollout.status.objectives]
    table = named(sections_of(changed(rolled_back(), objectives=rows)), "SLO STATUS TABLE").tables[0]

    assert set(table.column("Trend")) == {"Rising"}


@pytest.mark.parametrize(
    "text",
    [
        "# A\n\n<b>bold</b>\n",
        "# A\n\n<div>\n",
        "# A\n\n[a](http://b.example)\n",
        "# A\n\n| a | b |\n| --- | --- |\n| 1 | 2 | 3 |\n",
        "# A\n\n    code\n",
        "before\n\n# A\n",
        "# A\n\n![x](http://b.example/x.svg)\n",
    ],
)
def test_the_reader_is_strict(text: str) -> None:
    with pytest.raises(NotStrict):
        read(text)
