"""What is measured, one scenario after the other, on one fleet."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import audit, machine
from benchmarks.commander import POLL_SECONDS, Commander, Commanders, profiled
from benchmarks.controlplane import OPERATORS, ControlPlane
from benchmarks.fleet import Fleet, Key, Seen
from benchmarks.prometheus import BAD_ERRORS, CANDIDATE_RATE
from benchmarks.report import Figures, spread
from hack.cluster.progress import say
from ops_commander.api.fields import parse_time
from ops_commander.runtime import clock

STEADY_TICKS = 12
_RELEVANT = {"errors": "errors", "slow": "buckets", "nan": "errors", "empty": "errors"}
_MANY = 1800.0
BAD_PER_SECOND = CANDIDATE_RATE * BAD_ERRORS


@dataclass
class Bench:
    """Everything that a scenario needs."""

    plane: ControlPlane
    fleet: Fleet
    commanders: Commanders
    ports: tuple[int, int]
    prometheus: aiohttp.ClientSession
    profiles: Path | None = None
    leader: Commander | None = None

    @property
    def operator(self) -> Commander:
        assert self.leader is not None
        return self.leader

    def _profile(self, name: str) -> Path | None:
        return self.profiles / f"{len(self.fleet.keys)}-{name}.txt" if self.profiles else None

    # --- setting up ---------------------------------------------------------------------------------

    async def set_up(self) -> Figures:
        """A first version live, then a second one in a canary step that lasts."""
        began = _now()
        self.leader = self.commanders.start(OPERATORS[0], self.ports[0])
        await self.operator.ready()
        await self.fleet.create()
        await self.fleet.until("the first version is live", _is_completed, seconds=_MANY)
        first = _now()
        await self.fleet.next_version(self.fleet.keys)
        await self.fleet.until("the candidate has its weight", _is_running, seconds=_MANY)
        canary = _now()
        await self._judged(self.fleet.keys)
        return {"first_version": first - began, "canary": canary - first, "judged": _now() - canary}

    async def _judged(self, keys: Sequence[Key]) -> None:
        """Until each has live ticks: status says so at most every 15 s."""
        await self.fleet.until(
            "evidence is live", lambda seen: seen.judged_at() >= seen.evidence_since + 3 * POLL_SECONDS, keys, _MANY
        )

    async def restore(self) -> None:
        """Bring what was reverted back into its canary step, with another version."""
        gone = sorted(set(self.fleet.keys) - set(self.fleet.healthy()))
        if gone:
            reverted = {key: self.fleet.of(key).status.get("deployments", 0) for key in gone}
            await self.fleet.next_version(gone)
            for key, number in reverted.items():
                await self.fleet.until(
                    "it is in canary again",
                    lambda seen, number=number: _is_running(seen) and seen.status["deployments"] > number,  # type: ignore[misc]
                    [key],
                    _MANY,
                )
            await self._judged(gone)

    # --- steady state -------------------------------------------------------------------------------

    async def steady(self) -> Figures:
        """Nothing changes but the counters."""
        await asyncio.sleep(2 * POLL_SECONDS)
        pid, server = self.operator.pid, self.plane.pids["kube-apiserver"]
        with profiled(pid, self._profile("steady")):
            began, offset = _now(), audit.end_of(self.plane.audit_log)
            before, server_before = machine.usage(pid), machine.usage(server)
            said, metrics = await self._said(), await self.operator.metrics()
            await asyncio.sleep(STEADY_TICKS * POLL_SECONDS)
            after, server_after = machine.usage(pid), machine.usage(server)
            ended, said_after, metrics_after = _now(), await self._said(), await self.operator.metrics()
        ticks = (ended - began) / POLL_SECONDS
        counts = audit.counted(audit.calls(self.plane.audit_log, offset), began, ended)
        writes = sum(count for (verb, _), count in counts.items() if verb not in ("get", "list", "watch"))
        queries = sum(said_after["counts"].values()) - sum(said["counts"].values())
        reconciles, spent = (
            metrics_after[name] - metrics[name]
            for name in (
                "ops_commander_reconcile_duration_seconds_count",
                "ops_commander_reconcile_duration_seconds_sum",
            )
        )
        return {
            "cores": after.cores_since(before),
            "apiserver_cores": server_after.cores_since(server_before),
            "rss": after.rss,
            "queries_per_tick": queries / ticks,
            "reads_per_tick": (sum(counts.values()) - writes) / ticks,
            "writes_per_tick": writes / ticks,
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

    async def fault(self, keys: Sequence[Key], at: float, mode: str = "errors") -> None:
        owners = list(self.fleet.candidates(keys).values())
        async with self.prometheus.post("/control/fault", json={"mode": mode, "at": at, "owners": owners}) as response:
            response.raise_for_status()

    async def _break(self, keys: Sequence[Key], mode: str = "errors") -> list[dict[str, float | None]]:
        """At an instant that has nothing to do with the operator's ticks."""
        at = _now() + 0.5 + random.uniform(0, POLL_SECONDS)
        candidates = self.fleet.candidates(keys)
        await self.fault(keys, at, mode)
        await self.fleet.until(
            f"{len(keys)} reverted",
            lambda seen: _is_rolled_back(seen) and bool(seen.weight_zero_after(at)),
            keys,
            _MANY,
        )
        answers = (await self._said(at))["answers"]
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

    async def _said(self, since: float = math.inf) -> dict[str, Any]:
        async with self.prometheus.get("/control/said", params={"since": str(since)}) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    # --- beginnings ---------------------------------------------------------------------------------

    async def start(self) -> Figures:
        """One replica, ended as Kubernetes does and started anew; some candidates break as it starts."""
        chosen = await self._victims()
        self.operator.ends()
        offset = audit.end_of(self.plane.audit_log)
        at = _now()
        await self.fault(chosen, at)
        user = next(user for user in OPERATORS if user != self.operator.user)
        self.leader = self.commanders.start(user, self.ports[0])
        return await self._beginning(self.leader.started, at, chosen, offset)

    async def fail_over(self) -> Figures:
        """Two replicas, the leader killed with -9; some candidates break at that moment."""
        chosen = await self._victims()
        user = next(user for user in OPERATORS if user != self.operator.user)
        standby = self.commanders.start(user, self.ports[1])
        await standby.ready()
        await asyncio.sleep(2 * POLL_SECONDS)
        offset = audit.end_of(self.plane.audit_log)
        killed = self.operator.kill()
        await self.fault(chosen, killed)
        self.leader, self.ports = standby, self.ports[::-1]
        return await self._beginning(killed, killed, chosen, offset)

    async def _victims(self) -> list[Key]:
        await self.restore()
        healthy = self.fleet.healthy()
        return random.sample(healthy, min(len(healthy), max(1, min(10, len(self.fleet.keys) // 10))))

    async def _beginning(self, since: float, at: float, chosen: list[Key], offset: int) -> Figures:
        others = [key for key in self.fleet.keys if key not in set(chosen)]
        judged: dict[Key, float] = {}

        async with asyncio.timeout(_MANY):
            while len(judged) < len(others):
                await self.fleet.news()
                fresh = [key for key in others if key not in judged and self.fleet.of(key).judged_at() >= since]
                judged |= dict.fromkeys(fresh, _now())
        await self.fleet.until(
            "reverted", lambda seen: _is_rolled_back(seen) and bool(seen.weight_zero_after(at)), chosen, _MANY
        )
        user = self.operator.user
        mine = [call for call in audit.calls(self.plane.audit_log, offset) if call.user == user and call.at >= since]
        return {
            "leading": _first(mine, since, verbs=("update", "create"), resource="leases"),
            "first_reconcile": _first(mine, since, verbs=("list",), resource="pods"),
            "first_decision": _first(mine, since, verbs=("patch",), resource="modelrollouts/status"),
            "judged": spread(moment - since for moment in judged.values()),
            "weight_0": spread(_between(at, self.fleet.of(key).weight_zero_after(at)) for key in chosen),
        }


def _first(calls: Sequence[audit.Call], since: float, *, verbs: tuple[str, ...], resource: str) -> float | None:
    found = (call.at for call in calls if call.verb in verbs and call.resource == resource and call.code < 400)
    return _between(since, min(found, default=None))


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 3)


def _now() -> float:
    return clock.now().timestamp()


def _is_completed(seen: Seen) -> bool:
    return bool(seen.status.get("phase") == "Completed" and not seen.status.get("step"))


def _is_running(seen: Seen) -> bool:
    return seen.state == "Running" and seen.status.get("weight") == 10


def _is_rolled_back(seen: Seen) -> bool:
    return bool((seen.status.get("rollback") or {}).get("replicaSetRevertedAt"))


async def run(bench: Bench) -> Figures:
    """All scenarios. What was measured is kept if a later one fails."""
    count = len(bench.fleet.keys)
    figures: Figures = {"rollouts": count, "load_average": machine.load_average(), "breaks": {}}
    times = 5 if count > 1 else 3
    steps = [
        ("setup", bench.set_up),
        ("steady", bench.steady),
        ("one", lambda: bench.break_one_by_one(times)),
        ("percent", lambda: bench.break_percent(times)),
        ("start", bench.start),
        ("failover", bench.fail_over),
        ("all", bench.break_all),
    ]
    for name, scenario in steps:
        began = _now()
        try:
            found = await scenario()
        except (TimeoutError, RuntimeError, aiohttp.ClientError) as error:
            figures["failed"] = f"{name}: {error}"
            say(f"{name} failed: {error}")
            break
        (figures["breaks"] if name in ("one", "percent", "all") else figures)[name] = found
        say(f"{name} ({_now() - began:.0f} s): {_short(found)}")
        if bench.leader:
            figures["peak_rss"] = max(figures.get("peak_rss", 0.0), machine.usage(bench.leader.pid).peak)
    figures["load_average_after"] = machine.load_average()
    return figures


def _short(found: Figures) -> str:
    told = {name: value for name, value in found.items() if isinstance(value, int | float)}
    told |= {name: value["p50"] for name, value in found.items() if isinstance(value, dict) and value.get("count")}
    return ", ".join(f"{name} {value:.3g}" for name, value in told.items())
