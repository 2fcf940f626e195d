"""Deploy actions: how far a rollout goes, where it stays, and what becomes of it when the plan gives up."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ops_commander.api.action_plan import ActionState, Deploy
from ops_commander.api.v1alpha1 import ModelRolloutSpec, ObjectiveStatus, StepState, Verdict
from ops_commander.core import names
from ops_commander.core.plans import naming
from ops_commander.core.plans.deploying import FOUND_AGAIN_WITHIN
from ops_commander.core.plans.observed import PlanView, RolloutView
from ops_commander.core.plans.rollouts import CannotDeploy, merged, own_steps, steps_for, wanted
from tests.unit.core.plans.simulation import ROLLOUT, FakeRollout, World, action, serving, spec

OWN: list[dict[str, Any]] = ROLLOUT["steps"]
YEAR = {"minDuration": "8760h", "maxDuration": "8760h"}


def deploy(environment: str = "production", percent: int | None = None, **more: Any) -> dict[str, Any]:
    model = {"name": "ranker", "version": "8"}
    return {"target": "ranker", "environment": environment, "percent": percent, "model": model, **more}


def world(*actions: dict[str, Any], rollout: FakeRollout | None = None, **more: Any) -> World:
    made = World(spec(*actions, **more))
    made.rollouts["ranker"] = rollout or serving()
    return made


def deploying(identity: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    return {**action(identity, kind="deploy", **more), "deploy": deploy(*arguments)}


# --- steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "own", "labels", "hold"),
    [
        (("shadow",), OWN, ["shadow", "canary 25%", "full"], 0),
        (("shadow",), OWN[1:], ["shadow", "canary 25%", "full"], 0),
        (("production", 5), OWN, ["shadow", "canary 5%", "canary 25%", "full"], 1),
        (("production", 25), OWN, ["shadow", "canary 25%", "full"], 1),
        (("production", 50), OWN, ["shadow", "canary 25%", "canary 50%", "full"], 2),
        (("production", 50), OWN[2:], ["canary 50%", "full"], 0),
        (("production", 100), OWN, ["shadow", "canary 25%", "full"], None),
        (("staging",), OWN, ["shadow", "canary 25%", "full"], None),
    ],
)
def test_the_step_of_the_target_lasts_and_the_others_stay(
    arguments: tuple[Any, ...], own: list[dict[str, Any]], labels: list[str], hold: int | None
) -> None:
    before = copy.deepcopy(own)

    steps = steps_for(Deploy.model_validate(deploy(*arguments)), own)

    body = {**copy.deepcopy(ROLLOUT), "steps": steps.raw}
    assert [step.label for step in ModelRolloutSpec.model_validate(body).steps] == labels
    assert steps.hold == hold and own == before
    held = [index for index, step in enumerate(steps.raw) if YEAR.items() <= next(iter(step.values())).items()]
    assert held == ([] if hold is None else [hold])


def view_of(rollout: FakeRollout) -> RolloutView:
    return RolloutView("ranker", 1, rollout.annotations, rollout.spec, rollout.status, rollout.raw)


def test_the_next_action_starts_from_the_rollouts_own_steps_unless_somebody_changed_them() -> None:
    rollout = serving()
    it = world(deploying("A", "shadow"), rollout=rollout)
    it.live()
    assert rollout.spec.steps[0].min_duration.days == 365
    assert own_steps(view_of(rollout)) == OWN

    rollout.raw["steps"] = [{"full": {}}]

    assert own_steps(view_of(rollout)) == [{"full": {}}]


def test_shadow_then_a_share_then_all_of_production() -> None:
    it = world(deploying("A", "shadow"), deploying("B", "production", 5), deploying("C", "production", 100))
    seen: list[str] = []
    move = it.rollouts["ranker"].move

    def moved(now: Any) -> None:
        move(now)
        step = it.rollouts["ranker"].status.step
        if step and (not seen or seen[-1] != step.name):
            seen.append(step.name)

    it.rollouts["ranker"].move = moved  # type: ignore[method-assign]

    it.live()

    assert it.states() == dict.fromkeys("ABC", ActionState.SUCCEEDED), it.status.message
    assert seen[:2] == ["shadow", "canary 5%"] and seen[-1] == "full"
    assert [row.message for row in it.status.actions] == [
        "held in shadow: objectives met for 1m",
        "held in canary 5%: objectives met for 10m",
        "version 8 serves all requests",
    ]
    assert it.rollouts["ranker"].status.deployments == 1  # one deployment, carried on
    assert it.rollouts["ranker"].raw["steps"] == OWN


def test_a_target_behind_the_deployment_is_refused_because_nothing_would_hold_it() -> None:
    it = world(deploying("A", "production", 50), deploying("B", "production", 5), failurePolicy="Continue")

    it.live()

    row = it.status.actions[1]
    assert (row.state, row.reason) == (ActionState.FAILED, "AlreadyFurther")
    assert it.rollouts["ranker"].status.step is not None
    assert it.rollouts["ranker"].status.step.name == "canary 50%"


# --- endings -------------------------------------------------------------------------------------


def test_a_rollback_fails_the_action_with_its_words() -> None:
    rollout = serving()
    rollout.is_bad = True
    it = world(deploying("A", "production", 100), deploying("B", "shadow"), rollout=rollout)

    it.live()

    row = it.status.actions[0]
    assert (row.state, row.reason) == (ActionState.FAILED, "RolledBack") and "too bad" in row.message
    assert row.evidence and row.evidence.deployment_id == rollout.status.deployment.id  # type: ignore[union-attr]
    assert it.states()["B"] is ActionState.SKIPPED


def test_criteria_of_a_held_deployment_are_waited_for_and_then_it_is_reverted() -> None:
    rollout = serving()
    row = ObjectiveStatus(
        name="p95-latency",
        verdict=Verdict.PASS,
        reason="Met",
        observed=0.3,
        target="< 0.5",
        unit="s",
        message="",
        query="",
    )
    rollout.status = rollout.status.model_copy(update={"objectives": [row]})
    it = world(deploying("A", "shadow", successCriteria=["p95_latency_ms < 500", "p95_latency < 0.2"]), rollout=rollout)

    it.live()

    done = it.status.actions[0]
    assert (done.state, done.reason) == (ActionState.FAILED, "DeadlineExceeded")
    assert [item.holds for item in done.criteria] == [True, False]
    assert "p95_latency < 0.2 (p95_latency = 0.3)" in done.message
    deployment = rollout.status.deployment
    assert deployment and rollout.annotations[names.ABORT] == deployment.id


def in_shadow() -> World:
    """Held by a plan, with what was found of it before the process ended."""
    it = world(deploying("A", "shadow"), rollout=serving())
    while it.rollouts["ranker"].status.step is None:
        it.step()
        it.rollouts["ranker"].move(it.now)
    it.now += timedelta(seconds=50)
    it.rollouts["ranker"].move(it.now)
    it.step()
    assert it.rollouts["ranker"].status.verdict is Verdict.PASS
    it.begun = it.now
    return it


def test_a_pass_of_a_process_that_is_gone_is_not_believed_before_the_next_one_has_looked() -> None:
    it = in_shadow()
    assert it.begun is not None
    it.now = it.begun + timedelta(seconds=20)  # the shortest time is over by now
    it.step()
    assert it.states()["A"] is ActionState.RUNNING

    it.now = it.begun + FOUND_AGAIN_WITHIN
    it.step()

    assert it.status.actions[0].message == "held in shadow: objectives met for 1m"


@pytest.mark.parametrize(
    ("reason", "is_late"), [("CatchingUp", False), ("Straddles", True)], ids=["still being read", "known"]
)
def test_a_deadline_does_not_pass_while_a_new_process_reads_what_the_one_before_knew(
    reason: str, is_late: bool
) -> None:
    it = in_shadow()
    rollout = it.rollouts["ranker"]
    row = ObjectiveStatus(name="errors", verdict=Verdict.INCONCLUSIVE, reason=reason, target="", message="", query="")
    changes = {"verdict": Verdict.INCONCLUSIVE, "objectives": [row]}
    rollout.status = rollout.status.model_copy(update=changes)
    it.now += timedelta(minutes=11)  # of ten that it has

    it.step()

    assert (names.ABORT in rollout.annotations) is is_late


def test_cancel_reverts_a_deployment_under_way_and_leaves_one_that_has_ended() -> None:
    it = world(deploying("A", "production", 100), deploying("B", "shadow"))
    while it.rollouts["ranker"].status.step is None:
        it.rollouts["ranker"].move(it.now)
        it.step()
    it.spec = it.spec.model_copy(update={"cancel": True})

    it.live()

    rollout = it.rollouts["ranker"]
    assert it.states() == dict.fromkeys("AB", ActionState.CANCELLED)
    assert rollout.status.deployment and rollout.annotations[names.ABORT] == rollout.status.deployment.id


def test_somebody_else_changing_the_version_ends_the_action_and_nobody_fights() -> None:
    it = world(deploying("A", "production", 100))
    rollout = it.rollouts["ranker"]
    while rollout.status.step is None:
        rollout.move(it.now)
        it.step()
    rollout.raw["model"] = {"name": "ranker", "version": "9"}
    rollout.generation += 1

    it.live()

    assert it.status.actions[0].reason == "Superseded"
    assert rollout.raw["model"]["version"] == "9" and names.ABORT not in rollout.annotations


@pytest.mark.parametrize("environment", ["shadow", "production"])
def test_a_first_version_goes_nowhere_in_part(environment: str) -> None:
    rollout = FakeRollout(copy.deepcopy(ROLLOUT))
    it = world(deploying("A", environment, None if environment == "shadow" else 5), rollout=rollout)

    it.live()

    assert it.status.actions[0].reason == "NothingStable"


def test_a_rollout_that_does_not_exist_is_made_where_the_action_says_how() -> None:
    made = World(spec({**action("A", kind="deploy"), "deploy": deploy("staging", rollout=copy.deepcopy(ROLLOUT))}))
    made.step()
    made.step()

    rollout = made.rollouts["ranker-staging"]
    assert rollout.spec.model.version == "8" and rollout.annotations[naming.BY_PLAN] == "plan"
    rollout.settle()
    made.live()
    assert made.states() == {"A": ActionState.SUCCEEDED}


def test_a_rollout_that_does_not_exist_fails_the_action_where_it_does_not() -> None:
    it = World(spec(action("A", kind="deploy")))

    it.live()

    assert it.status.actions[0].reason == "RolloutNotFound"
    assert "expected a ModelRollout ranker in this namespace" in it.status.actions[0].message


# --- what is applied -----------------------------------------------------------------------------


def plan() -> PlanView:
    made = World(spec(action("A", kind="deploy")))
    return made.view()


def test_only_what_the_action_is_about_is_set() -> None:
    manifest, _ = wanted(plan(), plan().spec.actions[0], view_of(serving()))

    assert manifest["spec"].keys() == {"model", "steps"}
    assert manifest["metadata"]["annotations"] == {naming.BY_PLAN: "plan", naming.BY_ACTION: "uid-1/A"}


def test_a_template_is_merged_and_said_again_as_long_as_plans_own_it() -> None:
    patch = {"spec": {"containers": [{"name": "server", "image": "ranker:8"}]}}
    action_ = spec({**action("A", kind="deploy"), "deploy": deploy("production", 100, template=patch)}).actions[0]
    rollout = serving()
    rollout.raw["template"]["spec"]["nodeSelector"] = {"gpu": "yes"}

    manifest, _ = wanted(plan(), action_, view_of(rollout))
    again, _ = wanted(plan(), plan().spec.actions[0], replace(view_of(rollout), by_plans=frozenset({"template"})))

    assert manifest["spec"]["template"] == {
        "spec": {"containers": [{"name": "server", "image": "ranker:8"}], "nodeSelector": {"gpu": "yes"}}
    }
    assert again["spec"]["template"] == rollout.raw["template"]


def test_the_candidates_manifest_is_verified() -> None:
    body = deploy("production", 100, candidateManifest="candidates/8/candidate_manifest.yaml")
    action_ = spec({**action("A", kind="deploy"), "deploy": body}).actions[0]

    manifest, _ = wanted(plan(), action_, view_of(serving()))

    assert manifest["spec"]["preflight"] == {"manifest": "candidates/8/candidate_manifest.yaml"}


@pytest.mark.parametrize(
    ("base", "patch", "result"),
    [
        ({"a": 1, "b": 2}, {"b": None, "c": 3}, {"a": 1, "c": 3}),
        ([{"name": "a", "v": 1}], [{"name": "b", "v": 2}], [{"name": "a", "v": 1}, {"name": "b", "v": 2}]),
        ([{"name": "a", "v": 1, "w": 0}], [{"name": "a", "v": 2}], [{"name": "a", "v": 2, "w": 0}]),
        (["x"], ["y"], ["y"]),
        (None, {"a": 1}, {"a": 1}),
    ],
)
def test_merging(base: Any, patch: Any, result: Any) -> None:
    assert merged(base, patch) == result


def test_steps_without_a_full_one_are_no_place_for_a_share() -> None:
    with pytest.raises(CannotDeploy, match="no full step"):
        steps_for(Deploy.model_validate(deploy("production", 50)), [{"canary": {"weight": 5}}])


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({"name": "ranker", "version": "7", "runId": "r7"}, "model.runId r7"),
        ({"name": "ranker", "alias": "champion"}, "model.alias champion"),
    ],
)
def test_what_is_of_the_version_before_is_not_left_beside_the_new_one(before: dict[str, Any], said: str) -> None:
    rollout = serving()
    rollout.raw["model"] = before
    rollout.settle()
    it = world(deploying("A", "production", 100), rollout=rollout)

    it.live()

    assert it.status.actions[0].reason == "ModelIncomplete" and said in it.status.actions[0].message
    assert rollout.raw["model"] == before


def test_an_alias_to_promote_to_is_the_rollouts_own() -> None:
    rollout = serving()
    it = world(deploying("A", "production", 100), rollout=rollout)
    while rollout.status.step is None:
        rollout.move(it.now)
        it.step()
    rollout.raw["model"]["promotedAlias"] = "champion"

    it.live()

    assert it.states() == {"A": ActionState.SUCCEEDED}


def test_the_run_of_the_plan_is_the_parent_of_the_deployments() -> None:
    it = world(deploying("A", "shadow"))

    it.live()

    assert it.rollouts["ranker"].annotations[names.PARENT_RUN] == it.status.run_id == "run-plan"


def test_no_deadline_runs_while_the_rollout_waits_for_people_but_one_that_was_given() -> None:
    for more, state in (({}, ActionState.RUNNING), ({"timeout": "1h"}, ActionState.FAILED)):
        it = world(deploying("A", "production", 5, **more))
        rollout = it.rollouts["ranker"]
        for _ in range(8):
            it.step()
            rollout.move(it.now)
            step = rollout.status.step
            if step:  # shadow is proved, and votes are awaited
                waiting = {"step": step.model_copy(update={"state": StepState.PREPARING})}
                rollout.status = rollout.status.model_copy(update=waiting)
            it.now += timedelta(hours=12)

        it.step()

        assert it.states()["A"] is state
