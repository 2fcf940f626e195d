"""What holds whatever happens: random lives of a rollout in the simulated cluster, with the process killed anywhere."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ops_commander.api.v1alpha1 import Outcome, StepState
from ops_commander.core import names
from ops_commander.core.decide import Decision, decide
from ops_commander.core.snapshot import Snapshot
from tests.unit.world import REQUESTS_PER_SECOND, Health, World, canary, full, rollout, shadow

PLAN = [shadow(), canary(10), canary(50), full()]
OTHER_PLAN = [canary(20), full()]
LATER = timedelta(seconds=1)

Script = list[tuple[str, Any, float]]


class Watch:
    """Looks at each decision and at what the cluster and its clients see."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.plans: list[list[dict[str, Any]]] = [world.spec_body["steps"]]
        self.reverting: str | None = None
        world.suspicious = True
        world.watches.append(self.look)

    def look(self, world: World, decision: Decision) -> None:
        snapshot = world.snapshot()
        self.look_at_weight(snapshot, decision)
        self.look_at_latch(decision)
        self.look_at_steps(snapshot, decision)

    def look_at_weight(self, snapshot: Snapshot, decision: Decision) -> None:
        """(a) Weight rises only to ready pods; (b) and only to what the plan says."""
        status = decision.status or snapshot.status
        old = snapshot.status.traffic.candidate_weight if snapshot.status.traffic else 0
        new = status.traffic.candidate_weight if status.traffic else 0
        allowed = {0, 100, *(step["canary"]["weight"] for plan in self.plans for step in plan if "canary" in step)}
        assert new in allowed, decision.message
        if new > old and snapshot.spec.replicas:
            service = snapshot.candidate_service
            assert service is not None and status.candidate_revision is not None
            assert service.revision == status.candidate_revision, decision.rule
            assert service.ready.get(status.candidate_revision, 0) >= 1, decision.rule

    def look_at_latch(self, decision: Decision) -> None:
        """(c) A deployment that is being reverted gets no weight and does not come back."""
        status = decision.status
        if status is None or status.deployment is None:
            return
        if self.reverting == status.deployment.id:
            assert status.step is None or status.step.state is StepState.REVERTING
            assert status.traffic is None or status.traffic.candidate_weight == 0
            assert status.deployment.outcome in (None, Outcome.ROLLED_BACK)

    def look_at_steps(self, snapshot: Snapshot, decision: Decision) -> None:
        """(f) One step forward at a time, and (h) only on proof or order."""
        before, after = snapshot.status, decision.status
        if after is None or after.deployment is None or before.deployment is None:
            return
        if before.deployment.id != after.deployment.id or not (before.step and after.step):
            return
        if before.step.state is StepState.LAUNCHING:
            return
        moved = after.step.index - before.step.index
        promoted = before.step.state is not after.step.state is StepState.SWITCHING
        if decision.rule != "replanned":
            assert moved in (0, 1), decision.rule
        if moved <= 0 and not promoted:
            return
        assert before.step.state in (StepState.RUNNING, StepState.PAUSED), before.step.state
        if decision.rule == "promoted":
            assert snapshot.annotations[names.PROMOTE].startswith(before.deployment.id)
            assert snapshot.annotations[names.PROMOTE] != before.handled_promote
            return
        assert decision.rule == "running"
        assert snapshot.policy is not None
        self.proved(snapshot)

    @staticmethod
    def proved(snapshot: Snapshot) -> None:
        ticks = {item.tally.last for item in snapshot.evidence.values()}
        step = snapshot.status.step
        assert step is not None and step.evidence_since is not None and snapshot.policy is not None
        assert len(ticks) == 1 and None not in ticks, "all on the same tick"
        for objective in snapshot.policy.objectives:
            tally = snapshot.evidence[objective.name].tally
            assert tally.first is not None and tally.first >= step.evidence_since + snapshot.interval
            assert tally.last is not None and tally.candidate.requests > 0
            rate = tally.candidate.requests / (tally.last - tally.first).total_seconds()
            assert rate <= REQUESTS_PER_SECOND * 1.001, "no request counts twice"

    def remember(self) -> None:
        """After each event: what has been committed."""
        status = self.world.status
        self.plans.append(self.world.spec_body["steps"])
        if status.step is not None and status.step.state is StepState.REVERTING and status.deployment:
            self.reverting = status.deployment.id


