"""Histograms as the statistics want them: rising edges with cumulative counts, the last edge infinite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ops_commander.core.counters import Span


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of observations at or below each edge."""

    edges: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()

    @property
    def total(self) -> float:
        return self.counts[-1] if self.counts else 0.0

    def above(self, edge: float) -> float:
        """Observations above one of its edges."""
        return self.total - self.counts[self.edges.index(edge)]

    def edge_at_most(self, value: float) -> float | None:
        """The highest finite edge that is not above a value."""
        return max((edge for edge in self.edges if edge <= value * (1 + 1e-9) and math.isfinite(edge)), default=None)

    def edge_at_least(self, value: float) -> float | None:
        """The lowest finite edge that is not below a value."""
        return min((edge for edge in self.edges if edge >= value * (1 - 1e-9) and math.isfinite(edge)), default=None)


def histogram(buckets: Mapping[float, float], spans: Mapping[Span, float], scale: float) -> Histogram:
    """Of cumulative buckets (classic) or of separate ones (native), edges multiplied by `scale`.

    Where a native histogram changed its resolution only edges that are edges in both stay. Counts that do not rise,
    as pods with different edges would make them, are raised to the one before.
    """
    if spans:
        edges = sorted({edge for span in spans for edge in span if math.isfinite(edge)})
        edges = [edge for edge in edges if not any(low < edge < high for low, high in spans)]
        pairs = [(edge, sum(n for (_, high), n in spans.items() if high <= edge)) for edge in edges]
        pairs.append((math.inf, sum(spans.values())))
    else:
        pairs = sorted(buckets.items())
    counts: list[float] = []
    for _, count in pairs:
        counts.append(max(count, counts[-1]) if counts else count)
    return Histogram(tuple(round(edge * scale, 12) for edge, _ in pairs), tuple(counts))
