"""From what was observed of one run to its figures. Moments are Unix seconds, shares seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.felt.answers import Failure
from benchmarks.report import Figures, spread

SHARES = ("scrape", "proof", "decision", "write", "proxy")
"""Of the whole, one after the other: until a scrape holds a failure, until one holds enough of them, until the revert
is decided, until the route says so, until the last failed answer. The proxy's is negative where no request met the
candidate any more."""
MEASURED = ("felt", "failed", *SHARES, "visible", "failing_scrapes", "idle")


@dataclass(frozen=True, slots=True)
class Observed:
    fault: float
    """Just before the candidate was told to fail."""
    failures: tuple[Failure, ...]
    failing_scrapes: tuple[float, ...]
    """When scrapes began that hold a failure, in order."""
    visible: float
    """The tick that proved the breach."""
    decided: float
    steered: float | None
    """When a watch told of the route without the candidate."""


def figures(observed: Observed) -> Figures:
    """Raises ValueError where something was not seen that must have been."""
    fault, steered = observed.fault, observed.steered
    if not observed.failures or not observed.failing_scrapes or steered is None:
        seen = f"{len(observed.failures)} failures, {len(observed.failing_scrapes)} failing scrapes, route {steered}"
        raise ValueError(f"nothing to measure: {seen}")
    if observed.visible < observed.failing_scrapes[0]:
        raise ValueError("reverted before any scrape held a failure: something else broke the objectives")
    proving = [at for at in observed.failing_scrapes if at <= observed.visible]
    last = max(failure.received for failure in observed.failures)
    moments = [fault, proving[0], proving[-1], observed.decided, steered, last]
    lengths = [round(after - before, 3) for before, after in pairwise(moments)]
    return {
        "felt": round(last - fault, 3),
        "failed": len(observed.failures),
        "failed_by_kind": by_kind(observed.failures),
        **dict(zip(SHARES, lengths, strict=True)),
        "first_failed": round(min(failure.received for failure in observed.failures) - fault, 3),
        "visible": round(observed.visible - fault, 3),
        "failing_scrapes": len(proving),
    }


def by_kind(failures: Iterable[Failure]) -> dict[str, int]:
    """How many failed how, and in which version."""
    return dict(Counter(f"{failure.status} of {failure.version}" for failure in failures))


def cells(runs: Sequence[dict[str, Any]]) -> list[Figures]:
    """Each pace and weight once, in order, with the spread of what its runs have measured."""
    by_cell: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for run in runs:
        by_cell.setdefault((run["interval"], run["weight"]), []).append(run)
    return [_cell(interval, weight, found) for (interval, weight), found in sorted(by_cell.items())]


def _cell(interval: int, weight: int, runs: Sequence[dict[str, Any]]) -> Figures:
    done = [run for run in runs if "error" not in run]
    measured = {name: spread(run[name] for run in done) for name in MEASURED}
    least_idle = min((run["idle"] for run in done), default=None)
    return {
        "interval": interval,
        "weight": weight,
        "errors": len(runs) - len(done),
        "least_idle": least_idle,
        **measured,
    }
