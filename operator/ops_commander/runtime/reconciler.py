"""reconcile(key): observe, decide, act, report, requeue. The only place where decisions meet the cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import ApiError, Conflict
from ops_commander.api.conditions import ConditionType, merge_conditions
from ops_commander.api.v1alpha1 import ModelRolloutStatus, Phase
from ops_commander.core.decide import Decision, adds_traffic, decide, is_pressing, status_to_follow, with_what_followed
from ops_commander.core.desired import Action, Apply, Delete, NoteVote, Scale, SetFinalizers, SetOwner, SteerRoute
from ops_commander.core.names import FINALIZER
from ops_commander.core.snapshot import Snapshot
from ops_commander.runtime import logs, metrics
from ops_commander.runtime.events import EventPoster, Subject
from ops_commander.runtime.observer import Observer
from ops_commander.runtime.policies import describe
from ops_commander.runtime.rollouts import Rollouts
from ops_commander.runtime.workqueue import Key, WorkQueue

log = logging.getLogger(__name__)

BOOKS_WAIT = 1.0
"""Seconds that a commit waits for the rollout's own urgent acts at most,"""
BOOKS_WAIT_FOR_OTHERS = 10.0
"""and for those of others."""


class Fenced(ApiError):
    """Nothing was sent: this process may not lead any more."""


