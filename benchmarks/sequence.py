"""The scenarios in their order, on one fleet. What was measured is kept if a later one fails."""

from __future__ import annotations

from collections.abc import Collection

from benchmarks import machine
from benchmarks.report import Figures
from benchmarks.scenarios import Bench
from benchmarks.stage import FAILURES, causes, now
from hack.cluster.progress import say

SCENARIOS = ("setup", "resting", "steady", "one", "percent", "faults", "start", "failover", "all")
_BREAKS = ("one", "percent", "all")


async def run(bench: Bench, only: Collection[str], figures: Figures) -> None:
    """Adds to the figures. Setting up is always part of it."""
    count = len(bench.fleet.keys)
    figures |= {"load_average": machine.load_average(), "setup": {}, "breaks": {}}
    times = 5 if count > 1 else 3
    steps = [
        ("setup", bench.launched),
        ("resting", bench.resting),
        ("setup", bench.in_canary),
        ("steady", bench.steady),
        ("one", lambda: bench.break_one_by_one(times)),
        ("percent", lambda: bench.break_percent(times)),
        ("faults", bench.faults),
        ("start", bench.start),
        ("failover", bench.fail_over),
        ("all", bench.break_all),
    ]
    for name, scenario in steps:
        if name != "setup" and name not in only:
            continue
        began = now()
        try:
            found = await scenario()
        except FAILURES as error:
            figures["failed"] = f"{name}: {causes(error)}"
            say(f"{name} failed: {causes(error)}")
            break
        if name == "setup":
            figures["setup"].update(found)
        else:
            (figures["breaks"] if name in _BREAKS else figures)[name] = found
        say(f"{name} ({now() - began:.0f} s): {_short(found)}")
        if bench.leader:
            figures["peak_rss"] = max(figures.get("peak_rss", 0.0), machine.usage(bench.leader.pid).peak)
    figures["load_average_after"] = machine.load_average()


def _short(found: Figures) -> str:
    told = {name: value for name, value in found.items() if isinstance(value, int | float)}
    told |= {name: value["p50"] for name, value in found.items() if isinstance(value, dict) and value.get("count")}
    return ", ".join(f"{name} {value:.3g}" for name, value in told.items())
