"""Observe: everything around one rollout, read fresh and frozen into a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from ops_commander.adapters.cluster import Cluster, Surroundings
from ops_commander.adapters.kubernetes import ApiError, Invalid
from ops_commander.api.fields import parse_time
from ops_commander.api.v1alpha1 import (
    DEFAULT_POLICY,
    ModelRollout,
    RolloutPolicy,
    RolloutPolicySpec,
)
from ops_commander.core import acceptance, manifests, names
from ops_commander.core.snapshot import Check, Evidence, Snapshot
from ops_commander.runtime.evidence import EvidenceBook
from ops_commander.runtime.workqueue import Key

ASK_AGAIN = timedelta(seconds=5)
MOST_REMEMBERED = 10_000


class RunRegistry(Protocol):
    """Where runs of models are recorded."""

    async def verify_run(self, run_id: str) -> Check: ...


@dataclass
class _Remembered:
    checks: tuple[Check, ...]
    until: datetime | None


@dataclass
class Observer:
    """Builds snapshots. Remembers which revisions have passed the checks that cost a request."""

    cluster: Cluster
    runs: RunRegistry | None
    book: EvidenceBook
    clock: Callable[[], datetime]
    stale_after: timedelta
    _checked: dict[tuple[str, str], _Remembered] = field(default_factory=dict)

    async def snapshot(self, body: Mapping[str, Any]) -> Snapshot:
        """Raises ValidationError for a spec that the models refuse, ApiError where something cannot be read."""
        rollout = ModelRollout.model_validate(body)
        metadata = rollout.metadata
        key: Key = (metadata["namespace"], metadata["name"])
        spec = rollout.spec
        reference = spec.traffic.gateway_api.http_route_ref
        around = await self.cluster.surroundings(
            *key, reference.name if reference else key[1], spec.policy_ref.name if spec.policy_ref else None
        )
        policy, problem = _policy_of(rollout, around)
        snapshot = Snapshot(
            name=key[1],
            namespace=key[0],
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
            resource_version=metadata["resourceVersion"],
            deleted_at=parse_time(metadata["deletionTimestamp"]) if metadata.get("deletionTimestamp") else None,
            finalizers=tuple(metadata.get("finalizers") or ()),
            annotations=metadata.get("annotations") or {},
            spec=spec,
            status=rollout.status,
            policy=policy,
            replica_sets=around.replica_sets,
            stable_service=around.stable_service,
            candidate_service=around.candidate_service,
            route=around.route,
            has_leftover_route=around.has_leftover_route,
            evidence=self._evidence(key, rollout, policy, around),
            observing_since=self.book.since,
            stale_after=self.stale_after,
        )
        checks = acceptance.spec_checks(snapshot, problem)
        return replace(snapshot, checks=(*checks, *await self._costly_checks(snapshot)))

    def _evidence(
        self, key: Key, rollout: ModelRollout, policy: RolloutPolicySpec | None, around: Surroundings
    ) -> dict[str, Evidence]:
        """Rows for both arms; the queries are wanted from the moment that a deployment is under way."""
        status = rollout.status
        under_way = status.step is not None and status.stable_revision is not None
        judged = policy.objectives if policy and under_way else []
        self.book.want(key, judged)
        candidate = around.pods.get(status.candidate_revision or "", frozenset())
        stable = around.pods.get(status.stable_revision or "", frozenset())
        return {objective.name: self.book.evidence(key, objective, candidate, stable) for objective in judged}

    async def _costly_checks(self, snapshot: Snapshot) -> tuple[Check, ...]:
        """A dry run of the pods and a look at the run, for a revision that is not stable yet."""
        revision = names.revision_of(snapshot.spec)
        status = snapshot.status
        under_way = status.step is not None and status.candidate_revision == revision
        if under_way or revision == status.stable_revision or snapshot.deleted_at is not None:
            return ()
        known = self._checked.get((snapshot.uid, revision))
        now = self.clock()
        if known and (known.until is None or now < known.until):
            return known.checks
        checks = (await self._dry_run(snapshot, revision), *await self._verify_run(snapshot))
        lasting = all(check.passed for check in checks)
        if len(self._checked) > MOST_REMEMBERED:
            self._checked.clear()
        self._checked[(snapshot.uid, revision)] = _Remembered(checks, None if lasting else now + ASK_AGAIN)
        return checks

    async def _dry_run(self, snapshot: Snapshot, revision: str) -> Check:
        try:
            await self.cluster.dry_run(manifests.replica_set(snapshot, revision, 0, "dry-run"))
        except Invalid as error:
            return acceptance.template_refused(error.message)
        except ApiError as error:
            return acceptance.template_unknown(str(error))
        return acceptance.template_accepted()

    async def _verify_run(self, snapshot: Snapshot) -> tuple[Check, ...]:
        run_id = snapshot.spec.model.run_id
        if run_id is None or self.runs is None:
            return ()
        return (await self.runs.verify_run(run_id),)

    def forget(self, key: Key) -> None:
        self.book.forget(key)


def _policy_of(rollout: ModelRollout, around: Surroundings) -> tuple[RolloutPolicySpec | None, str | None]:
    reference = rollout.spec.policy_ref
    if reference is None:
        return DEFAULT_POLICY, None
    if around.policy is None:
        expected = "expected a RolloutPolicy of that name in this namespace"
        return None, f"spec.policyRef.name is {reference.name!r}: {expected}"
    try:
        return RolloutPolicy.model_validate(around.policy).spec, None
    except ValidationError as error:
        return None, f"RolloutPolicy {reference.name}: {describe(error)}"


def describe(error: ValidationError) -> str:
    """Field, value and expectation of each thing that is wrong."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])} is {item.get('input')!r:.80}: {item['msg']}"
        for item in error.errors(include_url=False)
    )
