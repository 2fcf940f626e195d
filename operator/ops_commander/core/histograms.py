"""Histograms as the statistics want them: rising edges with cumulative counts, the last edge infinite."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from ops_commander.core.counters import Buckets, Span

NEAR = 1e-9
"""Relative distance in which two edges are the same."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of observations at or below each edge; the last edge is infinite."""

    edges: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    spans: tuple[tuple[float, float, float], ...] = ()
    """Of a native histogram: the buckets that hold anything, each for itself. Anything but their inside is an edge."""

    @property
    def total(self) -> float:
        return self.counts[-1] if self.counts else 0.0

    def has_edge(self, value: float) -> bool:
        if self.spans:
            return not any(low < value < high for low, high, _ in self.spans)
        return value in self.edges

    def above(self, edge: float) -> float:
        """Observations above an edge. What a bucket holds that the edge falls into counts as above."""
        if self.spans:
            return sum(count for _, high, count in self.spans if high > edge)
        below = bisect_right(self.edges, edge)
        return self.total - (self.counts[below - 1] if below else 0.0)

    def edge_at_most(self, value: float) -> float | None:
        """The highest finite edge that is not above a value."""
        if self.spans:
            return min((low for low, high, _ in self.spans if low < value < high), default=value)
        return max((edge for edge in self.edges if edge <= value * (1 + NEAR) and math.isfinite(edge)), default=None)

    def edge_at_least(self, value: float) -> float | None:
        """The lowest finite edge that is not below a value."""
        if self.spans:
            edge = max((high for low, high, _ in self.spans if low < value < high), default=value)
            return edge if math.isfinite(edge) else None
        return min((edge for edge in self.edges if edge >= value * (1 - NEAR) and math.isfinite(edge)), default=None)


def histogram(buckets: Mapping[float, float], spans: Mapping[Span, float], scale: float) -> Histogram:
    """Of cumulative buckets (classic) or of separate ones (native), edges multiplied by `scale`.

    Counts that do not rise, as pods with different edges would make them, are raised to the one before.
    """
    if spans:
        return _native(spans, scale)
    known = Buckets.of(buckets)
    return Histogram(_scaled_edges(known.edges, scale), tuple(accumulate(known.counts, max)))


def _native(spans: Mapping[Span, float], scale: float) -> Histogram:
    """Where the resolution changed under way, only what is an edge in both is one."""
    held = sorted((_scaled(low, scale), _scaled(high, scale), count) for (low, high), count in spans.items())
    edges = sorted({edge for low, high, _ in held for edge in (low, high) if math.isfinite(edge)})
    edges = [edge for edge in edges if not any(low < edge < high for low, high, _ in held)]
    counts = [sum(count for _, high, count in held if high <= edge) for edge in edges]
    return Histogram((*edges, math.inf), (*counts, sum(spans.values())), tuple(held))


def _scaled(edge: float, scale: float) -> float:
    """Without the last digits, in which a product of binary fractions differs from the number that was meant."""
    return float(f"{edge * scale:.12g}")


@lru_cache(maxsize=1024)
def _scaled_edges(edges: tuple[float, ...], scale: float) -> tuple[float, ...]:
    return tuple(_scaled(edge, scale) for edge in edges)