def do(world: World, what: str, detail: Any) -> None:
    """One event of a script."""
    deployment = world.status.deployment
    identity = deployment.id if deployment else "none"
    acts: dict[str, Callable[[], object]] = {
        "wait": lambda: None,
        "version": lambda: world.want_version(detail),
        "errors": lambda: setattr(world.health_of("2"), "errors", detail),
        "slow": lambda: setattr(world.health_of("2"), "latency", detail),
        "never ready": lambda: setattr(world.health_of("2"), "ready_after", detail),
        "restart": lambda: restart(world),
        "unready": lambda: set_ready(world, detail, ready=False),
        "ready": lambda: set_ready(world, 99, ready=True),
        "metrics": lambda: setattr(world, "metrics_up", detail),
        "series": lambda: setattr(world, "series_exist", detail),
        "gateway": lambda: world.set_gateway(up=detail),
        "paused": lambda: world.edit(paused=detail),
        "replicas": lambda: world.edit(replicas=detail),
        "steps": lambda: world.edit(steps=detail),
        "abort": lambda: world.annotate(names.ABORT, identity),
        "promote": lambda: world.annotate(names.PROMOTE, identity),
        "promote this": lambda: world.annotate(
            names.PROMOTE, f"{identity}/{world.status.step.index if world.status.step else 0}"
        ),
        "retry": lambda: world.annotate(names.RETRY, identity) if world.outcome is Outcome.ROLLED_BACK else None,
        "drift": lambda: drift(world, detail),
        "kill": lambda: world.kill(detail),
        "kill at write": lambda: setattr(world, "dies_before_write", detail),
        "commit first": lambda: setattr(world, "urgent_first", detail),
        "books wait": lambda: setattr(world, "books_wait", detail),
    }
    acts[what]()


def restart(world: World) -> None:
    for pod in list(world.pods_of("2"))[:1]:
        pod.restarts += 1


def set_ready(world: World, count: int, *, ready: bool) -> None:
    for pod in list(world.pods_of("2"))[:count]:
        world.set_ready(pod, ready=ready)


def drift(world: World, weight: int) -> None:
    """Another writer sets the candidate's weight."""
    if world.route is not None:
        world.edit_route(lambda spec: spec["rules"][0]["backendRefs"][-1].update(weight=weight))


def event(what: str, *details: Any) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(what), st.sampled_from(details or (None,)))


CALM = (
    event("wait"),
    event("version", "1", "2", "3"),
    event("paused", True, False),
    event("replicas", 1, 3, 5),
    event("steps", PLAN, OTHER_PLAN),
    event("abort"),
    event("promote"),
    event("promote this"),
    event("retry"),
    event("errors", 0.0, 0.2),
    event("slow", 0.04, 0.9),
    event("restart"),
    event("metrics", True, False),
    event("series", True, False),
    event("kill", 0.5, 5.0, 30.0),
    event("kill at write", *range(8)),
    event("commit first", True, False),
    event("books wait", 0.0, 0.2, 8.0),
    event("never ready", 2.0, None),
)
"""What must fail no request: neither pods nor the router are at fault."""

ROUGH = (
    *CALM,
    event("unready", 1, 9),
    event("ready"),
    event("gateway", True, False),
    event("drift", 0, 1, 100),
)

PAUSES = st.sampled_from((0.0, 0.05, 0.3, 1.0, 2.5, 7.0, 20.0, 45.0))


def scripts(*events: st.SearchStrategy[tuple[str, Any]]) -> st.SearchStrategy[Script]:
    return st.lists(st.tuples(st.one_of(*events), PAUSES).map(lambda item: (*item[0], item[1])), max_size=14)


def play(script: Script, lags: list[float], *, steps: list[dict[str, Any]] = PLAN) -> World:
    """A rollout of version 2 under way, with these events."""
    world = rollout().steps(*steps).live()
    order = iter(lags * 10_000)
    world.envoy_lag = lambda: next(order)
    watch = Watch(world)
    world.want_version("2")
    for what, detail, pause in [("wait", None, 5.0), *script]:
        do(world, what, detail)
        watch.remember()
        world.run(pause)
        watch.remember()
    return world


def calm_down(world: World) -> World:
    """All is well again, and time enough passes."""
    world.set_gateway(up=True)
    world.metrics_up = world.series_exist = True
    world.dies_before_write = None
    for version in ("1", "2", "3"):
        world.health[version] = Health()
        for pod in world.pods_of(version):
            world.set_ready(pod, ready=True)
    if world.spec.paused:
        world.edit(paused=False)
    world.run(2)
    return world.run_until(lambda: world.status.step is None and not world.status.retiring, 500).run(20)


LAGS = st.lists(st.sampled_from((0.01, 0.1, 0.3)), min_size=1, max_size=4)
EXAMPLES = int(os.environ.get("EXAMPLES", "8"))
"""A search through thousands takes minutes: EXAMPLES=2000 pytest tests/unit/core/test_invariants.py"""

SOME = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)


@SOME
@given(scripts(*CALM), LAGS)
def test_no_transition_fails_a_request(script: Script, lags: list[float]) -> None:
    world = play(script, lags)

    assert world.failed() == 0


