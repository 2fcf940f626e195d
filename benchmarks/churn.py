"""Memory over time: rollouts come, deploy a second version, complete or are reverted, and go. `make bench-churn`.

Shorter by one factor (`--speed`): steps, bake, baseline window, and how long a rollout lives. More by the same factor:
requests a second, so that a step sees as many as it would. Ticks come every 2 s, holdAfter is 15 s, and the drain is
the second that it is at least. Not changed is what the operator does by itself, such as its full list every 300 s, its
Lease, the 15 s between writes of values, deadlines and backoffs; nor the API server. Objects are real: with each life a
rollout, its ReplicaSets, pods, Services and route are created and deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from statistics import linear_regression, median
from typing import Any

from benchmarks import controlplane, invocation, machine, report
from benchmarks.commander import Commander
from benchmarks.controlplane import OPERATORS, ControlPlane
from benchmarks.fleet import Fleet, Key, Seen, Shape
from benchmarks.prometheus import RATE
from benchmarks.report import Figures
from benchmarks.stage import (
    FAILURES,
    Stage,
    causes,
    control_plane,
    is_completed,
    is_rolled_back,
    is_running,
    now,
    staged,
)
from hack.cluster.progress import say
from ops_commander.api.fields import format_duration, parse_duration
from ops_commander.core import names

FLAT = 0.05
NAMESPACES = 10
SAMPLE_SECONDS = 5.0
LEFT_SECONDS = 60
FATES = ("good", "errors", "slow", "empty")
SHARES = (60, 20, 10, 10)
"""Percent: most candidates are good, some fail, of some nothing is heard any more until they are deleted."""
_LEFT = {
    "ReplicaSet": "apis/apps/v1/replicasets",
    "Pod": "api/v1/pods",
    "Service": "api/v1/services",
    "HTTPRoute": "apis/gateway.networking.k8s.io/v1/httproutes",
}


def shape(speed: float) -> Shape:
    """The usual lengths, shortened; a bake of five minutes, so that lives are not much longer than deployments."""

    def short(usual: str) -> str:
        return format_duration(parse_duration(usual) / speed)

    return Shape(
        steps=(
            {"canary": {"weight": 10, "minDuration": short("10m"), "maxDuration": short("1h")}},
            {"full": {"bake": short("5m"), "maxDuration": short("1h")}},
        ),
        policy={"baselineWindow": short("1h"), "holdAfter": "15s"},
        spec={"drain": "1s", "deletionPolicy": "DeleteAll"},
    )


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    """Seconds since the beginning."""
    rss: float
    """MiB."""
    threads: int
    files: int
    metric_series: int
    living: int


@dataclass
class Churn:
    """Lives that begin and end at a steady pace: whenever one ends another one begins."""

    stage: Stage
    operator: Commander
    population: int
    total: int
    seconds: float
    speed: float
    samples: list[Sample]
    random: random.Random = field(default_factory=lambda: random.Random(7))
    ended: Counter[str] = field(default_factory=Counter)
    began: float = 0.0
    _numbers: int = 0

    @property
    def fleet(self) -> Fleet:
        return self.stage.fleet

    async def run(self) -> None:
        await self.fleet.prepare(f"churn-{number}" for number in range(NAMESPACES))
        pace = self.seconds / self.total
        self.began = now()
        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(self._sample())
            lives = [
                group.create_task(self._life(self.began + number * pace, whole=False))
                for number in range(1, self.population + 1)
            ]
            for number in range(1, self.total + 1):
                ends = self.began + (self.population + number) * pace
                await asyncio.sleep(self.began + number * pace - now())
                lives.append(group.create_task(self._life(ends)))
            await asyncio.sleep(self.began + self.seconds - now())
            for life in lives[self.total :]:
                life.cancel()
            await asyncio.gather(*lives[: self.total])
            sampling.cancel()

    async def _life(self, ends: float, *, whole: bool = True) -> None:
        """Until its time is over, whatever it is doing then."""
        self._numbers += 1
        key = (f"churn-{self._numbers % NAMESPACES}", f"model-{self._numbers:05}")
        fate = self.random.choices(FATES, SHARES)[0]
        await self.fleet.add(key)
        deploying = asyncio.create_task(self._deploy(key, fate))
        await asyncio.wait([deploying], timeout=ends - now())
        await asyncio.sleep(ends - now())
        if deploying.done():
            deploying.result()
        deploying.cancel()
        self.ended[_end_of(self.fleet.of(key)) if whole else "of the first ones, cut short"] += 1
        await self.fleet.delete(key)

    async def _deploy(self, key: Key, fate: str) -> None:
        await self.fleet.until("the first version is live", is_completed, [key])
        await self.fleet.next_version([key])
        await self.fleet.until("the candidate has its weight", is_running, [key])
        if fate != "good":
            await self.stage.fault([key], now() + self.random.uniform(0, 600 / self.speed), fate)

    async def _sample(self) -> None:
        pid = self.operator.pid
        while True:
            series = sum(not line.startswith("#") for line in (await self.operator.exposition()).splitlines())
            held, used = machine.held(pid), machine.usage(pid)
            at, living = now() - self.began, len(self.fleet.keys)
            self.samples.append(Sample(at, used.rss, held["threads"], held["files"], series, living))
            if len(self.samples) % 24 == 0:
                gone = f"{sum(self.ended.values())} gone {dict(self.ended)}"
                say(f"{at:.0f} s: {used.rss:.1f} MiB, {living} rollouts, {gone}")
            await asyncio.sleep(SAMPLE_SECONDS)

    async def left_behind(self) -> dict[str, int]:
        """Objects of rollouts that are gone. Pods take their time, and so does the garbage collector."""
        for _ in range(LEFT_SECONDS):
            found = await self._of_nobody()
            if not any(found.values()):
                break
            await asyncio.sleep(1)
        return found

    async def _of_nobody(self) -> dict[str, int]:
        living, found = set(self.fleet.keys), {}
        for kind, path in _LEFT.items():
            items = (await self.fleet.api.request("GET", f"{path}?labelSelector={names.ROLLOUT_LABEL}"))["items"]
            owners = [
                (item["metadata"]["namespace"], item["metadata"]["labels"][names.ROLLOUT_LABEL]) for item in items
            ]
            found[kind] = sum(owner not in living for owner in owners)
        return found


def _end_of(seen: Seen) -> str:
    if is_rolled_back(seen):
        return "reverted"
    if seen.state == "Held":
        return "held"
    return "completed" if is_completed(seen) and seen.status["deployments"] > 1 else "under way"


def judged(samples: list[Sample], warm_up: float, speed: float) -> Figures:
    """Whether memory stayed within 5 % of what it was at the end of the warm-up, by the medians of tenths."""
    before = [sample.rss for sample in samples if sample.at < warm_up][-12:]
    after = [sample for sample in samples if sample.at >= warm_up]
    length = (samples[-1].at - warm_up) / 10
    tenths = [
        [sample.rss for sample in after if number * length <= sample.at - warm_up <= (number + 1) * length]
        for number in range(10)
    ]
    medians = [round(median(tenth), 2) for tenth in tenths if tenth]
    reference = median(before)
    slope = linear_regression([sample.at for sample in after], [sample.rss for sample in after]).slope
    per_hour = slope * 3600 / speed
    return {
        "warm_up_seconds": warm_up,
        "rss_at_end_of_warm_up": round(reference, 2),
        "median_of_tenths": medians,
        "highest": round(max(sample.rss for sample in samples), 2),
        "grown": round(max(medians) / reference - 1, 4),
        "slope_mib_per_simulated_hour": round(per_hour, 3),
        "slope_share_per_simulated_hour": round(per_hour / reference, 5),
        "flat": max(medians) / reference - 1 <= FLAT,
    }


async def _measure(plane: ControlPlane, options: argparse.Namespace, samples: list[Sample]) -> Figures:
    rate, seconds = RATE * options.speed, options.minutes * 60
    async with staged(plane, [], flags=options.flag, rate=rate, poll_seconds=options.tick) as stage:
        stage.fleet.shape = shape(options.speed)
        operator = stage.commanders.start(OPERATORS[0])
        await operator.ready()
        churn = Churn(stage, operator, options.population, options.total, seconds, options.speed, samples)
        pids = {"operator": operator.pid, "harness": os.getpid(), **plane.pids}
        before = {what: machine.usage(pid) for what, pid in pids.items()}
        await churn.run()
        cores = {what: round(machine.usage(pid).cores_since(before[what]), 3) for what, pid in pids.items()}
        return {
            "lives": dict(churn.ended),
            "left_behind": await churn.left_behind(),
            "peak_rss": round(machine.usage(operator.pid).peak, 2),
            "cores": cores,
        }


def _measured(plane: ControlPlane, options: argparse.Namespace) -> Figures:
    """What was sampled is kept if it fails."""
    samples: list[Sample] = []
    found: Figures = {"failed": ""}
    try:
        found |= asyncio.run(_measure(plane, options, samples))
    except* FAILURES as failure:
        found["failed"] = causes(failure)
    life = options.population * options.minutes * 60 / options.total
    warm_up = max(options.minutes * 60 / 6, 1.5 * life)
    if samples and samples[-1].at > warm_up + 20 * SAMPLE_SECONDS:
        found |= judged(samples, warm_up, options.speed)
    return {**found, "seconds_of_a_life": round(life, 1), "samples": [asdict(sample) for sample in samples]}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.churn", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--population", type=int, default=60, help="rollouts at any time")
    parser.add_argument("--total", type=int, default=1000, help="rollouts that go, and come anew")
    parser.add_argument("--minutes", type=float, default=45.0, help="length; times the speed it is what is simulated")
    parser.add_argument("--speed", type=float, default=8.0, help="factor by which durations are shortened")
    parser.add_argument("--tick", type=float, default=2.0, help="seconds between ticks")
    parser.add_argument("--flag", action="append", default=[], help="one more flag of `ops-commander run`")
    options = parser.parse_args()
    if not 0 < options.population <= options.total:
        parser.error(f"--population is {options.population}: expected 1 to {options.total}, which is --total")
    return options


def _table(found: Figures) -> str:
    rows = [("failed", found["failed"] or "no")]
    if "flat" in found:
        share = found["slope_share_per_simulated_hour"]
        rows += [
            ("RSS at the end of the warm-up (MiB)", f"{found['rss_at_end_of_warm_up']:.1f}"),
            ("median of each tenth after it (MiB)", ", ".join(f"{value:.1f}" for value in found["median_of_tenths"])),
            ("highest (MiB)", f"{found['highest']:.1f}"),
            ("grown by", f"{found['grown']:+.1%}"),
            (
                "slope by least squares",
                f"{found['slope_mib_per_simulated_hour']:+.2f} MiB, {share:+.2%} a simulated hour",
            ),
            ("flat within 5 %", "yes" if found["flat"] else "NO"),
        ]
    names = {
        "lives": "lives, by how they ended",
        "left_behind": "left behind of rollouts that are gone",
        "cores": "cores",
    }
    rows += [(title, str(found[name])) for name, title in names.items() if name in found]
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def main() -> int:
    options = _options()
    programs = controlplane.programs()
    machine.isolate_network()
    told: dict[str, Any] = {
        **invocation.circumstances(),
        "method": " ".join((__doc__ or "").split()),
        "options": vars(options),
        "simulated_hours": options.minutes * options.speed / 60,
        "shape": asdict(shape(options.speed)),
    }
    say(f"{told['machine']}\n{told['options']}: {told['simulated_hours']:.1f} hours")
    with control_plane(programs) as plane:
        found = _measured(plane, options)
    path = report.result_file("churn")
    report.write(path, {**told, "results": found})
    sys.stdout.write(f"{_table(found)}\n\nload average {machine.load_average()}; {path}\n")
    return 0 if found.get("flat") and not found["failed"] and not any(found["left_behind"].values()) else 1


if __name__ == "__main__":
    invocation.run(main)
