"""A hold on the real rules of a rollout: it stays where the plan says, is judged meanwhile, and goes on from there."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ops_commander.api.action_plan import Deploy
from ops_commander.api.v1alpha1 import Outcome, StepState, Verdict
from ops_commander.core import names
from ops_commander.core.plans.rollouts import steps_for
from tests.unit.world import Health, World, canary, full, rollout, shadow

OWN = [shadow(), canary(25), full()]


def held(own: Sequence[Mapping[str, Any]], environment: str, percent: int | None = None) -> list[dict[str, Any]]:
    model = {"name": "ranker", "version": "2"}
    body = {"target": "ranker", "environment": environment, "percent": percent, "model": model}
    return steps_for(Deploy.model_validate(body), own).raw


def ordered(own: Sequence[Mapping[str, Any]], environment: str, percent: int | None = None) -> World:
    """Version 2 is asked for with these steps, as one server-side apply does it."""
    world = rollout().steps(*copy.deepcopy(list(own))).live()
    world.spec_body["steps"] = held(own, environment, percent)
    world.want_version("2")
    return world


def stays_in(world: World, step: str, weight: int) -> None:
    """Far beyond the step's own limits of 30 s and 90 s."""
    world.run_until(lambda: world.step is not None and (world.step.name, world.state) == (step, StepState.RUNNING))
    world.run(400)
    assert world.step is not None and (world.step.name, world.state) == (step, StepState.RUNNING)
    assert world.status.verdict is Verdict.PASS and world.candidate_weight == weight


@pytest.mark.parametrize("own", [OWN, OWN[1:]], ids=["with shadow", "without shadow"])
def test_shadow_then_five_percent_then_all_is_one_deployment(own: list[dict[str, Any]]) -> None:
    world = ordered(own, "shadow")
    stays_in(world, "shadow", 0)

    world.edit(steps=held(own, "production", 5))
    stays_in(world, "canary 5%", 5)
    world.edit(steps=held(own, "production", 100))
    world.run_until(lambda: world.outcome is Outcome.COMPLETED, 600)

    assert world.status.deployments == 2  # the first version, and this one
    assert world.share("2") == pytest.approx(1.0) and world.failed() == 0
    assert [step.name for step in world.deployment.steps][-1] == "full"


def test_a_share_can_grow_past_steps_of_the_rollouts_own() -> None:
    world = ordered(OWN, "production", 5)
    stays_in(world, "canary 5%", 5)

    world.edit(steps=held(OWN, "production", 50))

    stays_in(world, "canary 50%", 50)


def test_a_breach_in_the_hold_reverts() -> None:
    world = ordered(OWN, "production", 5)
    stays_in(world, "canary 5%", 5)

    world.health["2"] = Health(errors=0.2)
    world.run_until(lambda: world.outcome is Outcome.ROLLED_BACK, 300)

    assert world.deployment.reason == "ObjectiveBreached" and world.candidate_weight == 0


def test_a_person_lets_a_held_deployment_go_on() -> None:
    world = ordered(OWN, "shadow")
    stays_in(world, "shadow", 0)

    world.annotate(names.PROMOTE, world.deployment.id)

    world.run_until(lambda: world.outcome is Outcome.COMPLETED, 600)
