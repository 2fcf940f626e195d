"""Records what a deployment's decisions were made of: the rollout and its policy, runs, and all ticks of Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from ops_commander.api.policy import DEFAULT_POLICY, Objective, RolloutPolicy, RolloutPolicySpec
from ops_commander.api.v1alpha1 import BaselineStatus, ModelRollout, StepState
from ops_commander.core import acceptance, names, presets, run_objectives
from ops_commander.core.counters import LEAD_IN
from ops_commander.core.recordings.recording import Circumstances, Recording, RecordingProblem, Tick, recording_of
from ops_commander.core.recordings.stage import HEARD_AFTER
from ops_commander.core.samples import Owner, tick_at_or_after, tick_at_or_before
from ops_commander.core.snapshot import RunRecord
from ops_commander.runtime.history import History, MetricSource

TICKS_AT_ONCE = 240
"""Ticks that are read together and held in memory."""


class Rollouts(Protocol):
    """Where resources are read."""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]: ...

    async def find(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None: ...


class Runs(Protocol):
    """Where runs of models are recorded."""

    async def read_run(self, run_id: str, artifacts: Collection[str]) -> RunRecord: ...


@dataclass
class Recorder:
    """Reads, and writes nothing anywhere."""

    source: MetricSource
    interval: timedelta
    stale_after: timedelta
    runs: Runs | None = None

    def __post_init__(self) -> None:
        self._history = History(self.interval)

    async def header(
        self, rollout: ModelRollout, policy: RolloutPolicySpec, now: datetime, deployment_id: str = ""
    ) -> tuple[Recording, list[str]]:
        """The recording of a rollout's latest deployment as read after `now`, without ticks, and doubts about it.

        Raises RecordingProblem where it cannot be recorded, and RunUnreadable.
        """
        how = Circumstances(self.interval, self.stale_after, self.source.name, await self._read_runs(rollout, policy))
        return recording_of(rollout, policy, how, now, deployment_id)

    async def _read_runs(self, rollout: ModelRollout, policy: RolloutPolicySpec) -> list[RunRecord]:
        deployment = rollout.status.deployment
        reading = [(objective, objective.run) for objective in policy.objectives if objective.run]
        if not reading or deployment is None:
            return []
        if self.runs is None:
            raise RecordingProblem(f"objective {reading[0][0].name} reads an MLflow run: expected --mlflow-url")
        mine = deployment.run_id
        others = {
            run.baseline_run_id or deployment.stable_run_id
            for objective, run in reading
            if run_objectives.names_baseline(objective)
        }
        found = [await self.runs.read_run(run_id, ()) for run_id in sorted(filter(None, others - {mine}))]
        if mine:
            found.append(await self.runs.read_run(mine, sorted({run.artifact for _, run in reading})))
        return found

    async def ticks(self, recording: Recording, start: datetime, end: datetime) -> AsyncIterator[Tick]:
        """All ticks from start to end. Raises QueryError."""
        deployment = recording.deployment
        assert deployment.stable_revision is not None
        mine, theirs = (
            owner(recording.namespace, recording.name, revision)
            for revision in (deployment.revision, deployment.stable_revision)
        )
        at, last = tick_at_or_after(start, self.interval), tick_at_or_before(end, self.interval)
        while at <= last:
            until = min(last, at + (TICKS_AT_ONCE - 1) * self.interval)
            readings = await self._history.read(self.source, recording.queries, [mine, theirs], at, until)
            for number in range((until - at) // self.interval + 1):
                moment = at + number * self.interval
                found = {query: of[number] for query, of in readings.items()}
                yield Tick(
                    moment,
                    {query: reading.of(mine) for query, reading in found.items() if reading.of(mine)},
                    {query: reading.of(theirs) for query, reading in found.items() if reading.of(theirs)},
                )
            at = until + self.interval

    async def baseline(
        self, objectives: Sequence[Objective], stable: Owner, window: timedelta, now: datetime
    ) -> list[BaselineStatus]:
        """What the stable version showed before a moment. Raises QueryError."""
        found = await self._history.baseline(self.source, objectives, stable, window, now)
        return list(found.objectives)


def owner(namespace: str, rollout: str, revision: str) -> Owner:
    """The ReplicaSet of a revision."""
    return namespace, names.replica_set_name(rollout, revision)


def evidence_span(recording: Recording) -> tuple[datetime, datetime] | None:
    """From the first tick that a replay needs to the last; None where the candidate had no traffic."""
    deployment = recording.deployment
    running = [item.at for item in deployment.transitions if item.state is StepState.RUNNING]
    if not running:
        return None
    end = deployment.ended_at or recording.recorded_at - HEARD_AFTER
    return tick_at_or_before(running[0], recording.interval) - LEAD_IN, end


def rollout_of(body: Mapping[str, Any]) -> ModelRollout:
    """Raises RecordingProblem for one that the models refuse."""
    try:
        return ModelRollout.model_validate(body)
    except ValidationError as error:
        raise RecordingProblem(f"ModelRollout {body['metadata']['name']}: {_first(error)}") from None


def policy_of(rollout: ModelRollout, body: Mapping[str, Any] | None) -> RolloutPolicySpec:
    """The policy that a rollout names, or the operator's own, with presets resolved. Raises RecordingProblem."""
    reference = rollout.spec.policy_ref
    if reference is None:
        return presets.resolved(DEFAULT_POLICY)
    if body is None:
        raise RecordingProblem(f"spec.policyRef.name is {reference.name!r}: expected a RolloutPolicy of that name")
    return policy_from(body, f"RolloutPolicy {reference.name}")


def policy_from(body: Mapping[str, Any], what: str) -> RolloutPolicySpec:
    """A RolloutPolicy with presets resolved. Raises RecordingProblem."""
    try:
        policy = RolloutPolicy.model_validate(body).spec
    except ValidationError as error:
        raise RecordingProblem(f"{what}: {_first(error)}") from None
    problem = acceptance.query_problem(policy)
    if problem:
        raise RecordingProblem(f"{what}: {problem}")
    return presets.resolved(policy)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the document"
    return f"{field} is {first['input']!r:.80}: {first['msg'].removeprefix('Value error, ')}"
