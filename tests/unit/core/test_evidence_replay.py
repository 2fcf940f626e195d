"""A promotion that waited for its evidence is replayed at the moment at which the evidence was there."""

from __future__ import annotations

from ops_commander.api.v1alpha1 import Outcome, StepState
from tests.unit.core.test_replay import bare, played
from tests.unit.kept_world import INSTALLED, KeptWorld, Server
from tests.unit.recorded import Recorded
from tests.unit.world import World, full, rollout, shadow


class KeptAndRecorded(KeptWorld, Recorded):
    """Ticks are remembered, and evidence is written."""

    def __init__(self) -> None:
        builder = rollout().steps(shadow(), full()).policy(evidence="Required")
        self.told = {}
        self.mlflow = Server()
        World.__init__(self, builder.body, name=builder.name, policy=builder.wanted_policy)
        self.installation = INSTALLED


def _waiting() -> KeptAndRecorded:
    world = KeptAndRecorded()
    world.run_until(lambda: world.outcome is Outcome.COMPLETED).run(70)
    world.want("2").run_until(
        lambda: world.step is not None and (world.state, world.step.name) == (StepState.RUNNING, "full")
    )
    world.mlflow.up = False
    world.run(50)
    assert world.status.reason == "WritingEvidence"
    return world


def test_a_promotion_that_waited_for_evidence() -> None:
    world = _waiting()
    world.mlflow.up = True
    world.ended()
    assert world.outcome is Outcome.COMPLETED

    again, _ = played(world)

    assert (again.differences, again.notes) == ([], [])
    assert again.status.deployment is not None
    assert bare(again.status.deployment.transitions) == bare(world.deployment.transitions)


def test_a_step_that_waited_for_evidence_in_vain() -> None:
    world = _waiting()
    world.ended()
    assert world.outcome is Outcome.ROLLED_BACK

    again, _ = played(world)

    assert (again.differences, again.notes) == ([], [])
