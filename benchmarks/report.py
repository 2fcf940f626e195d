"""Figures as numbers for JSON and as a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hack.cluster.workspace import REPOSITORY
from ops_commander.runtime import clock

RESULTS = REPOSITORY / "benchmarks" / "results"
Figures = dict[str, Any]


def result_file(what: str) -> Path:
    """Named by the moment, and by what was measured."""
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"{clock.now():%Y%m%d-%H%M%S}-{what}.json"


def write(path: Path, found: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=2) + "\n")


def spread(values: Iterable[float | None]) -> Figures:
    """Percentiles by nearest rank: each is a value that was measured. Missing ones are counted, not left out."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return {"count": 0}
    return {
        "count": len(known),
        "p50": percentile(known, 50),
        "p95": percentile(known, 95),
        "p99": percentile(known, 99),
        "max": round(known[-1], 3),
    }


def percentile(ordered: Sequence[float], percent: int) -> float:
    rank = -(-len(ordered) * percent // 100)
    return round(ordered[max(rank, 1) - 1], 3)


def seconds(figures: Mapping[str, Any] | None, *names: str) -> str:
    if not figures or not figures.get("count"):
        return "–"
    return " / ".join(f"{figures[name]:.2f}" for name in names)


_FOUR = ("p50", "p95", "p99", "max")
_BREAKS = ("one", "percent", "all")
_TITLES = {"one": "one", "percent": "1 %", "all": "all"}
_LATENCIES = {
    "served_to_weight_0": "deciding sample read → weight 0",
    "visible_to_weight_0": "breach visible (tick) → weight 0",
    "fault_to_weight_0": "fault begins → weight 0",
    "first_bad_to_weight_0": "first bad sample read → weight 0",
    "served_to_scaled_down": "deciding sample read → ReplicaSet desired 0",
    "visible_to_pods_gone": "breach visible → pods gone (status)",
}


def table(results: Sequence[Figures]) -> str:
    """Markdown: one column a size, one row a figure; seconds as p50 / p95 / p99 / max."""
    rows = [["", *(f"N = {result['rollouts']}" for result in results)]]
    for which in _BREAKS:
        for name, title in _LATENCIES.items():
            cells = [seconds(_at(result, "breaks", which, name), *_FOUR) for result in results]
            rows.append([f"{_TITLES[which]} breaking: {title} (s)", *cells])
    for path, title, shape in _SINGLE:
        rows.append([title, *(_shown(_at(result, *path), shape) for result in results)])
    rows += _rows_of_faults(results)
    for which in ("start", "failover"):
        title = "start" if which == "start" else "kill -9 of the leader"
        for name, what in _BEGINNINGS.items():
            rows.append([f"{title} → {what} (s)", *(_shown(_at(result, which, name), ".1f") for result in results)])
        for name, what in _SPREADS.items():
            cells = [seconds(_at(result, which, name), "p50", "max") for result in results]
            rows.append([f"{title} → {what} (s, p50 / max)", *cells])
    rows = [rows[0], *(row for row in rows[1:] if set(row[1:]) != {"–"})]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def _rows_of_faults(results: Sequence[Figures]) -> list[list[str]]:
    rows = []
    for mode, title in _FAULTS.items():
        for name, what in _AFTER_A_FAULT.items():
            cells = [seconds(_at(result, "faults", mode, name), "p50", "max") for result in results]
            rows.append([f"{title} {what} (s, p50 / max)", *cells])
        for name in ("held", "reverted", "promoted"):
            rows.append([f"{title} {name}", *(_shown(_at(result, "faults", mode, name), "d") for result in results)])
    return rows


_SINGLE = (
    (("resting", "cores"), "resting: CPU of the operator (cores)", ".3f"),
    (("resting", "rss"), "resting: RSS, median (MiB)", ".0f"),
    (("resting", "reads_per_tick"), "resting: API reads a tick", ".1f"),
    (("resting", "writes"), "resting: API writes in 60 s", "d"),
    (("resting", "queries_per_tick"), "resting: Prometheus queries a tick", ".1f"),
    (("steady", "cores"), "steady: CPU of the operator (cores)", ".2f"),
    (("steady", "cores_of_others", "kube-apiserver"), "steady: CPU of the API server (cores)", ".2f"),
    (("steady", "cores_of_others", "prometheus"), "steady: CPU of the scripted Prometheus (cores)", ".2f"),
    (("steady", "cores_of_harness"), "steady: CPU of the harness' watches (cores)", ".2f"),
    (("steady", "rss"), "steady: RSS, median (MiB)", ".0f"),
    (("steady", "pss"), "steady: PSS (MiB)", ".0f"),
    (("peak_rss",), "highest RSS (MiB)", ".0f"),
    (("steady", "queries_per_tick"), "Prometheus queries a tick", ".1f"),
    (("steady", "reads_per_tick"), "API reads a tick", ".0f"),
    (("steady", "writes_per_tick"), "API writes a tick", ".1f"),
    (("steady", "reconciles_per_tick"), "reconciles a tick", ".0f"),
    (("steady", "reconcile_ms"), "time of one reconcile (ms, mean)", ".0f"),
    (("setup", "first_version"), "setting up: first versions live (s)", ".0f"),
    (("setup", "canary"), "setting up: second versions in canary (s)", ".0f"),
    (("setup", "judged"), "setting up: … and all judged (s)", ".0f"),
)
_FAULTS = {
    "slow": "slow answers:",
    "nan": "counters that are NaN:",
    "empty": "no counters:",
    "unavailable": "Prometheus answers 503:",
}
_AFTER_A_FAULT = {
    "fault_to_weight_0": "fault begins → weight 0",
    "recovery_to_traffic": "fault ends → weight 10 again",
    "recovery_to_next_step": "fault ends → next step",
}
_BEGINNINGS = {
    "leading": "leads",
    "first_reconcile": "first rollout decided on",
    "first_decision": "first status written",
    "judged": "all judged on all of their ticks",
}
_SPREADS = {"weight_0": "candidate that broke meanwhile at weight 0"}


def _at(figures: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(figures, Mapping):
            return None
        figures = figures.get(name)
    return figures


def _shown(value: Any, shape: str) -> str:
    return "–" if value is None else format(value, shape)