@dataclass
class Reconciler:
    """Brings one rollout one step further, and says when to look again.

    It decides on what the watches have told. What gives a candidate traffic is decided on what was read anew, and so
    is everything after a write that was refused.
    """

    cluster: Cluster
    observer: Observer
    events: EventPoster
    queue: WorkQueue
    clock: Callable[[], datetime]
    may_act: Callable[[], bool]
    rollouts: Rollouts
    turns: asyncio.Semaphore
    """How many rollouts are worked on at a time."""
    _distrusted: set[Key] = field(default_factory=set)
    """What is known of these may be outdated."""

    async def run(self) -> None:
        """Keys from the queue until cancelled, as many at a time as there are turns."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self.turns.acquire()
                key = await self.queue.get()
                metrics.queue_depth.set(len(self.queue))
                group.create_task(self._work_on(key))

    async def _work_on(self, key: Key) -> None:
        """A failure is retried with backoff, never lost."""
        try:
            with metrics.reconcile_seconds.time():
                await self.reconcile(key)
            self.queue.succeeded(key)
        except Conflict:
            self._distrusted.add(key)
            self.queue.add_after(key, 0.05)
        except Fenced as error:
            log.warning("not reconciled, again in %.1fs: %s", self.queue.retry(key), error)
        except ApiError as error:
            self._distrusted.add(key)
            metrics.reconcile_errors.labels("api").inc()
            log.warning("not reconciled, again in %.1fs: %s", self.queue.retry(key), error)
        except Exception:
            metrics.reconcile_errors.labels("bug").inc()
            log.exception("not reconciled, again in %.1fs", self.queue.retry(key))
        finally:
            self.queue.done(key)
            self.turns.release()

    async def reconcile(self, key: Key) -> None:
        logs.about(namespace=key[0], rollout=key[1])
        # 1. observe and 2. decide
        found = await self._decided(key, anew=key in self._distrusted)
        self._distrusted.discard(key)
        if found is None:
            return
        snapshot, decision = found
        deployment = (decision.status or snapshot.status).deployment
        logs.about(namespace=key[0], rollout=key[1], deployment_id=deployment.id if deployment else "")
        # 3. act and 4. report
        decision = await self._act(key, snapshot, decision)
        self.queue.prefer(key, wanted=is_pressing(decision.status or snapshot.status, self.clock()))
        # 5. requeue
        if decision.requeue_at is not None:
            self.queue.add_after(key, (decision.requeue_at - self.clock()).total_seconds())

    async def _decided(self, key: Key, *, anew: bool) -> tuple[Snapshot, Decision] | None:
        """None where there is nothing to decide: the rollout is gone, another's, or its spec cannot be read."""
        body = None if anew else self.rollouts.body(key)
        if body is None:
            body, anew = await self.cluster.rollout(*key), True
        if not self.rollouts.read(key, body) or body is None:
            self._let_go(key, body)
            return None
        try:
            snapshot = await self.observer.snapshot(body, anew=anew)
        except ValidationError as error:
            await self._refuse(key, body, error)
            return None
        decision = decide(snapshot, self.clock())
        if not anew and not await self._may_rest_on_what_is_known(key, snapshot, decision):
            return await self._decided(key, anew=True)
        return snapshot, decision

    async def _may_rest_on_what_is_known(self, key: Key, snapshot: Snapshot, decision: Decision) -> bool:
        """Not where there is more traffic. For acts that no commit of status guards the rollout itself must be as it is
        known: one that was relabelled while its watch was broken has a new owner, whose work is no drift."""
        if decision.status is not None:
            return not adds_traffic(snapshot.status, decision.status)
        if not (decision.urgent or decision.actions):
            return True
        body = await self.cluster.rollout(*key)
        is_mine = self.rollouts.read(key, body)
        return is_mine and body is not None and body["metadata"]["resourceVersion"] == snapshot.resource_version

    def _let_go(self, key: Key, body: Mapping[str, Any] | None) -> None:
        """Gone, or relabelled: whoever's it is now goes on from status, so that nothing has to be handed over."""
        if body is None:
            self.observer.forget(key)
        else:
            log.info("let go: its labels are not those of --selector %s", self.rollouts.selector.text)
            self.observer.let_go(key)
        self.queue.prefer(key, wanted=False)
        metrics.hide(key)

    async def _act(self, key: Key, snapshot: Snapshot, decision: Decision) -> Decision:
        """Intent is committed before the act. Taking traffic off a candidate does not wait for that: it goes first.
        Returns the decision with what its urgent acts have led to, where that is known already.

        What is committed is reported and acted on even if an urgent act fails: it will not be decided again.
        """
        urgent = asyncio.create_task(self._carry_out(key, snapshot, decision.urgent))
        try:
            if decision.urgent:
                await asyncio.wait([urgent], timeout=BOOKS_WAIT)
                await self._let_others_revert()
                decision = await self._followed(snapshot, decision)
            await self._commit(key, snapshot, decision)
        finally:
            failed = (await asyncio.gather(urgent, return_exceptions=True))[0]
        self._report(key, snapshot, decision)
        await self._carry_out(key, snapshot, decision.actions)
        if failed is not None:
            raise failed
        return decision

    async def _followed(self, snapshot: Snapshot, decision: Decision) -> Decision:
        """Of a revert that has arrived by now one commit says both: the API server has one less to write."""
        status = status_to_follow(decision)
        if status is None:
            return decision
        try:
            after = await self.observer.after_acts(snapshot, status)
        except ApiError as error:
            log.warning("not looked at again before the commit: %s", error)
            return decision
        return with_what_followed(decision, after, self.clock())

    async def _let_others_revert(self) -> None:
        """Where many break at once their traffic is taken off before anybody's books are kept: a write of status costs
        the API server three times what a write of a route does."""
        if not self.queue.is_calm:
            self.turns.release()
            await self.queue.calm(BOOKS_WAIT_FOR_OTHERS)
            await self.turns.acquire()

    async def _commit(self, key: Key, snapshot: Snapshot, decision: Decision) -> None:
        if decision.status is not None:
            self._fence(key)
            self.rollouts.take(await self.cluster.commit(*key, snapshot.resource_version, decision.status))
            # Where thousands wait for a turn, the next look may come after the patience for missing evidence is over.
            self.observer.ask(replace(snapshot, status=decision.status))

    async def _carry_out(self, key: Key, snapshot: Snapshot, actions: tuple[Action, ...]) -> None:
        """All of them in order. One that is refused keeps no other from being done: a revert has several ways."""
        failed: list[ApiError] = []
        for action in actions:
            try:
                self._fence(key)
                await self.cluster.carry_out(*key, snapshot.resource_version, action)
            except ApiError as error:
                log.warning("not done: %s: %s", named(action), error, extra={"action": type(action).__name__})
                if not isinstance(action, NoteVote):  # a courtesy to the voter, made good with the next decision
                    failed.append(error)
            else:
                log.info("done: %s", named(action), extra={"action": type(action).__name__})
        if failed:
            raise failed[0]

    def _fence(self, key: Key) -> None:
        """A leader that may have been replaced writes nothing more, and nobody to a rollout that is not theirs."""
        if not self.may_act():
            raise Fenced(0, "the lease may be somebody else's by now")
        if key not in self.rollouts:
            raise Conflict(409, "the rollout is gone, or another shard's by now")

    def _report(self, key: Key, snapshot: Snapshot, decision: Decision) -> None:
        status = decision.status or snapshot.status
        metrics.show(key, status)
        metrics.count(key, status, decision.occurrences)
        subject = Subject(*key, snapshot.uid, snapshot.resource_version)
        for occurrence in decision.occurrences:
            level = logging.WARNING if occurrence.warning else logging.INFO
            details = {"rule": decision.rule, "reason": occurrence.reason}
            log.log(level, "%s: %s", occurrence.reason, occurrence.message, extra=details)
            self.events.post(subject, occurrence)

    async def _refuse(self, key: Key, body: Mapping[str, Any], error: ValidationError) -> None:
        """A spec that the API server let through but the models do not: said in status, nothing done.

        Where it is being deleted, everything is left as it is and the finalizer goes.
        """
        message = describe(error)
        log.error("spec refused: %s", message)
        metadata, generation = body["metadata"], body["metadata"].get("generation", 1)
        finalizers = metadata.get("finalizers") or []
        if metadata.get("deletionTimestamp") and FINALIZER in finalizers:
            rest = SetFinalizers(tuple(item for item in finalizers if item != FINALIZER))
            await self.cluster.carry_out(*key, metadata["resourceVersion"], rest)
            return
        try:
            known = ModelRolloutStatus.model_validate(body.get("status") or {})
        except ValidationError:
            known = ModelRolloutStatus()
        conditions = merge_conditions(
            known.conditions,
            [
                (ConditionType.READY, "False", "InvalidSpec", message),
                (ConditionType.STALLED, "True", "InvalidSpec", message),
                (ConditionType.ACCEPTED, "False", "InvalidSpec", message),
            ],
            generation=generation,
            now=self.clock(),
        )
        changes = {
            "phase": Phase.DEGRADED,
            "reason": "InvalidSpec",
            "message": message,
            "conditions": conditions,
            "observed_generation": generation,
        }
        refused = known.model_copy(update=changes)
        if refused != known:
            self.rollouts.take(await self.cluster.commit(*key, metadata["resourceVersion"], refused))


def named(action: Action) -> str:
    """An action in words, for the log."""
    if isinstance(action, Apply):
        metadata = action.manifest["metadata"]
        return f"apply {action.manifest['kind']} {metadata['name']}"
    if isinstance(action, Scale):
        return f"scale ReplicaSet {action.name} to {action.replicas}"
    if isinstance(action, SteerRoute):
        return f"steer HTTPRoute {action.name}"
    if isinstance(action, Delete):
        return f"delete {action.kind} {action.name}"
    if isinstance(action, SetOwner):
        return f"set owner of ReplicaSet {action.name} to {'the rollout' if action.owner_references else 'nobody'}"
    if isinstance(action, NoteVote):
        return f"note on Vote {action.name}: {action.reason}"
    assert isinstance(action, SetFinalizers)
    return f"set finalizers {list(action.finalizers)}"
