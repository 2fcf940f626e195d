"""What is measured, one scenario after the other, on one fleet."""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import audit, machine
from benchmarks.commander import POLL_SECONDS, Commander, profiled
from benchmarks.controlplane import OPERATORS
from benchmarks.fleet import Key, Seen
from benchmarks.prometheus import BAD_ERRORS, CANDIDATE_RATE
from benchmarks.report import Figures, spread
from benchmarks.stage import MANY_SECONDS, Stage, is_rolled_back, now
from hack.cluster.progress import say
from ops_commander.api.fields import parse_time

SETTLED_AFTER = 300.0
STEADY_TICKS = 12
AT_REST_SECONDS = 15.0
"""Until what a promotion leaves behind is done: pods drained, events posted, status written."""
BAD_PER_SECOND = CANDIDATE_RATE * BAD_ERRORS
_RELEVANT = {"errors": "errors", "slow": "buckets"}
_PROCESSES = ("kube-apiserver", "etcd", "prometheus")
FAULTY_AT_ONCE = 10
_SHORT_STEPS = (
    {"canary": {"weight": 10, "minDuration": "1s", "maxDuration": "4h"}},
    {"full": {"bake": "1h", "maxDuration": "4h"}},
)


@dataclass
class Bench(Stage):
    """One operator, and what is done to it."""

    profiles: Path | None = None
    leader: Commander | None = None

    @property
    def operator(self) -> Commander:
        assert self.leader is not None
        return self.leader

    def _profile(self, name: str) -> Path | None:
        return self.profiles / f"{len(self.fleet.keys)}-{name}.txt" if self.profiles else None

    # --- setting up ---------------------------------------------------------------------------------

    async def launched(self) -> Figures:
        """A first version live: nothing is under way."""
        began = now()
        self.leader = self.commanders.start(OPERATORS[0])
        await self.operator.ready()
        await self.launch()
        return {"first_version": now() - began}

    async def in_canary(self) -> Figures:
        """A second version in a canary step that lasts."""
        began = now()
        await self.renew(self.fleet.keys)
        canary = now()
        await self.judged(self.fleet.keys)
        return {"canary": canary - began, "judged": now() - canary}

    # --- nothing happens ----------------------------------------------------------------------------

    async def resting(self) -> Figures:
        """All completed."""
        await asyncio.sleep(AT_REST_SECONDS)
        return await self._watched("resting")

    async def steady(self) -> Figures:
        """All in canary for five minutes at least, when verdicts have settled; nothing changes but the counters."""
        youngest = max(self.fleet.of(key).evidence_since for key in self.fleet.keys)
        await asyncio.sleep(max(0.0, youngest + SETTLED_AFTER - now()))
        return await self._watched("steady")

    async def _watched(self, name: str) -> Figures:
        """What the operator and the others use in a minute."""
        pid = self.operator.pid
        others = {what: self.plane.pids[what] for what in _PROCESSES}
        with profiled(pid, self._profile(name)):
            began, offset = now(), audit.end_of(self.plane.audit_log)
            before, others_before = machine.usage(pid), {what: machine.usage(one) for what, one in others.items()}
            harness = machine.usage(os.getpid())
            said, metrics = await self.said(), await self.operator.metrics()
            memory = []
            for _ in range(STEADY_TICKS):
                await asyncio.sleep(POLL_SECONDS)
                memory.append(machine.usage(pid).rss)
            after, others_after = machine.usage(pid), {what: machine.usage(one) for what, one in others.items()}
            ended, said_after, metrics_after = now(), await self.said(), await self.operator.metrics()
        ticks = (ended - began) / POLL_SECONDS
        counts = audit.counted(audit.calls(self.plane.audit_log, offset), began, ended)
        writes = sum(count for (verb, _), count in counts.items() if verb not in ("get", "list", "watch"))
        queries = sum(said_after["counts"].values()) - sum(said["counts"].values())
        reconciles, spent = (
            metrics_after[metric] - metrics[metric]
            for metric in (
                "ops_commander_reconcile_duration_seconds_count",
                "ops_commander_reconcile_duration_seconds_sum",
            )
        )
        return {
            "cores": after.cores_since(before),
            "cores_of_others": {what: used.cores_since(others_before[what]) for what, used in others_after.items()},
            "cores_of_harness": machine.usage(os.getpid()).cores_since(harness),
            "rss": median(memory),
            "pss": machine.pss(pid),
            "peak": after.peak,
            "queries_per_tick": queries / ticks,
            "reads_per_tick": (sum(counts.values()) - writes) / ticks,
            "writes_per_tick": writes / ticks,
            "writes": writes,
            "reconciles_per_tick": reconciles / ticks,
            "reconcile_ms": 1000 * spent / reconciles if reconciles else None,
            "calls_per_tick": {" ".join(call): round(count / ticks, 2) for call, count in counts.most_common()},
        }

    # --- breaking -----------------------------------------------------------------------------------

    async def break_one_by_one(self, times: int) -> Figures:
        return await self._broken([1] * times)

    async def break_percent(self, times: int) -> Figures:
        """Of a hundred or fewer that is one, which has been measured."""
        count = math.ceil(len(self.fleet.keys) / 100)
        return await self._broken([count] * times) if count > 1 else {}

    async def break_all(self) -> Figures:
        await self.restore()
        pid = self.operator.pid
        before = machine.usage(pid)
        with profiled(pid, self._profile("all")):
            figures = await self._broken([len(self.fleet.keys)])
        return {**figures, "cores": machine.usage(pid).cores_since(before)}

    async def _broken(self, rounds: Sequence[int]) -> Figures:
        found: list[dict[str, float | None]] = []
        for count in rounds:
            if len(self.fleet.healthy()) < count:
                await self.restore()
            chosen = random.sample(self.fleet.healthy(), count)
            found += await self._break(chosen)
        names = sorted({name for each in found for name in each})
        return {name: spread(each.get(name) for each in found) for name in names}

    async def _break(self, keys: Sequence[Key], mode: str = "errors") -> list[dict[str, float | None]]:
        """At an instant that has nothing to do with the operator's ticks."""
        at = now() + 0.5 + random.uniform(0, POLL_SECONDS)
        candidates = self.fleet.candidates(keys)
        await self.fault(keys, at, mode)
        await self.fleet.until(
            f"{len(keys)} reverted",
            lambda seen: is_rolled_back(seen) and bool(seen.weight_zero_after(at)),
            keys,
            MANY_SECONDS,
        )
        answers = (await self.said(at))["answers"]
        served = {answer["at"]: answer["served"] for answer in answers if answer["kind"] == _RELEVANT.get(mode)}
        return [self._latencies(self.fleet.of(key), candidates[key][1], at, served) for key in keys]

    def _latencies(
        self, seen: Seen, replica_set: str, at: float, served: Mapping[float, float]
    ) -> dict[str, float | None]:
        """`served`: when each tick was read. The first bad tick may hold too few errors to decide."""
        zero, down = seen.weight_zero_after(at), seen.scaled_down_after(at, replica_set)
        rollback = seen.status["rollback"]
        visible = parse_time(rollback["breachVisibleAt"]).timestamp()
        read = served.get(visible)
        first = min((moment for tick, moment in served.items() if tick > at + 1 / BAD_PER_SECOND), default=None)
        return {
            "fault_to_weight_0": _between(at, zero),
            "first_bad_to_weight_0": _between(first, zero),
            "served_to_weight_0": _between(read, zero),
            "visible_to_weight_0": _between(visible, zero),
            "fault_to_visible": _between(at, visible),
            "served_to_scaled_down": _between(read, down),
            "fault_to_scaled_down": _between(at, down),
            "visible_to_traffic_confirmed": rollback.get("trafficSeconds"),
            "visible_to_pods_gone": rollback.get("replicaSetSeconds"),
        }

    # --- without evidence ---------------------------------------------------------------------------

    async def faults(self) -> Figures:
        """Candidates that turn slow, and evidence that is no number, not there, or refused."""
        figures: Figures = {}
        for mode in ("slow", "nan", "empty", "unavailable"):
            await self.restore()
            healthy = self.fleet.healthy()
            chosen = random.sample(healthy, min(len(healthy), FAULTY_AT_ONCE))
            figures[mode] = await (self._slow(chosen) if mode == "slow" else self._blind(chosen, mode))
            say(f"faults: {mode}: {figures[mode]}")
            await self.renew(chosen)
        return figures

    async def _slow(self, chosen: list[Key]) -> Figures:
        began = now()
        found = await self._break(chosen, "slow")
        weight_0 = spread(each["fault_to_weight_0"] for each in found)
        return {
            "candidates": len(chosen),
            "reverted": len(found),
            "fault_to_weight_0": weight_0,
            **self._went(chosen, began),
        }

    async def _blind(self, chosen: list[Key], mode: str) -> Figures:
        """Nothing but the fault keeps them in their step: what was seen before would let them go on."""
        at = now() + 0.5 + random.uniform(0, POLL_SECONDS)
        everywhere = mode == "unavailable"
        concerned = list(self.fleet.keys) if everywhere else chosen
        await self.fault([] if everywhere else chosen, at, mode)
        await asyncio.sleep(at + 2 * POLL_SECONDS - now())
        for key in chosen:
            await self.fleet.patch(key, {"spec": {"steps": _SHORT_STEPS}})
        await self.fleet.until(
            "it is held",
            lambda seen: seen.state == "Held" and bool(seen.weight_zero_after(at)),
            concerned,
            MANY_SECONDS,
        )
        end = now() + random.uniform(0, POLL_SECONDS)
        went = self._went(concerned, at)
        await self.fault([] if everywhere else chosen, at, mode, until=end)
        await self.fleet.until(
            "it has traffic again", lambda seen: bool(seen.weight_after(end, bool)), concerned, MANY_SECONDS
        )
        await self.fleet.until(
            "it goes on to the next step",
            lambda seen: bool(seen.weight_after(end, lambda weight: weight == 100)),
            chosen,
            MANY_SECONDS,
        )
        seen = [self.fleet.of(key) for key in concerned]
        return {
            "candidates": len(concerned),
            **went,
            "fault_to_weight_0": spread(_between(at, each.weight_zero_after(at)) for each in seen),
            "recovery_to_traffic": spread(_between(end, each.weight_after(end, bool)) for each in seen),
            "recovery_to_next_step": spread(
                _between(end, self.fleet.of(key).weight_after(end, lambda weight: weight == 100)) for key in chosen
            ),
        }

    def _went(self, keys: Sequence[Key], since: float) -> Figures:
        """What must not be: more traffic while the fault lasts. What may be."""
        seen = [self.fleet.of(key) for key in keys]
        return {
            "promoted": sum(bool(each.weight_after(since, lambda weight: weight > 10)) for each in seen),
            "held": sum(each.state == "Held" for each in seen),
            "reverted": sum(each.state in ("Reverting", "RolledBack") for each in seen),
        }

    # --- beginnings ---------------------------------------------------------------------------------

    async def start(self) -> Figures:
        """One replica, ended as Kubernetes does and started anew; some candidates break as it starts."""
        chosen = await self._victims()
        self.operator.ends()
        offset = audit.end_of(self.plane.audit_log)
        at = now()
        await self.fault(chosen, at)
        user = next(user for user in OPERATORS if user != self.operator.user)
        self.leader = self.commanders.start(user)
        return await self._beginning(self.leader.started, at, chosen, offset)

    async def fail_over(self) -> Figures:
        """Two replicas, the leader killed with -9; some candidates break at that moment."""
        chosen = await self._victims()
        user = next(user for user in OPERATORS if user != self.operator.user)
        standby = self.commanders.start(user)
        await standby.ready()
        await asyncio.sleep(2 * POLL_SECONDS)
        offset = audit.end_of(self.plane.audit_log)
        killed = self.operator.kill()
        await self.fault(chosen, killed)
        self.leader = standby
        return await self._beginning(killed, killed, chosen, offset)

    async def _victims(self) -> list[Key]:
        await self.restore()
        healthy = self.fleet.healthy()
        return random.sample(healthy, min(len(healthy), max(1, min(10, len(self.fleet.keys) // 10))))

    async def _beginning(self, since: float, at: float, chosen: list[Key], offset: int) -> Figures:
        reconciling = asyncio.create_task(self.operator.reconciles())
        others = [key for key in self.fleet.keys if key not in set(chosen)]
        async with asyncio.timeout(MANY_SECONDS):
            judged = await self.operator.judges(len(others))
        await self.fleet.until(
            "reverted", lambda seen: is_rolled_back(seen) and bool(seen.weight_zero_after(at)), chosen, MANY_SECONDS
        )
        user = self.operator.user
        mine = [call for call in audit.calls(self.plane.audit_log, offset) if call.user == user and call.at >= since]
        return {
            "leading": _first(mine, since, verbs=("update", "create"), resource="leases"),
            "first_reconcile": _between(since, await reconciling),
            "first_decision": _first(mine, since, verbs=("patch",), resource="modelrollouts/status"),
            "judged": _between(since, judged),
            "weight_0": spread(_between(at, self.fleet.of(key).weight_zero_after(at)) for key in chosen),
        }


def _first(calls: Sequence[audit.Call], since: float, *, verbs: tuple[str, ...], resource: str) -> float | None:
    found = (call.at for call in calls if call.verb in verbs and call.resource == resource and call.code < 400)
    return _between(since, min(found, default=None))


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 3)