@SOME
@given(scripts(*ROUGH), LAGS)
def test_every_life_ends_at_rest(script: Script, lags: list[float]) -> None:
    """Once all is well, a rollout is Completed or RolledBack, all traffic on stable, and nothing is written."""
    world = calm_down(play(script, lags))

    assert world.status.step is None, (world.status.reason, world.status.message)
    assert world.candidate_weight == 0
    stable = world.status.stable_version
    assert stable is not None
    assert abs(world.share(stable) - 1.0) < 1e-9
    for version in ("1", "2", "3"):
        assert world.pods(version) == (world.spec.replicas if version == stable else 0)
    writes = world.writes
    world.wake()
    assert world.run(100).writes == writes


@SOME
@given(scripts(*ROUGH), LAGS)
def test_an_abort_ends_without_traffic_and_pods(script: Script, lags: list[float]) -> None:
    world = play(script, lags)
    deployment = world.status.deployment
    if deployment is None or deployment.outcome is not None or world.spec.model.version != deployment.model_version:
        return

    world.dies_before_write = None
    world.annotate(names.ABORT, deployment.id)
    world.set_gateway(up=True)
    world.run(65)

    assert world.status.deployment is not None
    assert world.status.deployment.outcome in (Outcome.ROLLED_BACK, Outcome.COMPLETED)
    if world.status.deployment.outcome is Outcome.ROLLED_BACK:
        assert world.candidate_weight == 0
        assert world.pods(deployment.model_version) == 0


@SOME
@given(st.integers(0, 60), st.booleans(), st.sampled_from((0.5, 4.0)))
@example(10, True, 0.5)
def test_a_crash_between_any_two_writes_repeats_and_skips_nothing(write: int, urgent_first: bool, down: float) -> None:
    world = rollout().steps(shadow(), canary(10), full()).live()
    watch = Watch(world)
    world.urgent_first, world.dies_before_write = urgent_first, write
    world.want_version("2")

    world.run_until(lambda: world.status.stable_version == "2", 250).run(15)
    watch.remember()

    assert world.outcome is Outcome.COMPLETED
    assert world.status.stable_version == "2"
    assert [record.name for record in world.deployment.steps] == ["shadow", "canary 10%", "full"]
    assert world.status.deployments == 2
    assert world.failed() == 0


@SOME
@given(
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from((0.0, 0.2, 8.0)),
    st.sampled_from(("shadow", "canary 5%", "full")),
)
def test_a_crash_in_a_revert_still_reverts(write: int, urgent_first: bool, wait: float, step: str) -> None:
    world = rollout().at(step).run(5)
    Watch(world)
    world.health["2"].errors = 0.3
    world.urgent_first, world.books_wait, world.dies_before_write = urgent_first, wait, write
    broke = world.now

    world.run_until(lambda: world.outcome is not None, 60).run(10)

    assert world.outcome is Outcome.ROLLED_BACK
    assert (world.candidate_weight, world.pods("2")) == (0, 0)
    assert world.now - broke < timedelta(seconds=90)
    assert world.failed() == 0


@SOME
@given(st.data())
def test_decide_takes_any_status_with_any_surroundings(data: st.DataObject) -> None:
    """Status of one moment with the cluster of another: decide neither raises nor depends on when it is asked."""
    moments: list[tuple[Snapshot, datetime]] = MOMENTS or collect()
    (status_of, _), (around, now) = data.draw(st.sampled_from(moments)), data.draw(st.sampled_from(moments))
    keep = data.draw(
        st.sets(st.sampled_from(["replica_sets", "stable_service", "candidate_service", "route", "policy"]))
    )
    blank: dict[str, Any] = {name: {} if name == "replica_sets" else None for name in keep}
    mixed = dataclasses.replace(around, status=status_of.status, **blank)
    moment = now + data.draw(st.sampled_from((-LATER, LATER * 0, LATER, LATER * 600)))

    first = decide(mixed, moment)

    assert decide(mixed, moment) == first
    if first.status is not None and first.status.step is None:
        assert first.status.traffic is None or first.status.traffic.candidate_weight == 0


MOMENTS: list[tuple[Snapshot, datetime]] = []


def collect() -> list[tuple[Snapshot, datetime]]:
    """Snapshots from a rollout that succeeds, one that fails, and one under a referenced route."""
    for errors in (0.0, 0.3):
        world = rollout().steps(*PLAN).created()
        world.watches.append(lambda world, _: MOMENTS.append((world.snapshot(), world.now)))
        world.run(10)
        world.health["2"] = Health(errors=errors)
        world.want_version("2")
        world.run(60)
        world.edit(steps=OTHER_PLAN)
        world.run(120)
    return MOMENTS
