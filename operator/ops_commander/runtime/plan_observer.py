"""Observe: what is around the action of a plan that is under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import ValidationError

from ops_commander.adapters.mlflow_runs import MLflowRuns, MLflowUnavailable
from ops_commander.adapters.plan_objects import PlanObjects, Unreadable
from ops_commander.adapters.prometheus import QueryError
from ops_commander.api.action_plan import Action, Collect
from ops_commander.api.policy import DEFAULT_POLICY, Objective, RolloutPolicy
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.core import acceptance, names, presets
from ops_commander.core.plans import naming, window
from ops_commander.core.plans.decide import action_under_way
from ops_commander.core.plans.observed import Collected, Observed, PlanView, RolloutView, RunView
from ops_commander.core.plans.window import UnknownMetric
from ops_commander.runtime.history import History, MetricSource

WINDOW_KNOWN_FOR = timedelta(seconds=10)
"""A plan is looked at on each of its own writes; a window is not read again for that."""


class Sources(Protocol):
    """Which Prometheus server answers for a namespace."""

    def server_for(self, namespace: str) -> MetricSource | None: ...


class _Trouble(Exception):
    """Something could not be read now."""


@dataclass
class PlanObserver:
    """Reads what one action needs, and nothing else."""

    objects: PlanObjects
    runs: MLflowRuns | None
    sources: Sources
    clock: Callable[[], datetime]
    interval: timedelta
    _windows: dict[str, tuple[datetime, Collected]] = field(default_factory=dict)

    async def observe(self, plan: PlanView) -> Observed:
        """Raises ApiError where the API server does not tell."""
        observed = Observed(has_mlflow=self.runs is not None)
        action = action_under_way(plan.spec, plan.status)
        try:
            observed = replace(observed, plan_run=await self._plan_run(plan))
        except MLflowUnavailable as error:
            if action is None:
                return replace(observed, trouble=str(error))
        if action is None:
            return observed
        try:
            return await self._around(plan, action, observed)
        except UnknownMetric as error:
            return replace(observed, refused=str(error))
        except (MLflowUnavailable, Unreadable, QueryError, _Trouble) as error:
            return replace(await self._objects(plan, action, observed), trouble=str(error))

    def forget(self, plan: PlanView) -> None:
        for known in [key for key in self._windows if key.startswith(naming.marker(plan.uid))]:
            del self._windows[known]

    async def _plan_run(self, plan: PlanView) -> RunView | None:
        """Needed until its id is known, and again at the end, for the report."""
        status = plan.status
        is_over = bool(status.actions) and all(row.state.is_end for row in status.actions)
        if self.runs is None or status.report is not None or (status.run_id is not None and not is_over):
            return None
        return await self.runs.find(naming.marker(plan.uid), naming.EXPERIMENT)

    async def _objects(self, plan: PlanView, action: Action, observed: Observed) -> Observed:
        """The Job alone: a cancelled action's Job is ended even while MLflow is away."""
        name = naming.object_name(plan.name, action.id)
        job = await self.objects.job(plan.namespace, name) if action.pod else None
        return replace(observed, job=job)

    async def _around(self, plan: PlanView, action: Action, observed: Observed) -> Observed:
        if action.deploy is not None:
            rollout = await self.objects.rollout(plan.namespace, action.deploy.rollout_name)
            observed = replace(observed, rollout=rollout)
            try:
                return replace(observed, model_metrics=await self._model_metrics(action))
            except MLflowUnavailable as error:  # keeps nobody from reverting the rollout
                return replace(observed, trouble=str(error))
        run = await self._run(plan, action)
        if action.collect is not None:
            is_done = run is not None and run.state.is_end
            collected = None if is_done or run is None else await self._window(plan, action, action.collect)
            return replace(observed, run=run, collected=collected)
        if action.report is not None:
            return replace(observed, run=run, deployed=await self._deployed(plan))
        observed = await self._objects(plan, action, observed)
        reference = action.template_ref
        found = await self.objects.pod_template(plan.namespace, reference) if reference and not observed.job else None
        return replace(observed, run=run, pod_template=found)

    async def _deployed(self, plan: PlanView) -> tuple[ModelRollout, ...]:
        """The rollouts that the plan has deployed to, each once."""
        wanted = dict.fromkeys(item.deploy.rollout_name for item in plan.spec.actions if item.deploy)
        found = [await self.objects.whole_rollout(plan.namespace, name) for name in wanted]
        return tuple(rollout for rollout in found if rollout is not None)

    async def _run(self, plan: PlanView, action: Action) -> RunView | None:
        if self.runs is None:
            return None
        experiment = action.pod.mlflow_experiment if action.pod else None
        return await self.runs.find(naming.marker(plan.uid, action.id), experiment or naming.EXPERIMENT)

    async def _model_metrics(self, action: Action) -> dict[str, float]:
        run_id = action.deploy.model.run_id if action.deploy else None
        if self.runs is None or run_id is None or not action.success_criteria:
            return {}
        return await self.runs.metrics(run_id)

    async def _window(self, plan: PlanView, action: Action, collect: Collect) -> Collected:
        key, now = naming.marker(plan.uid, action.id), self.clock()
        known = self._windows.get(key)
        if known and now < known[0] + WINDOW_KNOWN_FOR:
            return known[1]
        found = await self._read_window(plan, collect, now)
        self._windows[key] = (now, found)
        return found

    async def _read_window(self, plan: PlanView, collect: Collect, now: datetime) -> Collected:
        source = self.sources.server_for(plan.namespace)
        if source is None:
            raise _Trouble(f"no Prometheus server is configured for namespace {plan.namespace}")
        rollout = await self.objects.rollout(plan.namespace, collect.target)
        if rollout is None or rollout.status.stable_revision is None:
            raise _Trouble(f"ModelRollout {collect.target} has no stable version: expected one that serves")
        metrics = window.metrics_of(collect.metrics, await self._objectives(plan, rollout, source))
        span = window.window_until(now, collect.window, self.interval)
        owner = (plan.namespace, names.replica_set_name(rollout.name, rollout.status.stable_revision))
        queries = [query for metric in metrics for query in metric.objective.queries]
        readings = await History(span.tick).read(source, queries, [owner], span.start, span.end)
        found = window.collected(metrics, readings, owner, span)
        about = {
            "plan": plan.name,
            "target": rollout.name,
            "modelVersion": rollout.status.stable_version,
            "modelRunId": rollout.status.stable_run_id,
            "source": source.name,
        }
        return replace(found, document={**found.document, **about})

    async def _objectives(self, plan: PlanView, rollout: RolloutView, source: MetricSource) -> list[Objective]:
        reference = rollout.spec.policy_ref
        if reference is None:
            return presets.resolved(DEFAULT_POLICY).objectives
        body = await self.objects.policy(plan.namespace, reference.name)
        if body is None:
            raise _Trouble(f"RolloutPolicy {reference.name} of ModelRollout {rollout.name} does not exist")
        try:
            policy = RolloutPolicy.model_validate(body).spec
        except ValidationError as error:
            raise _Trouble(f"RolloutPolicy {reference.name} cannot be read") from error
        if problem := acceptance.query_problem(policy, source.labels):
            raise _Trouble(f"RolloutPolicy {reference.name}: {problem}")
        return presets.resolved(policy).objectives
