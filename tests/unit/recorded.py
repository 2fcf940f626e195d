"""Recordings out of the simulated cluster: what the operator was told there, and what it decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ops_commander.adapters import recordings
from ops_commander.api.v1alpha1 import ModelRollout, Outcome, StepState
from ops_commander.core import names, presets
from ops_commander.core.recordings.recording import Circumstances, Encoder, Recording, Tick, recording_of
from ops_commander.core.samples import Reading, tick_at_or_before
from tests.unit.world import POLICY, TICK, Health, RolloutBuilder, World

STALE_AFTER = timedelta(seconds=12)


class Recorded(World):
    """A world that remembers each tick as the operator was told it first."""

    def __init__(self, builder: RolloutBuilder) -> None:
        self.told: dict[datetime, dict[str, Reading]] = {}
        super().__init__(builder.body, name=builder.name, policy=builder.wanted_policy)

    def _reading(self, query: str, at: datetime) -> Reading:
        return self.told.setdefault(at, {}).setdefault(query, super()._reading(query, at))

    def rollout(self) -> ModelRollout:
        """The resource as the API server has it."""
        metadata = {"name": self.name, "namespace": self.namespace}
        return ModelRollout(metadata=metadata, spec=self.spec, status=self.status)

    def recording(self) -> Recording:
        """The first line as `ops-commander record` writes it."""
        how = Circumstances(TICK, STALE_AFTER)
        return recording_of(self.rollout(), presets.resolved(self.policy or POLICY), how, self.now)[0]

    def ticks(self) -> list[Tick]:
        """All ticks from one minute before the deployment to its end or to now."""
        recording, deployment = self.recording(), self.deployment
        at = tick_at_or_before(deployment.started_at - timedelta(seconds=60), TICK)
        last = deployment.ended_at or self.now - timedelta(seconds=0.5)
        found = []
        while at <= last:
            candidate, stable = (
                self._arm(at, recording.queries, revision)
                for revision in (deployment.revision, deployment.stable_revision or "")
            )
            found.append(Tick(at, candidate, stable))
            at += TICK
        return found

    def _arm(self, at: datetime, queries: Iterable[str], revision: str) -> dict[str, Any]:
        """A tick that nobody was told is of no account."""
        owner = (self.namespace, names.replica_set_name(self.name, revision))
        readings = {query: self.told.get(at, {}).get(query, Reading(at)).of(owner) for query in queries}
        return {query: samples for query, samples in readings.items() if samples}

    def lines(self) -> list[str]:
        """The file."""
        return list(lines(self.recording(), self.ticks()))

    def save(self, path: Path) -> Path:
        with recordings.written(path, self.recording()) as keep:
            for tick in self.ticks():
                keep(tick)
        return path

    def until(self, reached: Callable[[], bool]) -> Recorded:
        self.run_until(reached)
        return self

    def ended(self) -> Recorded:
        """At the end of the deployment, and somewhat later."""
        self.until(lambda: self.outcome is not None).run(15)
        return self


def trying(builder: RolloutBuilder, **health: Any) -> Recorded:
    """Version 1 serves, version 2 was just asked for and behaves as given."""
    world = Recorded(builder)
    world.until(lambda: world.outcome is Outcome.COMPLETED).run(70)
    world.health["2"] = Health(**health)
    world.want_version("2")
    return world.until(lambda: world.outcome is None)


def at(builder: RolloutBuilder, step: str, state: StepState = StepState.RUNNING, **health: Any) -> Recorded:
    """Version 2 has come as far as a state of a step."""
    world = trying(builder, **health)
    return world.until(lambda: world.step is not None and (world.step.name, world.state) == (step, state))


def lines(recording: Recording, ticks: Iterable[Tick]) -> Iterator[str]:
    encoder = Encoder(recording)
    yield encoder.header()
    for tick in ticks:
        yield encoder.tick(tick)
    yield encoder.end()
