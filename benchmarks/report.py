"""Figures as numbers for JSON and as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Figures = dict[str, Any]


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
            if any(cell != "–" for cell in cells):
                rows.append([f"{_TITLES[which]} breaking: {title} (s)", *cells])
    for path, title, shape in _SINGLE:
        rows.append([title, *(_shown(_at(result, *path), shape) for result in results)])
    for which in ("start", "failover"):
        title = "start" if which == "start" else "kill -9 of the leader"
        for name, what in _BEGINNINGS.items():
            rows.append([f"{title} → {what} (s)", *(_shown(_at(result, which, name), ".1f") for result in results)])
        for name, what in _SPREADS.items():
            cells = [seconds(_at(result, which, name), "p50", "max") for result in results]
            rows.append([f"{title} → {what} (s, p50 / max)", *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


_SINGLE = (
    (("steady", "cores"), "steady: CPU of the operator (cores)", ".2f"),
    (("steady", "apiserver_cores"), "steady: CPU of the API server (cores)", ".2f"),
    (("steady", "rss"), "steady: RSS (MiB)", ".0f"),
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
_BEGINNINGS = {"leading": "leads", "first_reconcile": "first reconcile", "first_decision": "first status written"}
_SPREADS = {"judged": "rollout judged on a new tick", "weight_0": "candidate that broke meanwhile at weight 0"}


def _at(figures: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(figures, Mapping):
            return None
        figures = figures.get(name)
    return figures


def _shown(value: Any, shape: str) -> str:
    return "–" if value is None else format(value, shape)
