"""A cluster small enough to think about: carries out decide()'s actions on objects in memory, with its own clock.

ReplicaSets create pods that become Ready after a while or never; endpoints follow readiness; a gateway controller
takes the route in; Envoy follows both with a lag; pods count requests as a model server does. The operator's side is
the loop of runtime/reconciler.py, which can be killed between any two writes. `flow` holds what clients saw.
"""

from __future__ import annotations

import copy
import heapq
import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

from ops_commander.api.ballot import VoterRole
from ops_commander.api.conditions import Condition, ConditionType
from ops_commander.api.policy import RolloutPolicySpec
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    ModelRolloutSpec,
    ModelRolloutStatus,
    Outcome,
    StepState,
    StepStatus,
    TestState,
)
from ops_commander.api.verification import VerificationStatus
from ops_commander.api.vote import Vote, vote_name
from ops_commander.core import acceptance, names
from ops_commander.core.changes import Occurrence
from ops_commander.core.decide import Decision, decide, status_to_follow, with_what_followed
from ops_commander.core.desired import Action, Apply, Delete, NoteVote, Scale, SetFinalizers, SetOwner, SteerRoute
from ops_commander.core.question import question_of
from ops_commander.core.samples import Reading, Sample, tick_at_or_before
from ops_commander.core.snapshot import (
    Check,
    ComparerView,
    Installation,
    JobView,
    ReplicaSetView,
    ServiceView,
    Snapshot,
    Verified,
)
from ops_commander.runtime.evidence import EvidenceBook

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
ROUTE = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
EDGES = (0.05, 0.1, 0.25, 0.5, 0.505, 1.0, 2.5, float("inf"))
REQUESTS_PER_SECOND = 1000.0
SOURCE = "prometheus"
"""Name of the only server."""
TICK = timedelta(seconds=5)
MOST_IMMEDIATE = 12
"""Reconciles in a row without a moment passing: more is a decision that loops."""

POLICY = RolloutPolicySpec.model_validate(
    {
        "holdAfter": "20s",
        "verification": "Optional",
        "objectives": [
            {
                "name": "error-rate",
                "slo": "S3",
                "ratio": {"bad": "errors_total", "total": "requests_total"},
                "max": 0.01,
            },
            {
                "name": "p95-latency",
                "slo": "S2",
                "quantile": {"buckets": "seconds_bucket"},
                "max": 0.5,
                "breach": 0.505,
                "unit": "s",
            },
        ],
    }
)


class Killed(Exception):
    """The operator's process ended here."""


class Conflict(Exception):
    """Somebody else has changed the object since it was read."""


@dataclass
class Health:
    """How the pods of a model version behave."""

    ready_after: float | None = 2.0
    """Seconds until Ready; None: never."""
    errors: float = 0.0
    latency: float = 0.04


@dataclass
class Pod:
    name: str
    labels: Mapping[str, str]
    ready: bool = False
    alive: bool = True
    stopping: bool = False
    restarts: int = 0

    @property
    def revision(self) -> str:
        return self.labels[names.REVISION_LABEL]

    @property
    def version(self) -> str:
        return self.labels[names.MODEL_VERSION_LABEL]

    @property
    def serves(self) -> bool:
        return self.ready and not self.stopping


@dataclass
class ReplicaSet:
    manifest: dict[str, Any]
    created_at: datetime
    desired: int
    pods: list[Pod] = field(default_factory=list)
    born: int = 0

    @property
    def revision(self) -> str:
        return str(self.manifest["metadata"]["labels"][names.REVISION_LABEL])

    @property
    def present(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.stopping]


@dataclass(frozen=True)
class Segment:
    """Where the requests of a stretch of time went, as shares that add up to 1."""

    start: datetime
    end: datetime
    shares: Mapping[str, float]
    """By revision."""
    failed: float

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


@dataclass
class Counters:
    """What the pods of one revision have counted, over time: requests, errors, then one count for each bucket."""

    times: list[datetime] = field(default_factory=list)
    values: list[tuple[float, ...]] = field(default_factory=list)

    def count(self, start: datetime, end: datetime, requests: float, health: Health) -> None:
        last = self.values[-1] if self.values else (0.0,) * (2 + len(EDGES))
        if not self.times or self.times[-1] < start:
            self.times.append(start)
            self.values.append(last)
        grown = [requests, requests * health.errors]
        grown += [requests if health.latency <= edge else 0.0 for edge in EDGES]
        self.times.append(end)
        self.values.append(tuple(old + new for old, new in zip(last, grown, strict=True)))

    def at(self, moment: datetime) -> tuple[float, ...]:
        position = bisect_left(self.times, moment)
        if position == 0:
            return (0.0,) * (2 + len(EDGES))
        if position == len(self.times):
            return self.values[-1]
        before, after = self.values[position - 1], self.values[position]
        part = (moment - self.times[position - 1]) / (self.times[position] - self.times[position - 1])
        return tuple(round(low + (high - low) * part, 6) for low, high in zip(before, after, strict=True))


