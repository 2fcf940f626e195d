"""The post-incident report: a timeline to the millisecond, causes ranked by evidence, and what is not known."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import DeploymentStatus, Trend
from ops_commander.api.verification import VerificationStatus, VerifiedComponent
from ops_commander.core.reports.causes import Strength, ranked
from ops_commander.core.reports.incident import post_incident_report
from ops_commander.core.reports.provenance import Provenance
from tests.unit.core.reports.cases import DEPLOY_RUN, Case, completed, failed_test, rolled_back, without_run
from tests.unit.core.reports.markdown import Section, read
from tests.unit.core.reports.test_execution import NUMBER, PROVED, changed, named

TITLES = [
    "SUMMARY",
    "TIMELINE",
    "OBJECTIVE AND FIRST BAD SAMPLE",
    "BASELINE AGAINST CANDIDATE",
    "ROOT CAUSE CANDIDATES",
    "WHAT WAS TRIED",
    "DURATIONS AGAINST THE RTO",
    "WHAT IS NOT KNOWN",
]
MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def sections_of(case: Case) -> list[Section]:
    return read(post_incident_report(case.subject))


def deployment_of(case: Case) -> DeploymentStatus:
    assert case.rollout.status.deployment is not None
    return case.rollout.status.deployment


def causes_of(case: Case) -> list[tuple[Strength, str]]:
    rollback = case.subject.rollback
    assert rollback is not None
    return [(cause.strength, cause.name) for cause in ranked(case.subject, rollback)]


def rolled_back_for(reason: str, message: str, **deployment: Any) -> Case:
    """The same revert, as if for another reason."""
    case = rolled_back()
    rollback = case.rollout.status.rollback
    assert rollback is not None
    other = rollback.model_copy(update={"reason": reason, "message": message, "objective": None})
    return changed(case, rollback=other, deployment=deployment_of(case).model_copy(update=deployment))


@pytest.mark.parametrize("make", [rolled_back, without_run, failed_test])
def test_parts_are_in_order(make: Any) -> None:
    assert [section.title for section in sections_of(make())] == ["Post-incident report", *TITLES]


def test_the_timeline_is_in_order_to_the_millisecond() -> None:
    table = named(sections_of(rolled_back()), "TIMELINE").tables[0]
    times, events = table.column("Time"), table.column("Event")

    assert times == sorted(times) and all(MILLISECONDS.fullmatch(time) for time in times)
    assert [event for event in events if not event.startswith(("running", "shifting", "preparing", "clearing"))] == [
        "deployment started",
        "starting: step 1 (shadow) to Clearing",
        "traffic of step shadow confirmed",
        "traffic of step canary 5% confirmed",
        "breach visible: p95-latency",
        "revert decided: ObjectiveBreached",
        "all traffic on stable",
        "candidate's pods gone, stable at size",
        "deployment ended: RolledBack",
    ]


def test_the_first_bad_sample_comes_from_the_recording() -> None:
    rollback = rolled_back().rollout.status.rollback
    items = named(sections_of(rolled_back()), TITLES[2]).items
    past = next(item for item in items if item.startswith("First sample past the target"))

    assert rollback is not None
    assert rollback.breach_visible_at.isoformat(timespec="milliseconds")[:23] in past
    assert past.endswith("947.6ms @ run_87245b5f0c7b")
    unknown = replace(rolled_back(), provenance=Provenance(deploy_run_id=DEPLOY_RUN))
    assert (
        "First sample past the target: not known without a recording (--recording)"
        in named(sections_of(unknown), TITLES[2]).items
    )


def test_candidate_stands_beside_stable() -> None:
    table = named(sections_of(rolled_back()), TITLES[3]).tables[0]
    row = next(row for row in table.rows if row[0] == "p95-latency")

    assert row[2:4] == ["947.6ms @ run_87245b5f0c7b", "47.5ms @ run_87245b5f0c7b"]
    for cell in (cell for name in ("Candidate", "Stable", "Judged", "CI95") for cell in table.column(name)):
        assert not NUMBER.search(cell) or PROVED.search(cell), cell


def test_durations_are_held_against_the_rto() -> None:
    table = named(sections_of(rolled_back()), TITLES[6]).tables[0]
    assert table.column("Duration") == [
        *("0.500s @ run_87245b5f0c7b", "0.550s @ run_87245b5f0c7b", "5.560s @ run_87245b5f0c7b")
    ]
    assert table.column("Pass/Fail") == ["Pass", "Pass", "Pass"]

    rollback = rolled_back().rollout.status.rollback
    assert rollback is not None
    late = rollback.model_copy(update={"replica_set_seconds": 120.001, "traffic_seconds": None})
    rows = named(sections_of(changed(rolled_back(), rollback=late)), TITLES[6]).tables[0].rows
    assert rows[1][1:4] == ["not reported: not measured", "≤ 120 s", "Fail (not known)"]
    assert rows[2][1:4] == ["120.001s @ run_87245b5f0c7b", "≤ 120 s", "Fail"]


def test_without_a_run_times_are_told_and_figures_are_not() -> None:
    sections = sections_of(without_run())

    assert set(named(sections, TITLES[6]).tables[0].column("Duration")) == {"not reported: no run"}
    assert "Figures: not reported: no run" in named(sections, TITLES[7]).items
    assert len(named(sections, "TIMELINE").tables[0].rows) > 5


# --- Causes -------------------------------------------------------------------------------------------


def test_the_objective_that_reverted_is_ranked_first_and_the_artifact_last() -> None:
    found = causes_of(rolled_back())

    assert found[0] == (Strength.DECISIVE, "Latency in step canary 5%: p95-latency")
    assert found[1] == (Strength.STRONG, "Latency in step canary 5%: p95-drift")
    assert found[-1] == (Strength.WEAK, "The artifact changed")


@pytest.mark.parametrize(
    ("reason", "message", "name"),
    [
        ("CandidateRestarted", "2 container restart(s) in ReplicaSet ranker-x", "Container restarts"),
        ("CandidateRestarted", "1 container restart(s): OOMKilled", "Container restarts"),
        ("CapacityLost", "no ready pod behind the candidate Service", "Pods not Ready"),
        ("CapacityLost", "no ready pod: 0/3 nodes: Insufficient nvidia.com/gpu", "Resource pressure"),
        ("ProgressDeadlineExceeded", "full not reached within 10m", "Pods or router not in time"),
        ("Aborted", "ordered by the annotation", "Order of a person"),
        ("DeadlineInconclusive", "shadow not proved within 1h", "Not proved within the step's maximum time"),
        ("ArtifactChanged", "model.onnx: sha256 is 12", "A file of the candidate changed after it was verified"),
        ("TestsNotFinished", "smoke running", "Tests did not end in time"),
        ("SomethingNew", "that nobody has heard of", "SomethingNew"),
    ],
)
def test_what_the_revert_was_decided_on_is_decisive(reason: str, message: str, name: str) -> None:
    found = causes_of(rolled_back_for(reason, message))

    assert (Strength.DECISIVE, name) in found
    assert found == sorted(found, key=lambda item: -item[0])


def test_memory_pressure_is_named_beside_the_restart() -> None:
    names = [name for _, name in causes_of(rolled_back_for("CandidateRestarted", "1 container restart(s): OOMKilled"))]

    assert names[:2] == ["Container restarts", "Resource pressure"]


def test_findings_of_files_and_failed_tests_are_candidates() -> None:
    case = failed_test()
    assert causes_of(case)[0] == (Strength.DECISIVE, "Regression test scores failed")
    assert (Strength.WEAK, "Dependencies differ") in causes_of(case)

    status = case.rollout.status.verification
    assert isinstance(status, VerificationStatus)
    bad = VerifiedComponent(name="lockfile", verdict=RiskVerdict.SHADOW_ONLY, message="cuda 12 against 11")
    found = causes_of(changed(case, verification=status.model_copy(update={"components": [bad]})))
    assert (Strength.STRONG, "Finding in lockfile") in found


def test_a_value_that_moves_the_wrong_way_is_a_weak_candidate() -> None:
    case = rolled_back()
    rows = [
        row.model_copy(update={"trend": Trend.RISING}) if row.name == "error-rate" else row
        for row in case.rollout.status.objectives
    ]

    assert (Strength.WEAK, "Behaviour in step canary 5%: error-rate") in causes_of(changed(case, objectives=rows))


def test_restarts_before_traffic_are_remembered() -> None:
    found = causes_of(rolled_back_for("Aborted", "ordered", restarts_at_start=3))

    assert (Strength.WEAK, "Container restarts") in found


def test_a_deployment_that_was_not_reverted_has_none() -> None:
    with pytest.raises(ValueError, match=r"status\.rollback of ranker is not of its latest deployment"):
        post_incident_report(completed().subject)
