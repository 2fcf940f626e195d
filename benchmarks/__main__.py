"""python -m benchmarks [--sizes 1,10,100] [--only steady,all] [--per-namespace N] [--profile FOLDER]: `make bench`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from benchmarks import controlplane, invocation, machine, report, sequence
from benchmarks.commander import POLL_SECONDS
from benchmarks.controlplane import ControlPlane, Programs
from benchmarks.fleet import Key
from benchmarks.report import Figures
from benchmarks.scenarios import Bench
from benchmarks.stage import FAILURES, causes, control_plane, staged
from hack.cluster.progress import say, step

SIZES = "1,10,100,200"
_METHOD = (
    "etcd without fsync, kube-apiserver, controllers, scheduler; pods played by kwok; HTTPRoutes confirmed at once, no"
    " proxy behind them; scripted Prometheus without scrapes, compressed if asked; one operator process, {poll:.0f} s"
    " ticks; a rollout has 2 stable pods and 1 candidate pod at weight 10, 200 req/s, 3 objectives on 3 queries; fault:"
    " 20 % errors"
)


def _keys(count: int, per_namespace: int) -> list[Key]:
    return [(f"bench-{number // per_namespace}", f"model-{number:04}") for number in range(count)]


async def _measure(plane: ControlPlane, options: argparse.Namespace, figures: Figures) -> None:
    keys = _keys(figures["rollouts"], options.per_namespace)
    profiles = Path(options.profile) if options.profile else None
    async with asyncio.timeout(options.limit), staged(plane, keys, flags=options.flag) as stage:
        bench = Bench(stage.plane, stage.fleet, stage.commanders, stage.prometheus, profiles)
        await sequence.run(bench, options.only, figures)


def _one_size(found: Programs, count: int, options: argparse.Namespace) -> Figures:
    figures: Figures = {"rollouts": count}
    with step(f"{count} rollout(s)"), control_plane(found) as plane:
        try:
            asyncio.run(_measure(plane, options, figures))
        except* FAILURES as failure:
            figures["failed"] = causes(failure)
            say(f"failed: {figures['failed']}")
    return figures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sizes", default=SIZES, help="numbers of rollouts, one run each; 1 to 5000")
    parser.add_argument("--per-namespace", type=int, default=5000, help="rollouts in one namespace")
    parser.add_argument("--only", default=",".join(sequence.SCENARIOS), help="scenarios to run; setup always does")
    parser.add_argument("--limit", type=float, default=2400.0, help="seconds for one size")
    parser.add_argument("--profile", default="", help="folder for py-spy's collapsed stacks; needs py-spy on PATH")
    parser.add_argument("--flag", action="append", default=[], help="one more flag of `ops-commander run`")
    options = parser.parse_args()
    options.sizes = [int(part) for part in options.sizes.replace(" ", ",").split(",") if part]
    if not options.sizes or not all(1 <= size <= 5000 for size in options.sizes):
        parser.error(f"--sizes is {options.sizes}: expected numbers from 1 to 5000")
    options.only = [part for part in options.only.replace(" ", ",").split(",") if part]
    if not set(options.only) <= set(sequence.SCENARIOS):
        parser.error(f"--only is {options.only}: expected some of {', '.join(sequence.SCENARIOS)}")
    return options


def main() -> int:
    options = _options()
    found = controlplane.programs()
    own = machine.isolate_network()
    told: dict[str, Any] = {
        **invocation.circumstances(),
        "method": _METHOD.format(poll=POLL_SECONDS),
        "own_network": own,
        "per_namespace": options.per_namespace,
        "flags": options.flag,
        "only": options.only,
    }
    say(f"{told['machine']}\n{told['method']}")
    results: list[Figures] = []
    path = report.result_file("bench")
    for size in options.sizes:
        results.append(_one_size(found, size, options))
        report.write(path, {**told, "results": results})
    sys.stdout.write(f"{report.table(results)}\n\nload average {machine.load_average()}; {path}\n")
    return 1 if any("failed" in result for result in results) else 0


if __name__ == "__main__":
    invocation.run(main)
