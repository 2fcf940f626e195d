"""A cluster, an MLflow and a Prometheus in memory, on which plans are executed by the real `decide`.

What an effect does here is what its adapter does there. The process can be killed at any write: after the status is
committed, or between two effects.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ops_commander.api.action_plan import Action, ActionPlanSpec, ActionPlanStatus, ActionState
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    ModelRolloutSpec,
    ModelRolloutStatus,
    Outcome,
    RollbackStatus,
    StepState,
    StepStatus,
    Verdict,
)
from ops_commander.core import names
from ops_commander.core.plans import naming
from ops_commander.core.plans.decide import action_under_way, decide
from ops_commander.core.plans.observed import (
    AbortRollout,
    ApplyRollout,
    Collected,
    CreateJob,
    DeleteJob,
    Effect,
    EnsureRun,
    FinishRun,
    JobState,
    JobView,
    Moment,
    Observed,
    PlanView,
    RolloutView,
    RunState,
    RunView,
    Store,
)

START = datetime(2025, 10, 14, 12, tzinfo=UTC)
ROLLOUT: dict[str, Any] = {
    "model": {"name": "ranker", "version": "7"},
    "template": {"spec": {"containers": [{"name": "server", "image": "ranker:7"}]}},
    "traffic": {"gatewayAPI": {"parentRefs": [{"name": "models"}]}},
    "steps": [
        {"shadow": {"minDuration": "1m", "maxDuration": "10m"}},
        {"canary": {"weight": 25, "minDuration": "1m", "maxDuration": "10m"}},
        {"full": {"bake": "1m", "maxDuration": "10m"}},
    ],
}


class Killed(Exception):
    """The process ends here."""


@dataclass
class FakeRollout:
    """A ModelRollout that is carried through its steps, or reverted."""

    raw: dict[str, Any]
    annotations: dict[str, str] = field(default_factory=dict)
    generation: int = 1
    status: ModelRolloutStatus = field(default_factory=ModelRolloutStatus)
    is_bad: bool = False
    stable: str | None = None

    @property
    def spec(self) -> ModelRolloutSpec:
        return ModelRolloutSpec.model_validate(self.raw)

    def settle(self) -> None:
        """Serve what spec asks for, as a stable version."""
        self.stable = names.revision_of(self.spec)
        changes = {"stable_revision": self.stable, "observed_generation": self.generation, "step": None}
        self.status = self.status.model_copy(update=changes)

    def move(self, now: datetime) -> None:
        """What the rollout's own reconciler does, in little: one step further whenever its minimum is over."""
        revision = names.revision_of(self.spec)
        self.status = self.status.model_copy(update={"observed_generation": self.generation})
        deployment, step = self.status.deployment, self.status.step
        if self.stable == revision:
            return
        if deployment is None or deployment.revision != revision:
            number = self.status.deployments + 1
            self._start(names.deployment_id("ranker", revision, number), revision, number, now)
        elif deployment.outcome is None and step is not None:
            if self.is_bad or self.annotations.get(names.ABORT) == deployment.id:
                self._revert(now)
            else:
                self._advance(step, now)

    def _start(self, identity: str, revision: str, number: int, now: datetime) -> None:
        deployment = DeploymentStatus(
            id=identity, revision=revision, model_version="8", generation=self.generation, started_at=now
        )
        changes = {"deployment": deployment, "deployments": number, "step": self._step(0, now), "verdict": None}
        self.status = self.status.model_copy(update=changes)

    def _step(self, index: int, now: datetime) -> StepStatus:
        label = self.spec.steps[index].label
        return StepStatus(
            index=index, name=label, state=StepState.RUNNING, state_since=now, entered_at=now, running_since=now
        )

    def _advance(self, step: StepStatus, now: datetime) -> None:
        self.status = self.status.model_copy(update={"verdict": Verdict.PASS})
        assert step.running_since is not None
        if now < step.running_since + self.spec.steps[step.index].min_duration:
            return
        if step.index + 1 < len(self.spec.steps):
            self.status = self.status.model_copy(update={"step": self._step(step.index + 1, now)})
            return
        assert self.status.deployment is not None
        ended = self.status.deployment.model_copy(update={"outcome": Outcome.COMPLETED, "ended_at": now})
        self.status = self.status.model_copy(update={"deployment": ended})
        self.settle()

    def _revert(self, now: datetime) -> None:
        assert self.status.deployment is not None
        ended = self.status.deployment.model_copy(update={"outcome": Outcome.ROLLED_BACK, "ended_at": now})
        rollback = RollbackStatus(
            deployment_id=ended.id, reason="Breached", message="too bad", breach_visible_at=now, decided_at=now
        )
        self.status = self.status.model_copy(update={"deployment": ended, "step": None, "rollback": rollback})