@dataclass
class Envoy:
    """What the proxy knows, somewhat later than the API."""

    backends: list[tuple[str, int]] = field(default_factory=list)
    mirror: tuple[str, int] | None = None
    endpoints: dict[str, list[Pod]] = field(default_factory=dict)


class World:
    """One rollout, everything around it, and the operator's loop."""

    def __init__(self, spec: Mapping[str, Any], *, name: str = "ranker", policy: RolloutPolicySpec | None = POLICY):
        self.name, self.namespace = name, "shop"
        self.now = START
        self.policy = policy
        self.health: dict[str, Health] = {}
        self.endpoints_after, self.gateway_after, self.write_takes = 0.1, 0.05, 0.01
        self.envoy_lag: Callable[[], float] = lambda: 0.3
        self.gateway_up = self.metrics_up = self.series_exist = self.running = True
        self.refusal: str | None = None
        self.extra_checks: tuple[Check, ...] = ()
        self.votes: dict[str, dict[str, Any]] = {}
        self.installation = Installation(image="ops-commander:1")
        self.findings: dict[str, VerificationStatus] = {}
        """By version of the model: what verifying its files brings."""
        self.file_problems: tuple[str, ...] | None = ()
        """What reading them again brings; None: nothing yet."""
        self.tests: dict[str, tuple[float, bool]] = {}
        """By name of a test: how many seconds it takes, and whether it passes."""
        self.jobs: dict[str, JobView] = {}
        self.comparers: dict[str, dict[str, Any]] = {}
        self.replica_sets: dict[str, ReplicaSet] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, list[Pod]] = {}
        self.route: dict[str, Any] | None = None
        self.envoy = Envoy()
        self.flow: list[Segment] = []
        self.occurrences: list[tuple[datetime, Occurrence]] = []
        self.decisions: list[tuple[datetime, Decision]] = []
        self.commits = self.writes = 0
        self.dies_before_write: int | None = None
        self.urgent_first = True
        self.books_wait = 0.0
        """Seconds between the acts of a revert and its commit."""
        self.busy_until = START
        """Till then the operator has no turn for this rollout; Prometheus is asked all the same."""
        self.suspicious = False
        """Whether each decision is made twice."""
        self.watches: list[Callable[[World, Decision], None]] = []
        self._counters: dict[str, Counters] = {}
        self._later: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._version = itertools.count(1)
        self._immediate = 0
        self._due: datetime | None = None
        self._restart()
        self._create(spec)
        self.after(0.5, self._poll)

    # --- The rollout and the people who edit it ----------------------------------------------------

    def _create(self, spec: Mapping[str, Any]) -> None:
        self.exists = True
        self.spec_body: dict[str, Any] = copy.deepcopy(dict(spec))
        self.spec = ModelRolloutSpec.model_validate(self.spec_body)
        self.uid = f"uid-{next(self._version)}"
        self.generation = 1
        self.annotations: dict[str, str] = {}
        self.finalizers: tuple[str, ...] = ()
        self.deleted_at: datetime | None = None
        self.status = ModelRolloutStatus()
        self._touch_rollout()

    def recreate(self, spec: Mapping[str, Any]) -> None:
        """Another ModelRollout of the same name."""
        assert not self.exists
        self._create(spec)

    def edit(self, **changes: Any) -> None:
        """Change fields of spec, in camelCase."""
        self.spec_body = {**self.spec_body, **copy.deepcopy(changes)}
        self.spec = ModelRolloutSpec.model_validate(self.spec_body)
        self.generation += 1
        self._touch_rollout()

    def want_version(self, version: str) -> None:
        self.edit(model={"name": "ranker", "version": version}, template=template(version))

    def annotate(self, key: str, value: str) -> None:
        self.annotations[key] = value
        self._touch_rollout()

    def vote(self, role: VoterRole, choice: str, risk: str = "Low", concern: str = "none", **spec: Any) -> Vote:
        """A Vote on the deployment under way, as admission would have let it in."""
        identity = spec.pop("deployment_id", None) or self.deployment.id
        body = {
            "rollout": self.name,
            "deploymentId": identity,
            "role": role,
            "voter": f"{role.slug}@example",
            "vote": choice,
            "risk": risk,
            "concern": concern,
            **spec,
        }
        version = next(self._version)
        metadata = {
            "name": vote_name(identity, role),
            "namespace": self.namespace,
            "uid": f"vote-{version}",
            "resourceVersion": str(version),
            "creationTimestamp": self.now.replace(microsecond=0).isoformat(),
        }
        cast: dict[str, Any] = {"kind": "Vote", "metadata": metadata, "spec": body}
        assert metadata["name"] not in self.votes, "the API server takes a name once"
        self.votes[vote_name(identity, role)] = cast
        self.wake()
        return Vote.model_validate(cast)

    def delete(self) -> None:
        self.deleted_at = self.now
        self._touch_rollout()

    def _touch_rollout(self) -> None:
        self.resource_version = str(next(self._version))
        self.wake()

    def wake(self) -> None:
        self._due = self.now

    # --- What tests ask ---------------------------------------------------------------------------------

    @property
    def step(self) -> StepStatus | None:
        return self.status.step

    @property
    def state(self) -> StepState | None:
        return self.status.step.state if self.status.step else None

    @property
    def deployment(self) -> DeploymentStatus:
        assert self.status.deployment is not None
        return self.status.deployment

    @property
    def outcome(self) -> Outcome | None:
        return self.status.deployment.outcome if self.status.deployment else None

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((item for item in self.status.conditions if item.type == kind), None)

    def reasons(self, since: datetime = START) -> list[str]:
        """Reasons of the events so far."""
        return [occurrence.reason for at, occurrence in self.occurrences if at >= since]

    @staticmethod
    @cache
    def revision(version: str) -> str:
        """Revision of a model version with the template and port that the builders give it."""
        body = {**rollout().body, "model": {"name": "ranker", "version": version}, "template": template(version)}
        return names.revision_of(ModelRolloutSpec.model_validate(body))

    def pods(self, version: str) -> int:
        """Pods of a model version that are not on their way out."""
        replica_set = self.replica_sets.get(names.replica_set_name(self.name, self.revision(version)))
        return len(replica_set.present) if replica_set else 0

    @property
    def weights(self) -> dict[str, int]:
        """Backends of the route's first rule, as the API has them."""
        assert self.route is not None
        return {item["name"]: item["weight"] for item in self.route["spec"]["rules"][0]["backendRefs"]}

    @property
    def candidate_weight(self) -> int:
        return self.weights.get(names.candidate_service_name(self.name), 0)

    def share(self, version: str) -> float:
        """Share of the requests that a model version answers now."""
        shares, _ = self._shares()
        return shares.get(self.revision(version), 0.0)

    def answered(self, version: str, since: datetime = START) -> float:
        """Seconds' worth of all requests that a model version has answered."""
        revision = self.revision(version)
        return sum(item.shares.get(revision, 0.0) * item.seconds for item in self.flow if item.start >= since)

    def failed(self, since: datetime = START) -> float:
        """Seconds' worth of all requests that nobody answered."""
        return round(sum(item.failed * item.seconds for item in self.flow if item.start >= since), 6)

    # --- Time -------------------------------------------------------------------------------------------

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        due = self.now + timedelta(milliseconds=round(seconds * 1000))
        heapq.heappush(self._later, (due, next(self._order), act))

    def _pass_until(self, moment: datetime) -> None:
        """Let time pass; requests flow, and what is due happens."""
        while self._later and self._later[0][0] <= moment:
            due, _, act = heapq.heappop(self._later)
            self._flow_until(due)
            act()
        self._flow_until(moment)

    def run(self, seconds: float = 0.0) -> Self:
        """Let the operator work for a while; without seconds, until it has nothing to do at once."""
        return self.run_until(lambda: False, seconds, must=False)

    def run_until(self, reached: Callable[[], bool], limit: float = 600.0, *, must: bool = True) -> Self:
        """Let the operator work until something is the case. Fails when it is not within the limit."""
        end = self.now + timedelta(milliseconds=round(limit * 1000))
        while not reached():
            due = self._due or end
            due = min(due, self._later[0][0]) if self._later else due
            if due > end or self.now >= end:
                self._pass_until(end)
                self._immediate = 0
                break
            if due > self.now:
                self._immediate = 0
                self._pass_until(due)
            if self._due is not None and self._due <= self.now:
                self._reconcile()
        assert reached() or not must, f"not reached in {limit}s: {self.status.reason}: {self.status.message}"
        return self

    # --- The operator -----------------------------------------------------------------------------------

    def _restart(self) -> None:
        """A new process: nothing remembered."""
        self.book = EvidenceBook(TICK, self.now)
        self._immediate = 0
        self.observing_since = self.now
        self.wake()

    def kill(self, down_for: float = 3.0) -> None:
        """The process ends now, and another one starts later."""
        self.running = False

        def start() -> None:
            self.running = True
            self._restart()

        self.after(down_for, start)

    def snapshot(self) -> Snapshot:
        spec = self.spec
        key = (self.namespace, self.name)
        snapshot = Snapshot(
            name=self.name,
            namespace=self.namespace,
            uid=self.uid,
            generation=self.generation,
            resource_version=self.resource_version,
            deleted_at=self.deleted_at,
            finalizers=self.finalizers,
            annotations=dict(self.annotations),
            spec=spec,
            status=self.status,
            policy=self.policy,
            replica_sets={item.revision: self._view(item) for item in self.replica_sets.values()},
            stable_service=self._service_view(names.stable_service_name(self.name)),
            candidate_service=self._service_view(names.candidate_service_name(self.name)),
            route=self.route,
            interval=TICK,
            observing_since=self.observing_since,
            stale_after=timedelta(seconds=12),
            installation=self.installation,
            verified=self._verified(),
            test_jobs=dict(self.jobs),
            comparer=self._comparer_view(),
            votes=tuple(Vote.model_validate(item) for item in self.votes.values()),
        )
        self.book.want(key, question_of(snapshot), SOURCE)
        snapshot = replace(snapshot, evidence=self.book.evidence(key))
        problem = None if self.policy else "spec.policyRef.name is 'gone': expected a RolloutPolicy of that name"
        checks = acceptance.spec_checks(snapshot, problem)
        return replace(snapshot, checks=(*checks, acceptance.template_accepted(), *self.extra_checks))

    def _verified(self) -> Verified | None:
        """As runtime/verifications asks: a new version's files, or the pinned ones before a step is left."""
        if self.spec.preflight is None:
            return None
        if self.status.step is not None:
            if self.status.step.leaving_since is None or self.file_problems is None:
                return Verified()
            return Verified(unchanged=not self.file_problems, problems=self.file_problems)
        found = self.findings.get(self.spec.model.label)
        if found is None or (self.status.verification and self.status.verification.revision == found.revision):
            return Verified()
        return Verified(found=found)

    def _comparer_view(self) -> ComparerView:
        service = names.comparer_service_name(self.name) in self.services
        return ComparerView(tuple(sorted(self.comparers)), service, bool(self.comparers))

    def _run_job(self, manifest: dict[str, Any]) -> None:
        """The Job controller runs a test to its end."""
        name = manifest["metadata"]["name"]
        assert name not in self.jobs, f"{name} is run twice"
        told = {item["name"]: item["value"] for item in manifest["spec"]["template"]["spec"]["containers"][0]["env"]}
        seconds, passes = self.tests[told["OPS_COMMANDER_TEST"]]
        self.jobs[name] = JobView(name, TestState.RUNNING, started_at=self.now)

        def end() -> None:
            if name in self.jobs:
                state = TestState.PASSED if passes else TestState.FAILED
                message = "" if passes else "Job has reached the specified backoff limit"
                self.jobs[name] = replace(self.jobs[name], state=state, message=message, ended_at=self.now)
                self.wake()

        self.after(seconds, end)
        self.wake()

    def _view(self, item: ReplicaSet) -> ReplicaSetView:
        waiting = any(not pod.ready for pod in item.present)
        return ReplicaSetView(
            name=item.manifest["metadata"]["name"],
            revision=item.revision,
            desired=item.desired,
            current=len(item.present),
            ready=sum(pod.serves for pod in item.pods),
            created_at=item.created_at,
            model_version=item.manifest["metadata"]["labels"][names.MODEL_VERSION_LABEL],
            target_port=int(item.manifest["metadata"]["annotations"][names.TARGET_PORT]),
            owned=bool(item.manifest["metadata"]["ownerReferences"]),
            restarts=sum(pod.restarts for pod in item.present),
            trouble="container server CrashLoopBackOff" if waiting else None,
        )

    def _service_view(self, name: str) -> ServiceView | None:
        manifest = self.services.get(name)
        if manifest is None:
            return None
        ready: dict[str, int] = {}
        for pod in self.endpoints.get(name, []):
            ready[pod.revision] = ready.get(pod.revision, 0) + 1
        return ServiceView(manifest, ready)

    def _reconcile(self) -> None:
        self._due = None
        if not self.exists or not self.running:
            return
        if self.now < self.busy_until:
            self._due = self.busy_until
            return
        self._immediate += 1
        snapshot = self.snapshot()
        decision = decide(snapshot, self.now)
        if self.suspicious:
            assert decide(snapshot, self.now) == decision
        assert self._immediate <= MOST_IMMEDIATE, f"loops without time passing: {decision.rule} {decision.message}"
        self.decisions.append((self.now, decision))
        for watch in self.watches:
            watch(self, decision)
        try:
            decision = self._act(snapshot, decision)
        except Killed:
            self.kill()
            return
        except Conflict:
            self._due = self.now + timedelta(milliseconds=20)
            return
        self.occurrences += [(self.now, occurrence) for occurrence in decision.occurrences]
        if decision.requeue_at is not None:
            due = max(decision.requeue_at, self.now)
            self._due = min(self._due, due) if self._due else due

    def _act(self, snapshot: Snapshot, decision: Decision) -> Decision:
        """Urgent actions go beside the commit: either may come first, and what they have led to may be in it."""
        if self.urgent_first:
            self._write(snapshot, *decision.urgent)
            decision = self._followed(decision)
            self._write(snapshot, decision.status)
        else:
            self._write(snapshot, decision.status, *decision.urgent)
        self._write(snapshot, *decision.actions)
        return decision

    def _followed(self, decision: Decision) -> Decision:
        status = status_to_follow(decision)
        if status is None:
            return decision
        self._pass_until(self.now + timedelta(seconds=self.books_wait))
        followed = with_what_followed(decision, replace(self.snapshot(), status=status), self.now)
        for watch in self.watches:
            watch(self, followed)
        return followed

    def _write(self, snapshot: Snapshot, *writes: ModelRolloutStatus | Action | None) -> None:
        for write in writes:
            if write is None:
                continue
            if self.dies_before_write is not None:
                self.dies_before_write -= 1
                if self.dies_before_write < 0:
                    self.dies_before_write = None
                    raise Killed
            self.writes += 1
            if isinstance(write, ModelRolloutStatus):
                self._commit(snapshot.resource_version, write)
                self.book.want((self.namespace, self.name), question_of(replace(snapshot, status=write)), SOURCE)
            else:
                self._carry_out(snapshot.resource_version, write)
            self._pass_until(self.now + timedelta(milliseconds=round(self.write_takes * 1000)))

    def _commit(self, resource_version: str, status: ModelRolloutStatus) -> None:
        if resource_version != self.resource_version:
            raise Conflict
        wire = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.status = ModelRolloutStatus.model_validate(wire)
        self.commits += 1
        self.resource_version = str(next(self._version))  # the echo of an own write wakes nobody

    def _carry_out(self, resource_version: str, action: Action) -> None:
        if isinstance(action, Apply):
            manifest = copy.deepcopy(dict(action.manifest))
            {
                "HTTPRoute": self._apply_route,
                "Service": self._apply_service,
                "ReplicaSet": self._apply_replica_set,
                "Job": self._run_job,
            }[manifest["kind"]](manifest)
        elif isinstance(action, Scale):
            self.replica_sets[action.name].desired = action.replicas
            self._sync_pods(self.replica_sets[action.name])
        elif isinstance(action, SteerRoute):
            assert self.route is not None
            if action.resource_version != self.route["metadata"]["resourceVersion"]:
                raise Conflict
            self.edit_route(lambda spec: spec.update(rules=copy.deepcopy(action.rules)))
        elif isinstance(action, Delete):
            self._delete(action.kind, action.name)
        elif isinstance(action, SetOwner):
            self.replica_sets[action.name].manifest["metadata"]["ownerReferences"] = action.owner_references
            self.wake()
        elif isinstance(action, NoteVote):
            said = {"counted": action.counted, "reason": action.reason, "message": action.message}
            if action.name in self.votes and self.votes[action.name]["metadata"]["uid"] == action.uid:
                self.votes[action.name]["status"] = said
                self.wake()
        else:
            assert isinstance(action, SetFinalizers)
            if resource_version != self.resource_version:
                raise Conflict
            self._set_finalizers(action.finalizers)

    # --- The API server and its controllers -------------------------------------------------------------

    def _set_finalizers(self, finalizers: tuple[str, ...]) -> None:
        self.finalizers = finalizers
        self._touch_rollout()
        if self.deleted_at is not None and not finalizers:
            self.exists = False
            self._collect_garbage()

    def _collect_garbage(self) -> None:
        """What the rollout owned goes with it."""
        for kind, held in (("ReplicaSet", {key: item.manifest for key, item in self.replica_sets.items()}),
                           ("Service", dict(self.services))):  # fmt: skip
            for name, manifest in held.items():
                if manifest["metadata"].get("ownerReferences"):
                    self._delete(kind, name)
        if self.route and self.route["metadata"].get("ownerReferences"):
            self._delete("HTTPRoute", self.route["metadata"]["name"])

    def _delete(self, kind: str, name: str) -> None:
        if kind == "Job":
            self.jobs.pop(name, None)
        elif kind == "ReplicaSet" and name in self.comparers:
            del self.comparers[name]
        elif kind == "ReplicaSet":
            gone = self.replica_sets.pop(name, None)
            if gone:
                gone.desired = 0
                self._sync_pods(gone)
        elif kind == "Service":
            self.services.pop(name, None)
            self.endpoints.pop(name, None)
            self._later_in_envoy(self._endpoints_reach_envoy)
        else:
            assert kind == "HTTPRoute"
            self.route = None
            self._later_in_envoy(self._route_reaches_envoy)
        self.wake()

    def add_route(self, name: str, rules: list[dict[str, Any]]) -> None:
        """A route that somebody else keeps."""
        self._apply_route({"metadata": {"name": name}, "spec": {"parentRefs": [{"name": "gw"}], "rules": rules}})

    def edit_route(self, change: Callable[[dict[str, Any]], None]) -> None:
        """A write to the route by anybody."""
        assert self.route is not None
        manifest = {"metadata": dict(self.route["metadata"]), "spec": copy.deepcopy(self.route["spec"])}
        change(manifest["spec"])
        self._apply_route(manifest)

    def _apply_route(self, manifest: dict[str, Any]) -> None:
        spec = with_defaults(manifest["spec"])
        known = self.route
        if known and known["spec"] == spec:
            return
        generation = known["metadata"]["generation"] + 1 if known else 1
        metadata = {**manifest["metadata"], "generation": generation, "resourceVersion": str(next(self._version))}
        status = known["status"] if known else {"parents": []}
        self.route = {**ROUTE, "metadata": metadata, "spec": spec, "status": status}
        self.after(self.gateway_after, self._take_in_route)
        self.wake()

    def _take_in_route(self) -> None:
        """The gateway controller reads the route, says so, and tells Envoy."""
        if self.route is None or not self.gateway_up:
            return
        generation = self.route["metadata"]["generation"]
        conditions = [
            {"type": "Accepted", "status": "True", "reason": "Accepted", "observedGeneration": generation},
            {"type": "ResolvedRefs", "status": str(not self.refusal), "reason": self.refusal or "ResolvedRefs"},
        ]
        status = {"parents": [{"parentRef": {"name": "gw"}, "conditions": conditions}]}
        if self.route["status"] != status:
            metadata = {**self.route["metadata"], "resourceVersion": str(next(self._version))}
            self.route = {**self.route, "metadata": metadata, "status": status}
            self.wake()
        self._later_in_envoy(self._route_reaches_envoy)

    def set_gateway(self, *, up: bool) -> None:
        """Envoy's controller brings it both routes and endpoints, and what it missed when it comes back."""
        self.gateway_up = up
        if up:
            self.after(self.gateway_after, self._take_in_route)
            self._later_in_envoy(self._endpoints_reach_envoy)

    def refuse_route(self, reason: str | None) -> None:
        """The Gateway says that something is wrong with the route, or that it is well again."""
        self.refusal = reason
        self.after(self.gateway_after, self._take_in_route)

    def _later_in_envoy(self, arrive: Callable[[], None]) -> None:
        """Envoy learns of routes and of endpoints apart from each other, and then what is true by then."""

        def come() -> None:
            if self.gateway_up:
                arrive()

        self.after(self.envoy_lag(), come)

    def _endpoints_reach_envoy(self) -> None:
        self.envoy.endpoints = {name: list(pods) for name, pods in self.endpoints.items()}

    def _route_reaches_envoy(self) -> None:
        if self.route is None:
            self.envoy.backends, self.envoy.mirror = [], None
            return
        rule = self.route["spec"]["rules"][0]
        self.envoy.backends = [(item["name"], item["weight"]) for item in rule["backendRefs"]]
        mirrors = [item["requestMirror"] for item in rule.get("filters") or [] if item["type"] == "RequestMirror"]
        ours = [item for item in mirrors if item["backendRef"]["name"] == names.candidate_service_name(self.name)]
        self.envoy.mirror = (ours[0]["backendRef"]["name"], ours[0].get("percent", 100)) if ours else None

    def _apply_service(self, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if self.services.get(name) != manifest:
            self.services[name] = manifest
            self._endpoints_will_follow()
            self.wake()

    def _endpoints_will_follow(self) -> None:
        self.after(self.endpoints_after, self._sync_endpoints)

    def _sync_endpoints(self) -> None:
        """Nobody watches endpoints, so this wakes nobody."""
        pods = [pod for item in self.replica_sets.values() for pod in item.pods]
        self.endpoints = {
            name: [pod for pod in pods if pod.serves and manifest["spec"]["selector"].items() <= pod.labels.items()]
            for name, manifest in self.services.items()
        }
        self._later_in_envoy(self._endpoints_reach_envoy)

    def _apply_replica_set(self, manifest: dict[str, Any]) -> None:
        name = manifest["metadata"]["name"]
        if names.COMPARER_OF in manifest["metadata"]["labels"]:
            self.comparers[name] = manifest
            self.wake()
            return
        known = self.replica_sets.get(name)
        if known is None:
            known = self.replica_sets[name] = ReplicaSet(manifest, self.now, manifest["spec"]["replicas"])
        known.manifest, known.desired = manifest, manifest["spec"]["replicas"]
        self._sync_pods(known)
        self.wake()

    def _sync_pods(self, item: ReplicaSet) -> None:
        while len(item.present) < item.desired:
            item.born += 1
            name = f"{item.manifest['metadata']['name']}-{self.uid[4:]}{item.born:03}"
            pod = Pod(name, item.manifest["spec"]["template"]["metadata"]["labels"])
            item.pods.append(pod)
            wait = self.health_of(pod.version).ready_after
            if wait is not None:
                self.after(wait, lambda pod=pod: self.set_ready(pod, ready=True))  # type: ignore[misc]
        for pod in sorted(item.present, key=lambda pod: pod.ready)[: max(0, len(item.present) - item.desired)]:
            self._stop(item, pod)
        self.wake()

    def _stop(self, item: ReplicaSet, pod: Pod) -> None:
        """Out of the endpoints at once; serves on through its preStop pause."""
        pod.stopping = True
        containers = item.manifest["spec"]["template"]["spec"]["containers"]
        pause = containers[0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)

        def end() -> None:
            pod.alive = False
            item.pods.remove(pod)

        self._endpoints_will_follow()
        self.after(max(pause, 0.001), end)

    def set_ready(self, pod: Pod, *, ready: bool) -> None:
        if not pod.stopping and pod.alive:
            pod.ready = ready
            self._endpoints_will_follow()
            self.wake()

    def pods_of(self, version: str) -> Iterator[Pod]:
        return (pod for item in list(self.replica_sets.values()) for pod in item.present if pod.version == version)

    def health_of(self, version: str) -> Health:
        return self.health.setdefault(version, Health())

    # --- Requests and metrics ---------------------------------------------------------------------------

    def _shares(self) -> tuple[dict[str, float], float]:
        shares: dict[str, float] = {}
        failed = 0.0
        total = sum(weight for _, weight in self.envoy.backends)
        for service, weight in self.envoy.backends:
            pods = self.envoy.endpoints.get(service, [])
            if not weight:
                continue
            if not pods:
                failed += weight / total
            for pod in pods:
                part = weight / total / len(pods)
                if pod.alive:
                    shares[pod.revision] = shares.get(pod.revision, 0.0) + part
                else:
                    failed += part
        return shares, failed

    def _flow_until(self, moment: datetime) -> None:
        if moment <= self.now:
            return
        if self.envoy.backends:
            shares, failed = self._shares()
            self._count(moment, shares)
            last = self.flow[-1] if self.flow else None
            if last and last.end == self.now and last.shares == shares and last.failed == failed:
                self.flow[-1] = replace(last, end=moment)
            else:
                self.flow.append(Segment(self.now, moment, shares, failed))
        self.now = moment

    def _count(self, moment: datetime, shares: Mapping[str, float]) -> None:
        seen = dict(shares)
        if self.envoy.mirror:
            service, percent = self.envoy.mirror
            for pod in (pods := [pod for pod in self.envoy.endpoints.get(service, []) if pod.alive]):
                seen[pod.revision] = seen.get(pod.revision, 0.0) + percent / 100 / len(pods)
        requests = (moment - self.now).total_seconds() * REQUESTS_PER_SECOND
        versions = {item.revision: self._view(item).model_version for item in self.replica_sets.values()}
        for revision, share in seen.items():
            counters = self._counters.setdefault(revision, Counters())
            counters.count(self.now, moment, requests * share, self.health_of(versions.get(revision, "?")))

    def _poll(self) -> None:
        """As runtime/poller.py: each query once a tick, and what was missed as history."""
        self.after(TICK.total_seconds(), self._poll)
        if not self.running:
            return
        tick = tick_at_or_before(self.now, TICK)
        concerned = False
        for query, keys in self.book.queries().get(SOURCE, {}).items():
            if self.metrics_up:
                concerned = bool(self.book.answered(SOURCE, query, self._reading(query, tick), keys)[0]) or concerned
            else:
                self.book.failed(SOURCE, query, "Prometheus cannot be reached: ConnectionError")
                concerned = True
        for gap in list(self.book.gaps(tick)) if self.metrics_up else []:
            ticks = [gap.start + TICK * number for number in range((gap.end - gap.start) // TICK + 1)]
            history = {query: [self._reading(query, at) for at in ticks] for query in gap.question.queries}
            concerned = self.book.filled(gap, history) or concerned
        if concerned and (self._due is None or self._due > self.now):
            self._due = self.now

    def _reading(self, query: str, at: datetime) -> Reading:
        rows = {}
        for item in self.replica_sets.values():
            counters = self._counters.get(item.revision)
            if counters is not None and item.present and self.series_exist:
                name = item.manifest["metadata"]["name"]
                rows[(self.namespace, name)] = {f"{name}-0": _samples(query, counters.at(at))}
        return Reading(at, rows)


def _samples(query: str, counted: tuple[float, ...]) -> tuple[Sample, ...]:
    requests, errors, *buckets = counted
    if query == "nothing_total":
        return ()
    if query == "requests_total":
        return (Sample("requests", requests),)
    if query == "errors_total":
        return (Sample("errors", errors),) if errors else ()
    assert query == "seconds_bucket"
    return tuple(Sample(f"le={edge}", count, edge) for edge, count in zip(EDGES, buckets, strict=True))


def with_defaults(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Spec of an HTTPRoute as the API server stores it."""
    stored: dict[str, Any] = copy.deepcopy(dict(spec))
    for parent in stored.get("parentRefs", []):
        parent.setdefault("group", "gateway.networking.k8s.io")
        parent.setdefault("kind", "Gateway")
    for rule in stored.get("rules", []):
        rule.setdefault("matches", [{"path": {"type": "PathPrefix", "value": "/"}}])
        mirrors = [item["requestMirror"]["backendRef"] for item in rule.get("filters") or [] if "requestMirror" in item]
        for backend in (*rule.get("backendRefs", []), *mirrors):
            backend.setdefault("group", "")
            backend.setdefault("kind", "Service")
        for backend in rule.get("backendRefs", []):
            backend.setdefault("weight", 1)
    return stored


# --- Builders ---------------------------------------------------------------------------------------------


def template(version: str) -> dict[str, Any]:
    container = {"name": "server", "image": f"ranker:{version}", "ports": [{"containerPort": 8080}]}
    return {"spec": {"containers": [container]}}


def shadow(percent: int = 100, *, least: str = "30s", most: str = "90s") -> dict[str, Any]:
    return {"shadow": {"percent": percent, "minDuration": least, "maxDuration": most}}


def canary(weight: int, *, least: str = "30s", most: str = "90s") -> dict[str, Any]:
    return {"canary": {"weight": weight, "minDuration": least, "maxDuration": most}}


def full(*, bake: str = "30s", most: str = "90s") -> dict[str, Any]:
    return {"full": {"bake": bake, "maxDuration": most}}


@dataclass(frozen=True)
class RolloutBuilder:
    """`rollout("ranker").steps(canary(5), full()).at("canary 5%")`"""

    name: str
    body: Mapping[str, Any]
    wanted_policy: RolloutPolicySpec | None = POLICY

    def with_(self, **fields: Any) -> RolloutBuilder:
        """Other fields of spec, in camelCase."""
        return replace(self, body={**self.body, **fields})

    def steps(self, *steps: Mapping[str, Any]) -> RolloutBuilder:
        return self.with_(steps=list(steps))

    def replicas(self, replicas: int) -> RolloutBuilder:
        return self.with_(replicas=replicas)

    def policy(self, **fields: Any) -> RolloutBuilder:
        """Other fields of the policy, in camelCase."""
        old = POLICY.model_dump(mode="json", by_alias=True, exclude_none=True)
        return replace(self, wanted_policy=RolloutPolicySpec.model_validate({**old, **fields}))

    def referenced(self, route: str) -> RolloutBuilder:
        return self.with_(traffic={"gatewayAPI": {"httpRouteRef": {"name": route}}})

    def created(self) -> World:
        """Just applied, version 1."""
        return World(self.body, name=self.name, policy=self.wanted_policy)

    def live(self) -> World:
        """Version 1 serves."""
        world = self.created()
        return world.run_until(lambda: world.outcome is Outcome.COMPLETED).run(2)

    def trying(self, **health: Any) -> World:
        """Version 1 serves, version 2 was just asked for and behaves as given."""
        world = self.live()
        world.health["2"] = Health(**health)
        world.want_version("2")
        return world

    def at(self, step: str, state: StepState = StepState.RUNNING, **health: Any) -> World:
        """Version 2 has come as far as a state of a step."""
        world = self.trying(**health)
        return world.run_until(lambda: world.step is not None and (world.step.name, world.state) == (step, state))


def rollout(name: str = "ranker") -> RolloutBuilder:
    """Two replicas; shadow, 5 %, full, half a minute each."""
    body = {
        "replicas": 2,
        "template": template("1"),
        "model": {"name": "ranker", "version": "1"},
        "service": {"port": 80, "targetPort": 8080},
        "traffic": {"gatewayAPI": {"parentRefs": [{"name": "gw"}], "hostnames": ["ranker.example"]}},
        "steps": [shadow(), canary(5), full()],
        "progressDeadline": "60s",
        "drain": "5s",
    }
    return RolloutBuilder(name, body)
