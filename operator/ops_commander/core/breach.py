"""Whether a breach of an objective's limit is proved, by the whole step or by its latest ticks.

The average since a step began hides what gets worse after hours without a fault. So evidence is counted from later
beginnings too: anew every 60 ticks, and, for a sudden turn, from each of the latest ticks. Each beginning has a share
of α that was fixed in advance; a mean of tests that begin at different times, with weights that sum to no more than 1,
is a test like any other. (The e-detectors of Shin, Ramdas, Rinaldo, arXiv 2203.03532, are the same sum without weights,
for a bound on the time between false alarms.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

from ops_commander.api.policy import Compare, Objective
from ops_commander.api.v1alpha1 import BaselineStatus
from ops_commander.core.histograms import Histogram
from ops_commander.core.statistics import proportion
from ops_commander.core.statistics.mixture import Side
from ops_commander.core.statistics.ratio import RatioEvidence
from ops_commander.core.tally import Arm, Tally

LATE_ALPHA = 0.002
"""What the short memory may add to the false alarms of a step."""

TURN_ALPHA = 0.002
"""What the search for a sudden turn may add to them."""

NEVER = -math.inf

LEAST_PROOF = math.log(2)
"""No level of proof is as low as this ln E: no α is above ½."""

LEAST_TURN = 2.0
"""A tick whose own counts cannot have a higher ln E is not the end of a turn."""

ShareTest = Callable[..., float]


def breach_proof(objective: Objective, tally: Tally, baseline: BaselineStatus | None) -> float | None:
    """ln E for a breach, of the measures that have a test for it; None of the others.

    Where what is seen lies on the good side of the limit it is at most 0, and need not be worked out: 0 stands for it.
    """
    dispersion = baseline.dispersion if baseline else 1.0
    if objective.compare is Compare.ABSOLUTE and (objective.ratio or objective.score):
        arm = tally.candidate
        test = share_tests(objective)[1]
        return _proof_beyond(test, events_of(objective, arm), arm.requests, objective.limit, dispersion)
    if objective.ratio and objective.compare is Compare.RATIO:
        evidence = tally.ratio
        if evidence is None:
            return NEVER
        side = Side.ABOVE if objective.max is not None else Side.BELOW
        if evidence.highest_log_e(objective.limit, side, dispersion=dispersion) < LEAST_PROOF:
            return 0.0
        return ratio_tests(objective, evidence)[1](objective.limit, dispersion=dispersion)
    if objective.quantile and objective.compare is Compare.ABSOLUTE:
        known = tally.candidate.histogram(objective.quantile.scale)
        edge = edges_of(objective, known)[1]
        if edge is None:
            return NEVER
        test = share_tests(objective)[1]
        return _proof_beyond(test, known.above(edge), known.total, 1 - objective.quantile.q, dispersion)
    return None


def proved_lately(objective: Objective, tally: Tally, baseline: BaselineStatus | None) -> Tally | None:
    """The latest ticks, if they prove a breach by themselves."""
    turn, late = _turned(objective, tally, baseline), tally.late
    if turn is not None or late is None:
        return turn
    proof = breach_proof(objective, late, baseline)
    return late if proof is not None and proof >= -math.log(late_alpha(tally.beginnings)) else None


def proved_ahead(objective: Objective, ahead: Tally, after: int, baseline: BaselineStatus | None) -> Tally | None:
    """The latest ticks of a step of which the first `after` are not known, if they prove a breach by themselves.

    They are turns like others: each stretch has the α of the ticks that went before it.
    """
    turns: Iterable[Tally] = _stretches(objective, ahead) if _may_end_a_turn(objective, ahead) else ()
    for stretch in itertools.chain(turns, (ahead,)):
        proof = breach_proof(objective, stretch, baseline)
        if proof is None:
            return None
        if proof >= -math.log(turn_alpha(max(1, after + ahead.ticks - stretch.ticks))):
            return stretch
    return None


def late_alpha(beginning: int) -> float:
    """α of the short memory's j-th beginning, 6/(π·j)² of LATE_ALPHA: all of them together have no more than that."""
    return LATE_ALPHA * 6 / (math.pi * beginning) ** 2


def turn_alpha(before: int) -> float:
    """α of a turn after that many ticks, 1/(j·(j + 1)) of TURN_ALPHA: all of them together have no more than that."""
    return TURN_ALPHA / (before * (before + 1))


