"""Plans are executed in order, once, whatever happens to the process."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.api.action_plan import ActionState, PlanPhase, Priority
from ops_commander.api.conditions import ConditionType
from ops_commander.core import names
from ops_commander.core.plans.order import order, problems
from tests.unit.core.plans.simulation import START, Program, World, action, serving, spec

SUCCEEDED, FAILED, SKIPPED = ActionState.SUCCEEDED, ActionState.FAILED, ActionState.SKIPPED
CANCELLED = ActionState.CANCELLED
EVERY_KIND = (
    action("R", "LOW", "report"),
    action("C", "MEDIUM", "collect", successCriteria=["coverage >= 0.99"]),
    action("E", "MEDIUM", successCriteria=["gain > 0"]),
    action("S", "HIGH", "deploy", deploy={"environment": "shadow", "percent": None}),
    action("T", "HIGH", "test", successCriteria=["failed == 0"]),
    action("F", "LOW", "deploy", deploy={"percent": 100}),
    action("D", "HIGH", "deploy", deploy={"percent": 5}),
)


def world(*actions: dict[str, Any], **more: Any) -> World:
    made = World(spec(*actions, **more), {"E": Program({"gain": 0.1}), "T": Program({"failed": 0.0})})
    made.rollouts["ranker"] = serving()
    return made


def test_seven_actions_of_all_kinds_run_in_the_order_of_priority_and_of_the_file() -> None:
    it = world(*EVERY_KIND)

    it.live()

    assert it.started == ["S", "T", "D", "C", "E", "R", "F"]
    assert it.states() == dict.fromkeys("STDCERF", SUCCEEDED), it.status.message
    assert it.status.phase is PlanPhase.SUCCEEDED and it.status.progress == "7/7"
    assert {item.type: item.status for item in it.status.conditions} == {"Ready": "True", "Accepted": "True"}


def intervals(it: World) -> list[tuple[str, Any, Any]]:
    return [(row.priority, row.started_at, row.ended_at) for row in it.status.actions if row.started_at]


@pytest.fixture(scope="module")
def calm() -> World:
    """The same plan on a good day."""
    made = world(*EVERY_KIND)
    made.live()
    return made


@pytest.mark.parametrize("killed_at", range(1, 80))
def test_killed_at_any_write_it_goes_on_and_makes_nothing_twice(killed_at: int, calm: World) -> None:
    it = world(*EVERY_KIND)
    it.kill_at = {killed_at}

    it.live()

    assert it.states() == calm.states()
    assert sorted(it.created) == sorted(calm.created) and len(set(it.created)) == len(it.created)
    assert it.occurrences == calm.occurrences
    spans = intervals(it)
    assert all(before[2] <= after[1] for before, after in itertools.pairwise(spans))


@settings(max_examples=25, deadline=None)
@given(kills=st.sets(st.integers(1, 120), max_size=40))
def test_killed_again_and_again(kills: set[int]) -> None:
    it = world(*EVERY_KIND)
    it.kill_at = kills

    it.live()

    assert it.states() == dict.fromkeys("STDCERF", SUCCEEDED)
    assert len(set(it.created)) == len(it.created)


def test_an_ended_plan_is_left_alone() -> None:
    it = world(*EVERY_KIND)
    it.live()
    before = (it.status, it.writes)

    it.generation += 1  # somebody has applied the file again with another label
    it.live()

    assert it.states() == dict.fromkeys("STDCERF", SUCCEEDED)
    assert it.status.observed_generation == 2 and it.created == [*dict.fromkeys(it.created)]
    assert it.writes == before[1] + 2


def test_a_failed_high_action_stops_what_follows_and_the_report_says_so() -> None:
    it = world(action("T", "HIGH", "test"), action("E", "HIGH"), action("R", "LOW", "report"))
    it.programs["T"] = Program(fails=True)

    it.live()

    assert it.states() == {"T": FAILED, "E": SKIPPED, "R": SKIPPED}
    assert it.status.phase is PlanPhase.FAILED
    assert it.status.report is not None
    text = it.stored["run-plan/execution_progress_update.md"].decode()
    assert "**Stopped:** T (HIGH) failed: Job plan-t: ended" in text
    assert "never: skipped" in text


@pytest.mark.parametrize(
    ("policy", "states"),
    [
        ("StopOnHigh", {"T": FAILED, "E": SUCCEEDED, "R": SUCCEEDED}),
        ("Stop", {"T": FAILED, "E": SKIPPED, "R": SKIPPED}),
        ("Continue", {"T": FAILED, "E": SUCCEEDED, "R": SUCCEEDED}),
    ],
)
def test_a_failed_medium_action_stops_only_what_the_policy_says(policy: str, states: dict[str, ActionState]) -> None:
    it = world(action("T", "MEDIUM", "test"), action("E", "MEDIUM"), action("R", "LOW", "report"), failurePolicy=policy)
    it.programs["T"] = Program(fails=True)

    it.live()

    assert it.states() == states and it.status.phase is PlanPhase.FAILED


def test_what_depends_on_a_failed_action_is_skipped_and_so_is_what_depends_on_that() -> None:
    it = world(
        action("A", "MEDIUM"),
        action("B", "MEDIUM", dependsOn=["A"]),
        action("C", "LOW", dependsOn=["B"]),
        action("D", "LOW"),
        failurePolicy="Continue",
    )
    it.programs["A"] = Program(fails=True)

    it.live()

    assert it.states() == {"A": FAILED, "B": SKIPPED, "C": SKIPPED, "D": SUCCEEDED}
    assert "depends on B, which is Skipped" in it.status.actions[2].message


@pytest.mark.parametrize(
    ("criteria", "metrics", "reason"),
    [
        (["gain > 0"], {"gain": -1.0}, "CriteriaNotMet"),
        (["gain > 0"], {}, "MetricsMissing"),
        (["gain > 0"], {"gain": float("nan")}, "MetricsMissing"),
    ],
)
def test_criteria_are_read_from_the_run(criteria: list[str], metrics: dict[str, float], reason: str) -> None:
    it = world(action("E", successCriteria=criteria))
    it.programs["E"] = Program(metrics)

    it.live()

    row = it.status.actions[0]
    assert (row.state, row.reason) == (FAILED, reason)
    assert row.evidence and row.evidence.run_id == "run-plan-e"
    assert row.result and "@ run-plan-e" in row.result


def test_a_job_is_told_its_run_and_runs_once() -> None:
    it = world(action("E", experiment={"command": ["python"], "env": [{"name": "SEED", "value": "1"}]}))

    it.live()

    body, _ = it.jobs["plan-e"]
    container = body["spec"]["template"]["spec"]["containers"][0]
    env = {item["name"]: item["value"] for item in container["env"]}
    assert env["MLFLOW_TRACKING_URI"] == "http://mlflow" and env["MLFLOW_RUN_ID"] == "run-plan-e" and env["SEED"] == "1"
    assert body["spec"]["backoffLimit"] == 0 and body["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert body["metadata"]["ownerReferences"][0]["uid"] == it.uid


def test_a_window_that_is_not_covered_yet_is_waited_for() -> None:
    it = world(action("C", kind="collect", successCriteria=["coverage >= 0.99"]))
    it.window = lambda now: {"coverage": min(1.0, (now - START) / timedelta(hours=1))}

    it.live()

    row = it.status.actions[0]
    assert row.state is SUCCEEDED and row.ended_at is not None
    assert timedelta(minutes=59) < row.ended_at - START < timedelta(minutes=62)
    assert row.evidence and row.evidence.artifact == "collected/C.json" and row.evidence.sha256


def test_a_window_that_never_is_covered_fails_at_its_deadline() -> None:
    it = world(action("C", kind="collect", successCriteria=["coverage >= 0.99"]))
    it.window = lambda _: {"coverage": 0.5}

    it.live()

    row = it.status.actions[0]
    assert (row.state, row.reason) == (FAILED, "DeadlineExceeded") and "coverage = 0.5" in row.message


def test_cancel_ends_the_job_and_starts_nothing_more() -> None:
    it = world(action("E"), action("F"))
    for _ in range(8):
        it.step()
    assert it.jobs.keys() == {"plan-e"}

    it.spec = it.spec.model_copy(update={"cancel": True})
    it.live()

    assert it.states() == {"E": CANCELLED, "F": CANCELLED} and not it.jobs
    assert it.status.phase is PlanPhase.CANCELLED
    assert it.runs["uid-1/E"].state == "KILLED"


def test_mlflow_being_away_delays_and_loses_nothing() -> None:
    it = world(action("E", successCriteria=["gain > 0"]), action("R", "LOW", "report"))
    it.mlflow_is_away = True
    for _ in range(30):
        it.step()
        it.now += timedelta(seconds=5)
    assert it.states()["E"] is ActionState.RUNNING and not it.jobs

    it.mlflow_is_away = False
    it.live()

    assert it.states() == {"E": SUCCEEDED, "R": SUCCEEDED}


def test_without_mlflow_a_test_is_judged_by_its_exit_code_alone() -> None:
    it = world(action("T", kind="test"), action("U", kind="test", successCriteria=["failed == 0"]))
    it.mlflow = False

    it.live()

    assert it.states() == {"T": SUCCEEDED, "U": FAILED}
    assert it.status.actions[1].reason == "MLflowNotConfigured"


# --- plans that cannot be executed ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        ((action("A", dependsOn=["B"]), action("B", dependsOn=["A"])), "A depends on itself, by A → B → A"),
        ((action("A", dependsOn=["A"]),), "A → A"),
        ((action("A", dependsOn=["X"]),), "'X' is no action of the plan"),
        ((action("A", "HIGH", dependsOn=["B"]), action("B", "LOW")), "a lower one never starts before"),
        ((action("A"), action("a")), "is the id of action 0 already"),
        ((action("A", successCriteria=["open('x') < 1"]),), "is not part of the language"),
    ],
)
def test_a_plan_with_a_problem_is_stalled_and_nothing_starts(actions: tuple[dict[str, Any], ...], said: str) -> None:
    it = world(*actions)

    it.live()

    assert it.status.phase is PlanPhase.INVALID and said in (it.status.message or "")
    stalled = next(item for item in it.status.conditions if item.type == ConditionType.STALLED)
    assert stalled.status == "True" and stalled.reason == "InvalidPlan"
    assert not it.created and not it.started


# --- order ---------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Actions whose dependencies go to a higher priority, or back or forth within one without a cycle."""
    count = draw(st.integers(1, 12))
    ranks = [draw(st.sampled_from(list(Priority))) for _ in range(count)]
    rank = {priority: place for place, priority in enumerate(Priority)}
    hidden = draw(st.permutations(range(count)))  # an order without cycles
    found = []
    for index in range(count):
        allowed = [
            other
            for other in range(count)
            if rank[ranks[other]] < rank[ranks[index]]
            or (ranks[other] is ranks[index] and hidden[other] < hidden[index])
        ]
        needed = draw(st.sets(st.sampled_from(allowed), max_size=3)) if allowed else set()
        found.append(action(f"A{index}", ranks[index], dependsOn=[f"A{other}" for other in sorted(needed)]))
    return found


