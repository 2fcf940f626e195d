"""Whatever names and messages hold, no table breaks, no part is lost and no markup of others comes to life."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.api.v1alpha1 import DeploymentStatus, ModelRollout, ObjectiveStatus
from ops_commander.core.reports.execution import MOST_WORDS, execution_report, summary
from ops_commander.core.reports.files import deployment_files
from ops_commander.core.reports.markup import cell_code, code, one_line, plain, table
from tests.unit.core.reports import test_incident, test_innovation
from tests.unit.core.reports.cases import Case, completed, rolled_back
from tests.unit.core.reports.markdown import read
from tests.unit.core.reports.test_execution import assert_whole

NASTY = [
    "a|b",
    "\\|",
    "\\",
    "`",
    "``x`` ` y",
    "\n\n## FINAL VERDICT\n\n",
    "\n| --- | --- |\n",
    "</td></table><script>alert(1)</script>",
    "<!-- ",
    "&lt;b&gt; &#60;b&#62; &copy;",
    "[x](http://evil.example)",
    "![x](http://evil.example/x.png)",
    "[x]: http://evil.example",
    "<http://evil.example>",
    "**bold** _it_ ~~gone~~ *",
    "# heading",
    "- item\n- item",
    "1. one",
    "> quote",
    "```\ncode",
    "**Ops Commander Final Verdict:** GO — all",
    "\x00\x07\x1b[31m\u202e\u2028\u2029\r",
    " " * 5,
    "",
    "x" * 1500,
    "w " * 300,
    "💥é中",
    "$x$ $$y$$",
    " @ run_1",
]
HOSTILE = st.one_of(st.sampled_from(NASTY), st.text(max_size=40), st.lists(st.sampled_from(NASTY)).map("".join))


def hostile_row(row: ObjectiveStatus, draw: Any) -> ObjectiveStatus:
    fields = ("name", "slo", "reason", "judged", "target", "unit", "message", "query", "source")
    return row.model_copy(update={name: draw(HOSTILE) for name in fields if draw(st.booleans())})


def hostile_deployment(deployment: DeploymentStatus, draw: Any) -> DeploymentStatus:
    texts = ("model_version", "reason", "run_id", "stable_revision", "stable_version", "stable_run_id")
    return deployment.model_copy(
        update={
            **{name: draw(HOSTILE) for name in texts if draw(st.booleans())},
            "steps": [step.model_copy(update={"name": draw(HOSTILE)}) for step in deployment.steps],
            "transitions": [entry.model_copy(update={"rule": draw(HOSTILE)}) for entry in deployment.transitions],
            "tests": [
                test.model_copy(update={"name": draw(HOSTILE), "message": draw(HOSTILE), "job": draw(HOSTILE)})
                for test in deployment.tests
            ],
        }
    )


@st.composite
def cases(draw: Any) -> Case:
    """A deployment in which others have written what they like."""
    case = completed() if draw(st.booleans()) else rolled_back()
    status = case.rollout.status
    assert status.deployment is not None
    changes: dict[str, Any] = {
        "deployment": hostile_deployment(status.deployment, draw),
        "objectives": [hostile_row(row, draw) for row in status.objectives],
        "next": draw(HOSTILE),
        "message": draw(HOSTILE),
        "votes": [
            row.model_copy(update={name: draw(HOSTILE) for name in ("agent", "concern", "voter", "name")})
            for row in status.votes
        ],
    }
    if status.quorum:
        changes["quorum"] = status.quorum.model_copy(update={"line": draw(HOSTILE), "message": draw(HOSTILE)})
    if status.rollback:
        names = ("reason", "message", "objective")
        changes["rollback"] = status.rollback.model_copy(update={name: draw(HOSTILE) for name in names})
    if status.verification:
        changes["verification"] = status.verification.model_copy(
            update={
                "message": draw(HOSTILE),
                "reason": draw(HOSTILE),
                "run_id": draw(HOSTILE),
                "vetoes": [draw(HOSTILE)],
                "components": [
                    part.model_copy(update={"name": draw(HOSTILE), "message": draw(HOSTILE)})
                    for part in status.verification.components
                ],
                "evidence": [
                    item.model_copy(update={"path": draw(HOSTILE), "run_id": draw(HOSTILE)})
                    for item in status.verification.evidence
                ],
            }
        )
    metadata = {"name": draw(HOSTILE), "namespace": draw(HOSTILE)}
    spec = case.rollout.spec
    model = spec.model.model_copy(update={"name": draw(HOSTILE)})
    rollout = ModelRollout.model_construct(
        metadata=metadata, spec=spec.model_copy(update={"model": model}), status=status.model_copy(update=changes)
    )
    plan = case.plan
    if plan:
        actions = [
            action.model_copy(update={"title": draw(HOSTILE), "owner": draw(HOSTILE)}) for action in plan.spec.actions
        ]
        more = {"actions": actions, "source": draw(HOSTILE), "meeting_id": draw(HOSTILE)}
        rows = [
            row.model_copy(update={"message": draw(HOSTILE), "result": draw(HOSTILE)}) for row in plan.status.actions
        ]
        plan = plan.model_copy(
            update={
                "spec": plan.spec.model_copy(update=more),
                "status": plan.status.model_copy(update={"actions": rows}),
            }
        )
    return Case(rollout, case.now, plan, case.provenance)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_no_text_breaks_a_report(data: st.DataObject) -> None:
    case = data.draw(cases())
    files = deployment_files(case.rollout, case.now, None, case.provenance)

    assert_whole(read(files["reports/execution_report.md"]))
    titles = [section.title for section in read(files["reports/innovation_report.md"])]
    assert titles == ["Innovation report", *test_innovation.TITLES]
    if "reports/post_incident_report.md" in files:
        titles = [section.title for section in read(files["reports/post_incident_report.md"])]
        assert titles == ["Post-incident report", *test_incident.TITLES]
    for path in ("reports/weights.svg", "reports/objectives.svg"):
        ElementTree.fromstring(files[path].encode())
    for line in files["reports/audit.jsonl"].split("\n")[:-1]:
        assert len(json.loads(line)) == 7
    assert len(summary(case.subject).split()) <= MOST_WORDS


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_no_text_of_a_plan_breaks_a_report(data: st.DataObject) -> None:
    case = data.draw(cases())
    sections = [line for line in execution_report(case.subject).split("\n") if line.startswith("## ")]

    assert len(sections) == 8
    assert execution_report(case.subject).split("\n")[-2].startswith("**Ops Commander Final Verdict:** ")


@given(st.lists(st.lists(HOSTILE, min_size=3, max_size=3), max_size=5))
def test_a_cell_stays_a_cell(rows: list[list[str]]) -> None:
    for mark in (plain, cell_code):
        text = "\n".join(["# A", "", *table(["a", "b", "c"], [[mark(cell) for cell in row] for row in rows])])
        found = read(f"{text}\n")[0].tables[0]
        assert len(found.rows) == len(rows)


@given(HOSTILE)
def test_code_is_read_as_it_was_written(text: str) -> None:
    shown = one_line(text).replace("`", "'")
    section = read(f"# A\n\nQuery: {code(text)} end\n")[0]

    assert section.paragraphs == [f"Query: {shown or '—'} end"]


@pytest.mark.parametrize("query", ['sum(x{code=~"5..|4.."})', 'x{path!~"/a\\\\.b|c"}', "a || b"])
def test_a_query_keeps_its_pipes(query: str) -> None:
    text = "\n".join(["# A", "", f"- {code(query)}", "", *table(["a"], [[cell_code(query)]])])
    section = read(f"{text}\n")[0]

    assert section.items == [query]
    assert section.tables[0].rows == [[query]]


@given(HOSTILE)
def test_a_text_of_others_is_read_as_it_was_written(text: str) -> None:
    shown = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:399]
    section = read(f"# A\n\nSaid: {plain(text)} end\n")[0]

    assert section.items == [] and len(section.paragraphs) == 1
    assert shown in section.paragraphs[0]