@dataclass
class Program:
    """What a Job does once it runs."""

    metrics: dict[str, float] = field(default_factory=dict)
    fails: bool = False
    takes: timedelta = timedelta(minutes=1)


@dataclass
class World:
    """Everything a plan can see. `kill_at` is the number of the write at which the process is killed."""

    spec: ActionPlanSpec
    programs: dict[str, Program] = field(default_factory=dict)
    now: datetime = START
    begun: datetime | None = None
    """When the process began."""
    kill_at: set[int] = field(default_factory=set)
    status: ActionPlanStatus = field(default_factory=ActionPlanStatus)
    rollouts: dict[str, FakeRollout] = field(default_factory=dict)
    jobs: dict[str, tuple[dict[str, Any], datetime]] = field(default_factory=dict)
    runs: dict[str, RunView] = field(default_factory=dict)
    window: Callable[[datetime], dict[str, float]] = lambda _: {"coverage": 1.0}
    mlflow: bool = True
    mlflow_is_away: bool = False
    trouble: str | None = None
    """What keeps the metrics of a deployed model from being read."""
    model_metrics: dict[str, float] = field(default_factory=dict)
    refused: str | None = None
    """Why nothing is taken any more."""
    writes: int = 0
    started: list[str] = field(default_factory=list)
    """Actions by their first effect, in order: what the world saw of them."""
    created: list[str] = field(default_factory=list)
    """Jobs and runs by name, each time one is made."""
    stored: dict[str, bytes] = field(default_factory=dict)
    occurrences: list[str] = field(default_factory=list)
    generation: int = 1
    uid: str = "uid-1"

    def view(self) -> PlanView:
        # Through the wire and back: a process that starts anew knows nothing but this.
        body = self.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        status = ActionPlanStatus.model_validate(body)
        return PlanView("ml", "plan", self.uid, self.generation, "1", self.spec, status)

    def observed(self, plan: PlanView) -> Observed:
        action = action_under_way(plan.spec, plan.status)
        away = "MLflow: away" if self.mlflow_is_away else None
        found = Observed(has_mlflow=self.mlflow, refused=self.refused, model_metrics=self.model_metrics)
        if not away:
            found = replace(found, plan_run=self.runs.get(naming.marker(self.uid)))
        if action is None:
            return found
        if action.deploy:
            return replace(found, rollout=self._rollout(action.deploy.rollout_name), trouble=self.trouble)
        job = self._job(naming.object_name("plan", action.id)) if action.pod else None
        if away:
            return replace(found, job=job, trouble=away)
        run = self.runs.get(naming.marker(self.uid, action.id)) if self.mlflow else None
        collected = None
        if action.collect:
            metrics = self.window(self.now)
            collected = Collected(metrics, {"metrics": []})
        return replace(found, job=job, run=run, collected=collected, pod_template=_POD)

    def _rollout(self, name: str) -> RolloutView | None:
        known = self.rollouts.get(name)
        if known is None:
            return None
        return RolloutView(name, known.generation, known.annotations, known.spec, known.status, known.raw)

    def _job(self, name: str) -> JobView | None:
        if name not in self.jobs:
            return None
        body, since = self.jobs[name]
        program = self.programs.get(body["metadata"]["labels"][naming.ACTION_LABEL], Program())
        if self.now < since + program.takes:
            return JobView(name, self.uid, JobState.RUNNING, "1 pod(s) active")
        state = JobState.FAILED if program.fails else JobState.SUCCEEDED
        return JobView(name, self.uid, state, "ended", program.takes.total_seconds())

    def step(self) -> datetime | None:
        """One reconcile. Raises Killed where the process is to be killed."""
        self._programs_log()
        plan = self.view()
        decision = decide(Moment(plan, self.observed(plan), self.now, "http://mlflow", self.begun))
        if decision.status != plan.status:
            self._written()
            self.status = decision.status
            self.occurrences += [item.reason for item in decision.occurrences]
            self._written()
        action = action_under_way(plan.spec, plan.status)
        for effect in decision.effects:
            if self.mlflow_is_away and isinstance(effect, EnsureRun | FinishRun | Store):
                continue
            self._carry_out(effect, action)
            self._written()
        return decision.requeue_at

    def _written(self) -> None:
        self.writes += 1
        if self.writes in self.kill_at:
            raise Killed

    def _programs_log(self) -> None:
        """Jobs log their metrics as they end, and end their run as MLflow's client does."""
        for name, (body, _) in self.jobs.items():
            identity = body["metadata"]["labels"][naming.ACTION_LABEL]
            job, marker = self._job(name), naming.marker(self.uid, identity)
            if job and job.state is JobState.SUCCEEDED and marker in self.runs:
                run = self.runs[marker]
                metrics = {**run.metrics, **self.programs.get(identity, Program()).metrics}
                self.runs[marker] = replace(run, metrics=metrics)

    def _carry_out(self, effect: Effect, action: Action | None) -> None:
        if action and action.id not in self.started and not isinstance(effect, EnsureRun):
            self.started.append(action.id)
        if isinstance(effect, EnsureRun | FinishRun | Store):
            self._record(effect)
        elif isinstance(effect, CreateJob):
            name = effect.manifest["metadata"]["name"]
            if name not in self.jobs:
                self.created.append(f"job {name}")
                self.jobs[name] = (copy.deepcopy(dict(effect.manifest)), self.now)
        elif isinstance(effect, DeleteJob):
            self.jobs.pop(effect.name, None)
        elif isinstance(effect, ApplyRollout):
            self._apply(effect.manifest)
        elif isinstance(effect, AbortRollout):
            self.rollouts[effect.name].annotations[names.ABORT] = effect.deployment_id

    def _record(self, effect: EnsureRun | FinishRun | Store) -> None:
        if isinstance(effect, EnsureRun):
            if effect.marker not in self.runs:
                self.created.append(f"run {effect.name}")
                self.runs[effect.marker] = RunView(f"run-{effect.name}", RunState.RUNNING)
        elif isinstance(effect, FinishRun):
            self._change_run(effect.run_id, state=effect.state)
        elif isinstance(effect, Store):
            self.stored[f"{effect.run_id}/{effect.path}"] = effect.content
            sha256 = hashlib.sha256(effect.content).hexdigest()
            self._change_run(
                effect.run_id,
                state=RunState.FINISHED,
                artifact=effect.path,
                sha256=sha256,
                metrics=dict(effect.metrics),
            )

    def _change_run(self, run_id: str, **changes: Any) -> None:
        for marker, run in self.runs.items():
            if run.run_id == run_id:
                self.runs[marker] = replace(run, **changes)

    def _apply(self, manifest: Any) -> None:
        name = manifest["metadata"]["name"]
        known = self.rollouts.setdefault(name, FakeRollout({}))
        raw = {**known.raw, **manifest["spec"]}
        if raw != known.raw:
            known.generation += 1
        known.raw = raw
        known.annotations |= manifest["metadata"]["annotations"]

    def live(self, until: timedelta = timedelta(days=3)) -> None:
        """Reconcile again and again as the requeues say, and after each kill, until nothing is left to do."""
        end = self.now + until
        while self.now < end:
            for rollout in self.rollouts.values():
                rollout.move(self.now)
            try:
                due = self.step()
            except Killed:
                continue
            if due is None:
                return
            self.now = max(due, self.now + timedelta(milliseconds=1))
        raise AssertionError(f"not done after {until}: {self.status.message}")

    def states(self) -> dict[str, ActionState]:
        return {row.id: row.state for row in self.status.actions}