def _turned(objective: Objective, tally: Tally, baseline: BaselineStatus | None) -> Tally | None:
    """The shortest stretch up to the latest tick that proves a breach; the tick itself must speak for one."""
    if not _may_end_a_turn(objective, tally):
        return None
    for stretch in _stretches(objective, tally):
        proof = breach_proof(objective, stretch, baseline)
        if proof is None or (stretch.ticks == 1 and proof < LEAST_PROOF):
            return None
        if proof >= -math.log(turn_alpha(tally.ticks - stretch.ticks)):
            return stretch
    return None


def _may_end_a_turn(objective: Objective, tally: Tally) -> bool:
    """Of counts alone, as it is asked at every tick; of histograms it is always possible."""
    if len(tally.recent) < 2:
        return False
    if not (objective.ratio or objective.score):
        return True
    mine = tally.recent_candidate.gained(1)
    events, trials, p0 = events_of(objective, mine), mine.requests, objective.limit
    if objective.compare is Compare.RATIO:
        theirs = tally.recent_stable.gained(1)
        scaled = p0 * trials
        if not scaled or not theirs.requests:
            return False
        trials, p0 = events + theirs.bad, scaled / (scaled + theirs.requests)
    return _highest_log_e(events, trials, p0, above=objective.max is not None) >= LEAST_TURN


def _highest_log_e(events: float, trials: float, p0: float, *, above: bool) -> float:
    """ln of the likelihood of the share that is seen over that of p0, where it lies on the asked side: no mixture of
    shares on that side has more."""
    if not 0 < p0 < 1 or trials <= 0 or (events > p0 * trials) is not above:
        return 0.0
    share = events / trials
    seen = events * math.log(share / p0) if events else 0.0
    return seen + ((trials - events) * math.log((1 - share) / (1 - p0)) if events < trials else 0.0)


def _stretches(objective: Objective, tally: Tally) -> Iterator[Tally]:
    """The latest tick, the latest two, and so on."""
    mine, theirs = tally.recent_candidate, tally.recent_stable
    compared = bool(objective.ratio) and objective.compare is Compare.RATIO
    evidence = RatioEvidence.empty() if compared else None
    for ticks in range(1, len(tally.recent)):
        stable = tally.stable
        if evidence is not None:
            one, other = mine.gained(ticks, ticks - 1), theirs.gained(ticks, ticks - 1)
            evidence, stable = evidence.add(one.bad, one.requests, other.bad, other.requests), theirs.gained(ticks)
        yield Tally(tally.recent[-1 - ticks], tally.last, ticks, mine.gained(ticks), stable, ratio=evidence)


def _proof_beyond(test: ShareTest, events: float, requests: float, p0: float, dispersion: float) -> float:
    """ln E for a share beyond p0: where the observed one is not, no share beyond has a higher likelihood than p0."""
    beyond = events > p0 * requests if test is proportion.log_e_above else events < p0 * requests
    return log_e(test, events, requests, p0, dispersion) if beyond else 0.0


def log_e(test: ShareTest, events: float, requests: float, p0: float, dispersion: float) -> float:
    """ln E for a share on one side of p0. No share lies beyond 0 and 1."""
    if not 0 < p0 < 1 or requests <= 0:
        return NEVER
    return test(events, requests, p0, dispersion=dispersion)


def share_tests(objective: Objective) -> tuple[ShareTest, ShareTest]:
    """For the target being met, and for the limit being breached, by events that are bad (max) or good (min)."""
    below, above = proportion.log_e_below, proportion.log_e_above
    return (below, above) if objective.max is not None else (above, below)


def ratio_tests(objective: Objective, evidence: RatioEvidence) -> tuple[ShareTest, ShareTest]:
    below, above = evidence.log_e_below, evidence.log_e_above
    return (below, above) if objective.max is not None else (above, below)


def events_of(objective: Objective, arm: Arm) -> float:
    """Of a ratio or a score."""
    if objective.score:
        return min(arm.values[0], arm.requests) if arm.values else 0.0
    return arm.bad


def edges_of(objective: Objective, known: Histogram) -> tuple[float | None, float | None]:
    """Bucket edges that stand for target and limit."""
    if objective.max is not None:
        return known.edge_at_most(objective.target), known.edge_at_least(objective.limit)
    return known.edge_at_least(objective.target), known.edge_at_most(objective.limit)