@given(plans())
def test_order_keeps_priorities_dependencies_and_otherwise_the_file(actions: list[dict[str, Any]]) -> None:
    plan = spec(*actions)
    assert not list(problems(plan))

    ordered = order(plan.actions)

    assert sorted(item.id for item in ordered) == sorted(item.id for item in plan.actions)
    ranks = [list(Priority).index(item.priority) for item in ordered]
    assert ranks == sorted(ranks)
    for place, item in enumerate(ordered):
        assert set(item.depends_on) <= {other.id for other in ordered[:place]}
    if not any(item.depends_on for item in plan.actions):
        for priority in Priority:
            mine = [item.id for item in plan.actions if item.priority is priority]
            assert [item.id for item in ordered if item.priority is priority] == mine


@settings(max_examples=30, deadline=None)
@given(plans(), st.sets(st.integers(0, 11), max_size=4), st.sampled_from(["StopOnHigh", "Stop", "Continue"]))
def test_no_action_starts_before_all_of_a_higher_priority_have_ended(
    actions: list[dict[str, Any]], failing: set[int], policy: str
) -> None:
    it = world(*actions, failurePolicy=policy)
    it.programs |= {f"A{index}": Program(fails=True) for index in failing}

    it.live()

    spans = intervals(it)
    assert all(before[2] <= after[1] for before, after in itertools.pairwise(spans))
    states = it.states()
    for item in it.spec.actions:
        if states[item.id] is SUCCEEDED:
            assert all(states[name] is SUCCEEDED for name in item.depends_on)
    high = [row for row in it.status.actions if row.priority is Priority.HIGH and row.state is FAILED]
    if high and policy != "Continue":
        after = it.status.actions[it.status.actions.index(high[0]) + 1 :]
        assert {row.state for row in after} <= {SKIPPED}