_POD = {"spec": {"containers": [{"name": "test", "image": "tests:1"}]}}


def action(identity: str, priority: str = "HIGH", kind: str = "experiment", **more: Any) -> dict[str, Any]:
    """An action as it stands in a spec."""
    parameters: dict[str, dict[str, Any]] = {
        "experiment": {"image": "experiment:1"},
        "test": {"suite": "smoke", "target": "ranker", "version": "8"},
        "collect": {"target": "ranker", "window": "1h", "metrics": ["error_rate"]},
        "report": {"kinds": ["progress"]},
        "deploy": {
            "target": "ranker",
            "environment": "production",
            "percent": 100,
            "model": {"name": "ranker", "version": "8"},
        },
    }
    body = {"id": identity, "title": f"Action {identity}", "owner": "ops", "estimate": "5m", "priority": priority}
    return {**body, "kind": kind, kind: {**parameters[kind], **more.pop(kind, {})}, **more}


def spec(*actions: dict[str, Any], **more: Any) -> ActionPlanSpec:
    """A plan of these actions."""
    return ActionPlanSpec.model_validate({"meetingId": "meeting-1", "actions": list(actions), **more})


def serving() -> FakeRollout:
    """A rollout that serves version 7."""
    rollout = FakeRollout(copy.deepcopy(ROLLOUT))
    rollout.settle()
    return rollout
