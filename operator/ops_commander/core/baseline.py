"""What the stable version shows of each objective before a deployment: rate, value, dispersion, and where P95 lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops_commander.api.policy import Compare, Objective
from ops_commander.api.v1alpha1 import BaselineStatus
from ops_commander.core import measures
from ops_commander.core.counters import ArmCounters
from ops_commander.core.histograms import Histogram
from ops_commander.core.presets import asks_comparer
from ops_commander.core.samples import Owner, PodSamples, Reading
from ops_commander.core.statistics import dispersion
from ops_commander.core.tally import Arm

FEWEST_TICKS = 20
"""For φ. The index of dispersion of so few is rough, but φ is never below 1: it errs on the careful side."""

NEAR = 0.2
"""An edge that has a partner at the allowed drift is preferred if it is this near, relatively."""


def summarised(objective: Objective, readings: Mapping[str, Sequence[Reading]], owner: Owner) -> BaselineStatus | None:
    """One objective's baseline from the ticks before a deployment; None without a request in them."""
    if asks_comparer(objective):
        return None
    per_query = [readings.get(query, ()) for query in objective.queries]
    arms = _gains(objective, per_query, owner)
    if not arms:
        return None
    whole = Arm()
    for _, arm in arms:
        whole = whole.joined(arm)
    if whole.requests <= 0:
        return None
    edge = _edge(objective, whole)
    return BaselineStatus(
        name=objective.name,
        ticks=len(arms),
        rate=round(whole.requests / sum(seconds for seconds, _ in arms), 6),
        value=measures.value_of(objective, whole),
        dispersion=round(_dispersion(objective, _looks_at(objective, whole, edge), [arm for _, arm in arms]), 6),
        edge=edge,
        share_beyond_edge=_share_beyond(objective, whole, edge, 0.0),
        share_beyond_drift=_share_beyond(objective, whole, edge, objective.max or 0.0),
    )


def _share_beyond(objective: Objective, whole: Arm, edge: float | None, further: float) -> float | None:
    if objective.quantile is None or edge is None:
        return None
    known = whole.histogram(objective.quantile.scale)
    place = known.edge_at_most(edge + further)
    return known.above(place) / known.total if place is not None else None


def _gains(objective: Objective, per_query: Sequence[Sequence[Reading]], owner: Owner) -> list[tuple[float, Arm]]:
    """Seconds and gains of each tick after the first at which the arm was seen."""
    plain = objective.quantile is None and objective.correlation is None
    counters = ArmCounters(objective.pairs is not None, plain)
    gained: list[tuple[float, Arm]] = []
    last = None
    for together in zip(*per_query, strict=True):
        at = together[0].at
        samples: list[PodSamples] = [reading.of(owner) for reading in together]
        if not counters.pods(samples):
            continue
        if last is None:
            counters.start(at, samples)
        else:
            gained.append(((at - last).total_seconds(), Arm.of(counters.advance(at, samples))))
        last = at
    return gained


def _looks_at(objective: Objective, whole: Arm, edge: float | None) -> float | None:
    """The bucket edge beyond which requests are events: that of the drift, or the one next to the target."""
    if objective.quantile is None or objective.compare is Compare.DIFFERENCE:
        return edge
    known = whole.histogram(objective.quantile.scale)
    return known.edge_at_most(objective.target) if objective.max is not None else known.edge_at_least(objective.target)


def _dispersion(objective: Objective, edge: float | None, ticks: list[Arm]) -> float:
    """φ of errors, or of requests slower than what the objective looks at. Few ticks say nothing of it."""
    if len(ticks) < FEWEST_TICKS:
        return 1.0
    if objective.ratio:
        return dispersion.index_of_dispersion([arm.bad for arm in ticks], [arm.requests for arm in ticks])
    if objective.quantile is None or edge is None:
        return 1.0
    scale = objective.quantile.scale
    known = [arm.histogram(scale) for arm in ticks]
    slow = [one.above(edge) for one in known]
    return dispersion.index_of_dispersion(slow, [one.total for one in known])


def _edge(objective: Objective, whole: Arm) -> float | None:
    """The bucket edge nearest to the quantile; rather one that has a partner at the allowed drift."""
    if objective.quantile is None:
        return None
    known = whole.histogram(objective.quantile.scale)
    value = measures.value_of(objective, whole)
    finite = [edge for edge in known.edges[:-1] if known.above(edge) > 0 or known.edges.index(edge) == 0]
    if value is None or not finite:
        return None
    near = [edge for edge in finite if abs(edge - value) <= NEAR * value and _has_partner(objective, known, edge)]
    return min(near or finite, key=lambda edge: abs(edge - value))


def _has_partner(objective: Objective, known: Histogram, edge: float) -> bool:
    return objective.max is not None and any(abs(other - edge - objective.max) < 1e-9 for other in known.edges[:-1])