def test_a_plan_that_was_cancelled_before_it_began_reports_too() -> None:
    it = world(action("E"), cancel=True)

    it.live()

    assert it.states() == {"E": CANCELLED} and it.status.report is not None and it.created == ["run plan"]


def test_what_is_refused_fails_the_action_and_a_refused_report_ends_the_trying() -> None:
    it = world(action("E"))
    it.refused = "422: no such image"

    it.live()

    assert it.status.actions[0].reason == "Refused" and it.status.report is None


def test_a_deployment_is_reverted_by_cancel_while_mlflow_is_away() -> None:
    it = world({**action("D", kind="deploy"), "successCriteria": ["error_rate < 1"]})
    rollout = it.rollouts["ranker"]
    while rollout.status.step is None:
        rollout.move(it.now)
        it.step()
    it.trouble, it.spec = "MLflow: away", it.spec.model_copy(update={"cancel": True})

    it.live()

    assert it.states() == {"D": CANCELLED}
    assert rollout.status.deployment and rollout.annotations[names.ABORT] == rollout.status.deployment.id


def test_a_deployment_that_is_done_is_judged_once_its_metrics_can_be_read() -> None:
    it = world({**action("D", kind="deploy"), "successCriteria": ["gain > 0"]})
    it.trouble = "MLflow: away"
    for _ in range(30):
        it.rollouts["ranker"].move(it.now)
        it.step()
        it.now += timedelta(minutes=1)
    assert it.status.actions[0].reason == "NotKnown"

    it.trouble, it.model_metrics = None, {"gain": 0.2}
    it.live()

    assert it.states() == {"D": SUCCEEDED} and "gain = 0.2" in (it.status.actions[0].result or "")


def test_a_plan_of_many_criteria_and_its_status_fit_into_one_object() -> None:
    long = " + ".join(f"metric_{index}" for index in range(15)) + " < 1"
    one = {"title": "t" * 200, "owner": "o" * 100, "successCriteria": [long] * 16}
    it = World(spec(*({**action(f"A{index}", "LOW"), **one} for index in range(40)), failurePolicy="Continue"))

    it.live()

    assert set(it.states().values()) == {FAILED}
    plan = it.spec.model_dump_json(by_alias=True, exclude_none=True)
    status = it.status.model_dump_json(by_alias=True, exclude_none=True)
    assert len(plan) + len(status) < 0.4 * 1_300_000
