"""The audit: one record for each action, with all seven parts, in order of time."""

from __future__ import annotations

import json

import pytest

from ops_commander.api.evidence import AliasState, AliasStatus, EvidenceStatus
from ops_commander.api.v1alpha1 import HistoryEntry, Outcome
from ops_commander.core.reports.audit import AuditRecord, audit_records, json_lines
from tests.unit.core.reports.cases import CASES, DEPLOY_RUN, Case, completed, nothing_started, rolled_back, without_run
from tests.unit.core.reports.test_execution import changed
from tests.unit.world import START

PARTS = ["deploymentId", "time", "actor", "what", "why", "evidence", "result"]


def records_of(case: Case) -> list[AuditRecord]:
    return audit_records(case.rollout, case.provenance)


@pytest.mark.parametrize("name", CASES)
def test_each_record_is_whole_and_they_are_in_order(name: str) -> None:
    text = json_lines(records_of(CASES[name]()))
    bodies = [json.loads(line) for line in text.splitlines()]

    assert all(list(body) == PARTS and all(body.values()) for body in bodies)
    assert [body["time"] for body in bodies] == sorted(body["time"] for body in bodies)


def test_every_transition_is_a_record() -> None:
    case = rolled_back()
    deployment = case.rollout.status.deployment
    assert deployment is not None
    times = [record.time for record in records_of(case) if record.deployment_id == deployment.id]

    assert {entry.at for entry in deployment.transitions} <= set(times)


def test_a_revert_is_told_with_its_evidence_and_its_times() -> None:
    found = {record.what: record for record in records_of(rolled_back())}
    start = found["start the revert in step 2 (canary 5%): to Reverting"]

    assert start.why.startswith("rule objective_breached: ObjectiveBreached: p95-latency: 0.9476s")
    assert start.evidence == f"tick 2026-01-05T09:02:05.000Z, {DEPLOY_RUN}/deployment.json"
    assert found["all traffic back to stable"].result == "0.550s after the breach was visible"
    assert found["candidate's pods gone, stable at size"].result == "5.560s after the breach was visible"


def test_who_did_it_is_told() -> None:
    by = {record.what.partition(":")[0]: record.actor for record in records_of(without_run())}
    assert by["start the revert in step 2 (canary 5%)"] == "person (annotation abort)"
    assert by["step 1 (shadow)"] == "operator"

    votes = [record for record in records_of(completed()) if record.what.startswith("vote")]
    assert [(record.actor, record.what) for record in votes] == [
        ("Infrastructure & Performance Monitor (infrastructure-monitor@example)", "vote GO, Low risk"),
        ("Quality & Safety Officer (quality-officer@example)", "vote NO-GO, High risk"),
        ("Ops Commander (ops-commander@example)", "vote GO, Low risk"),
    ]


def test_tests_files_and_the_ballot_are_actions_too() -> None:
    whats = [record.what for record in records_of(completed())]

    assert "verify the files of model version 2" in whats
    assert {"start the Smoke test smoke", "end the Regression test scores", "close the ballot"} <= set(whats)
    assert whats.index("end the Smoke test smoke") < whats.index("shift traffic to step shadow")


def test_what_was_written_to_mlflow_is_told() -> None:
    case = completed()
    deployment = case.rollout.status.deployment
    assert deployment is not None
    alias = AliasStatus(model="ranker", alias="champion", state=AliasState.MOVED, version="2", at=START)
    kept = EvidenceStatus(run_id=DEPLOY_RUN, written_at=START, is_complete=True, alias=alias)
    records = records_of(changed(case, deployment=deployment.model_copy(update={"evidence": kept})))

    assert {(record.what, record.result) for record in records if record.time == START} >= {
        ("write evidence to MLflow", "0 file(s), complete"),
        ("point alias champion of model ranker to version 2", "Moved"),
    }


def test_earlier_deployments_have_their_start_and_end() -> None:
    entry = HistoryEntry(
        deployment_id="ranker-x-1", revision="x", model_version="1", outcome=Outcome.ROLLED_BACK,
        reason="Aborted", started_at=START, ended_at=START,
    )  # fmt: skip
    records = records_of(changed(nothing_started(), history=[entry]))

    assert [(record.deployment_id, record.result, record.why) for record in records] == [
        ("ranker-x-1", "started", "spec asked for another version"),
        ("ranker-x-1", "RolledBack", "Aborted"),
    ]
