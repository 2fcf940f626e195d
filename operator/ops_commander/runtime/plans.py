"""reconcile(plan): observe the action under way, decide, commit, act, report. The leader alone works."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from pydantic import ValidationError

from ops_commander.adapters.kubernetes import ApiError, Conflict, Invalid
from ops_commander.adapters.mlflow_artifacts import ArtifactError, Unreachable
from ops_commander.adapters.mlflow_runs import MLflowRefused, MLflowRuns, MLflowUnavailable
from ops_commander.adapters.plan_objects import PlanObjects
from ops_commander.api.action_plan import Action, ActionPlan, ActionPlanStatus
from ops_commander.core.plans import naming, story
from ops_commander.core.plans.decide import PlanDecision, action_under_way, decide
from ops_commander.core.plans.observed import Effect, EnsureRun, FinishRun, Moment, PlanView, RunState, Store
from ops_commander.runtime import logs, metrics
from ops_commander.runtime.events import EventPoster, Subject
from ops_commander.runtime.plan_observer import PlanObserver
from ops_commander.runtime.policies import describe
from ops_commander.runtime.served import Served
from ops_commander.runtime.workqueue import Key, WorkQueue

log = logging.getLogger(__name__)

CONFLICT_DELAY = 0.05


class Artifacts(Protocol):
    """Where artifacts of runs are kept."""

    async def upload(self, run_id: str, path: str, data: bytes) -> str:
        """The sha256 of what was stored."""


@dataclass
class PlanReconciler:
    """Brings one plan one change further, and says when to look again."""

    objects: PlanObjects
    observer: PlanObserver
    runs: MLflowRuns | None
    artifacts: Artifacts | None
    events: EventPoster
    queue: WorkQueue
    clock: Callable[[], datetime]
    may_act: Callable[[], bool]
    served: Served
    mlflow_url: str = ""
    begun: datetime | None = None
    """When this process became the one that acts."""
    _refused: dict[str, str] = field(default_factory=dict)
    """What was not taken, by marker of the action. After a restart it is tried once more, and refused again."""

    async def work(self) -> None:
        """One worker: keys from the queue until cancelled. A failure is retried with backoff, never lost."""
        while True:
            key = await self.queue.get()
            try:
                await self.reconcile(key)
                self.queue.succeeded(key)
            except Conflict:
                self.queue.add_after(key, CONFLICT_DELAY)
            except (ApiError, MLflowUnavailable, Unreachable) as error:
                metrics.reconcile_errors.labels("api").inc()
                log.warning("plan not reconciled, again in %.1fs: %s", self.queue.retry(key), error)
            except Exception:
                metrics.reconcile_errors.labels("bug").inc()
                log.exception("plan not reconciled, again in %.1fs", self.queue.retry(key))
            finally:
                self.queue.done(key)

    async def reconcile(self, key: Key) -> None:
        logs.about(namespace=key[0], plan=key[1])
        body = await self.objects.plan(*key)
        if not self.served.read(key, body) or body is None or body["metadata"].get("deletionTimestamp"):
            return
        try:
            plan = view_of(body)
        except ValidationError as error:
            await self._refuse(key, body, describe(error))
            return
        observed = await self.observer.observe(plan)
        action = action_under_way(plan.spec, plan.status)
        marker = naming.marker(plan.uid, action.id if action else "")
        observed = replace(observed, refused=observed.refused or self._refusal(plan, action))
        moment = Moment(plan, observed, self.clock(), self.mlflow_url, self.begun)
        decision = decide(moment)
        await self._commit(plan, decision)
        self._report(plan, decision)
        await self._carry_out(plan, marker, decision.effects)
        if decision.requeue_at is not None:
            self.queue.add_after(key, (decision.requeue_at - moment.now).total_seconds())
        else:
            self.observer.forget(plan)
            self._refused = {key: why for key, why in self._refused.items() if not key.startswith(f"{plan.uid}/")}

    def _refusal(self, plan: PlanView, action: Action | None) -> str | None:
        """What keeps the action from being done; without the plan's own run there is none for it either."""
        mine = self._refused.get(naming.marker(plan.uid, action.id)) if action else None
        return mine or (None if action and action.deploy else self._refused.get(naming.marker(plan.uid)))

    async def _commit(self, plan: PlanView, decision: PlanDecision) -> None:
        if decision.status != plan.status:
            self._fence(plan.key)
            await self.objects.commit(plan.namespace, plan.name, plan.resource_version, decision.status)

    def _report(self, plan: PlanView, decision: PlanDecision) -> None:
        subject = Subject(plan.namespace, plan.name, plan.uid, plan.resource_version, "ActionPlan")
        for occurrence in decision.occurrences:
            level = logging.WARNING if occurrence.warning else logging.INFO
            log.log(level, "%s: %s", occurrence.reason, occurrence.message, extra={"reason": occurrence.reason})
            self.events.post(subject, occurrence)

    async def _carry_out(self, plan: PlanView, marker: str, effects: tuple[Effect, ...]) -> None:
        """All of them: one that fails keeps no other from being done."""
        failed: list[Exception] = []
        for effect in effects:
            try:
                self._fence(plan.key)
                await self._one(plan, effect)
            except (Invalid, MLflowRefused) as error:
                self._remember(effect, marker, error)
            except (ApiError, MLflowUnavailable, Unreachable) as error:
                failed.append(error)
            except ArtifactError as error:
                self._remember(effect, marker, error)
            else:
                log.info("done: %s", type(effect).__name__, extra={"action": type(effect).__name__})
        if failed:
            raise failed[0]

    def _remember(self, effect: Effect, marker: str, error: Exception) -> None:
        log.warning("refused: %s: %s", type(effect).__name__, error)
        self._refused[effect.marker if isinstance(effect, EnsureRun) else marker] = str(error)

    async def _one(self, plan: PlanView, effect: Effect) -> None:
        if not isinstance(effect, EnsureRun | FinishRun | Store):
            await self.objects.carry_out(plan.namespace, effect)
            return
        assert self.runs is not None and self.artifacts is not None
        if isinstance(effect, EnsureRun):
            await self.runs.ensure(effect, self.clock())
        elif isinstance(effect, FinishRun):
            await self.runs.finish(effect.run_id, effect.state, self.clock())
        else:
            for path, content in effect.also.items():
                await self.artifacts.upload(effect.run_id, path, content)
            sha256 = await self.artifacts.upload(effect.run_id, effect.path, effect.content)
            tags = {naming.ARTIFACT_TAG: effect.path, naming.SHA256_TAG: sha256}
            await self.runs.record(effect.run_id, effect.metrics, tags, self.clock())
            await self.runs.finish(effect.run_id, RunState.FINISHED, self.clock())

    def _fence(self, key: Key) -> None:
        """A leader that may have been replaced writes nothing more, and nobody for a plan that is not theirs."""
        if not self.may_act():
            raise ApiError(0, "the lease may be somebody else's by now")
        if key not in self.served:
            raise Conflict(409, "the plan is gone, or another shard's by now")

    async def _refuse(self, key: Key, body: Mapping[str, Any], message: str) -> None:
        """A spec that the API server let through but the models do not: said in status, nothing done."""
        log.error("plan refused: %s", message)
        metadata = body["metadata"]
        try:
            known = ActionPlanStatus.model_validate(body.get("status") or {})
        except ValidationError:
            known = ActionPlanStatus()
        said = story.refused(known, message, metadata.get("generation", 1), self.clock())
        if said != known:
            self._fence(key)
            await self.objects.commit(*key, metadata["resourceVersion"], said)


def view_of(body: Mapping[str, Any]) -> PlanView:
    """Raises ValidationError."""
    plan = ActionPlan.model_validate(body)
    metadata = plan.metadata
    return PlanView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        resource_version=metadata["resourceVersion"],
        spec=plan.spec,
        status=plan.status,
    )
