"""The progress report and the table of the command, of the same plan."""

from __future__ import annotations

import re

from ops_commander.api.action_plan import ActionPlan
from ops_commander.api.fields import format_time
from ops_commander.cli.plan import table
from ops_commander.core.plans import progress
from tests.unit.core.plans.simulation import Program, World, action, serving, spec

TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
REPORT = """\
# Execution progress

- Plan: `plan`, meeting `meeting-1`
- Source: `reports/handoff/pending_actions.json` (sha256 `{sha}`)
- MLflow run: `run-plan`
- Written: TIME
- Phase: **Failed**: 1 of 4 succeeded, 1 failed, 2 skipped, 0 cancelled, 0 running, 0 pending
- **Stopped:** E (HIGH) failed: gain > 0 does not hold: gain = -0.5

## HIGH

- [x] **D**: Ranker 8 to 5 % &lt;now>
  - Owner: ops
  - Estimate: 5m
  - Status: Succeeded (Done): held in canary 5%: objectives met for 10m
  - Evidence: deployment `ranker-{revision}-1`
  - Result: none
  - Expected completion: ended TIME
- [ ] **E**: Action E
  - Owner: ops
  - Estimate: 5m
  - Status: Failed (CriteriaNotMet): gain > 0 does not hold: gain = -0.5
  - Evidence: run `run-plan-e`
  - Result: gain > 0: does not hold (gain = -0.5 @ run-plan-e)
  - Expected completion: ended TIME

## MEDIUM

- [ ] **C**: Action C
  - Owner: ops
  - Estimate: 5m
  - Status: Skipped (Stopped): not started: E of priority HIGH failed
  - Evidence: none
  - Result: none
  - Expected completion: never: skipped

## LOW

- [ ] **R**: Action R
  - Owner: ops
  - Estimate: 5m
  - Status: Skipped (Stopped): not started: E of priority HIGH failed
  - Evidence: none
  - Result: none
  - Expected completion: never: skipped
"""


def ended() -> World:
    deploy = {
        "target": "ranker",
        "environment": "production",
        "percent": 5,
        "model": {"name": "ranker", "version": "8"},
    }
    it = World(
        spec(
            action("R", "LOW", "report"),
            action("C", "MEDIUM", "collect"),
            {**action("D", kind="deploy", title="Ranker 8 to 5 % <now>"), "deploy": deploy},
            action("E", successCriteria=["gain > 0"]),
            source="reports/handoff/pending_actions.json",
            sourceSha256="a" * 64,
        ),
        {"E": Program({"gain": -0.5})},
    )
    it.rollouts["ranker"] = serving()
    it.live()
    return it


def body(it: World) -> ActionPlan:
    return ActionPlan(metadata={"name": "plan"}, spec=it.spec, status=it.status)


def test_the_report_has_an_entry_for_each_action() -> None:
    it = ended()
    deployment = it.rollouts["ranker"].status.deployment
    assert deployment is not None

    text = it.stored["run-plan/execution_progress_update.md"].decode()

    assert TIME.sub("TIME", text) == REPORT.format(sha="a" * 64, revision=deployment.revision)
    ends = [format_time(row.ended_at) for row in it.status.actions[:2] if row.ended_at]
    assert re.findall(r"completion: ended (.*)", text) == ends


def test_a_report_under_way_tells_what_is_expected() -> None:
    it = ended()
    it.status = it.status.model_copy(update={"actions": []})
    it.jobs.clear()
    it.runs.clear()
    it.rollouts["ranker"] = serving()
    it.step()

    text = progress.markdown("plan", it.spec, it.status, it.now)

    assert "1 running, 3 pending" in text and text.count("Result: none yet") == 4
    assert "Expected completion: 20" in text and "not known" not in text


def test_the_table_tells_the_same_in_the_order_of_execution() -> None:
    lines = table(body(ended())).splitlines()

    assert lines[0] == "plan  Failed  4/4: E failed: gain > 0 does not hold: gain = -0.5 (2 not started)"
    assert lines[1].split() == ["PRIORITY", "ID", "STATE", "EXPECTED", "TITLE", "MESSAGE"]
    assert [line.split()[:3] for line in lines[2:]] == [
        ["HIGH", "D", "Succeeded"],
        ["HIGH", "E", "Failed"],
        ["MEDIUM", "C", "Skipped"],
        ["LOW", "R", "Skipped"],
    ]


def test_the_table_of_a_plan_that_nobody_has_looked_at() -> None:
    assert table(ActionPlan(metadata={"name": "plan"}, spec=ended().spec)).splitlines()[0] == "plan  Pending  0/?"


def test_text_of_others_starts_no_markup_and_no_terminal_sequence() -> None:
    it = World(spec(action("A", title="\x1b[31m`<script>` | \n# x"), meetingId="m`\n# y"))
    it.step()

    text = progress.markdown("plan", it.spec, it.status, it.now)

    assert "\x1b" not in text and "<script>" not in text and "\n# x" not in text and "\n# y" not in text
    assert "\x1b" not in table(body(it))
