"""What a tally says of the judged value: estimate, interval, and the evidence for either side of the target."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ops_commander.api.policy import Compare, Objective, Quantile
from ops_commander.api.v1alpha1 import BaselineStatus
from ops_commander.core.breach import (
    NEVER,
    ShareTest,
    breach_proof,
    edges_of,
    events_of,
    log_e,
    proved_ahead,
    proved_lately,
    ratio_tests,
    share_tests,
)
from ops_commander.core.statistics import correlation, difference, proportion, quantile
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.tally import Arm, Tally, drift_edges

ALPHA = 0.05
DRIFT_PRIOR = 0.25
"""Standard deviation of ln r in the prior of a drift: small ones are looked for."""

Proof = tuple[float, float]
"""ln E for: the target is met; the limit is breached."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The judged value and what is proved of it."""

    observed: float | None
    candidate: float | None
    stable: float | None
    interval: Interval | None
    meets: bool
    """Whether it is proved to be on the good side of the target."""
    breaches: bool
    """Whether it is proved to be on the bad side of the limit."""
    note: str = ""
    """What keeps the evidence from being as sharp as it could be."""
    is_blunt: bool = False
    """Whether the histogram has no bucket edge that could tell."""
    log_e: float | None = None
    """ln E for the breach, else for meeting the target, where there is a test of its own for it: it is sharper than the
    interval, which has no target in mind."""


UNKNOWN = Measured(None, None, None, None, meets=False, breaches=False)


def value_of(objective: Objective, arm: Arm) -> float | None:
    """The value of one arm by itself; None without requests."""
    requests = arm.requests
    if requests <= 0:
        return None
    if objective.ratio:
        return arm.bad / requests
    if objective.quantile:
        known = arm.histogram(objective.quantile.scale)
        return quantile.estimate(known.edges, known.counts, objective.quantile.q) if known.total else None
    if objective.score:
        return arm.values[0] / requests
    if objective.pairs:
        return (arm.values[0] - arm.values[1]) / requests
    if objective.correlation and all(power in arm.moments for power in correlation.POWERS):
        return correlation.estimate(arm.moments)
    return None


def measured(objective: Objective, tally: Tally, baseline: BaselineStatus | None, alpha: float = ALPHA) -> Measured:
    """What is known of an objective after a tally's ticks.

    A breach that only the latest ticks show is told with the numbers of these.
    """
    known = _measured(objective, tally, baseline, alpha)
    lately = None if known.breaches else proved_lately(objective, tally, baseline)
    if lately is None:
        return known
    since = f"counted since {lately.first:%H:%M:%S} alone: the whole step has {known.observed:.4g}"
    return replace(_measured(objective, lately, baseline, alpha), meets=False, breaches=True, note=since)


def measured_ahead(
    objective: Objective, ahead: Tally, after: int, baseline: BaselineStatus | None, alpha: float = ALPHA
) -> tuple[Tally, Measured] | None:
    """Of the latest ticks of a step of which the first `after` are not known: which prove a breach, and what they show.
    They prove nothing else."""
    stretch = proved_ahead(objective, ahead, after, baseline)
    if stretch is None:
        return None
    note = f"counted since {stretch.first:%H:%M:%S} alone: what was before is still being read"
    return stretch, replace(_measured(objective, stretch, baseline, alpha), meets=False, breaches=True, note=note)


def interval(
    objective: Objective, tally: Tally, baseline: BaselineStatus | None, alpha: float = ALPHA
) -> Interval | None:
    """The interval of `measured`, and nothing else of it."""
    if proved_lately(objective, tally, baseline) is not None:
        return measured(objective, tally, baseline, alpha).interval
    dispersion = baseline.dispersion if baseline else 1.0
    if objective.compare is Compare.ABSOLUTE and objective.ratio:
        return _share_interval(objective, tally, alpha, dispersion)
    if objective.ratio and objective.compare is Compare.RATIO:
        return tally.ratio.interval(alpha, dispersion=dispersion) if tally.ratio else None
    if objective.quantile and objective.compare is Compare.ABSOLUTE:
        return _quantile_interval(objective.quantile, tally, alpha, dispersion)
    return _measured(objective, tally, baseline, alpha).interval


def _measured(objective: Objective, tally: Tally, baseline: BaselineStatus | None, alpha: float) -> Measured:
    dispersion = baseline.dispersion if baseline else 1.0
    if objective.ratio:
        if objective.compare is Compare.RATIO:
            return _rate_ratio(objective, tally, alpha, dispersion)
        if objective.compare is Compare.DIFFERENCE:
            return _difference(objective, tally, alpha, dispersion)
        return _share(objective, tally, alpha, dispersion)
    if objective.quantile:
        if objective.compare is Compare.DIFFERENCE:
            return _drift(objective, tally, baseline, alpha, dispersion)
        return _quantile(objective, tally, alpha, dispersion)
    if objective.score:
        chosen = _difference if objective.compare is Compare.DIFFERENCE else _share
        return chosen(objective, tally, alpha, 1.0)
    if objective.rate:
        return _rate(objective, tally, alpha)
    by_interval = _pairs if objective.pairs else _correlation
    return by_interval(objective, tally, alpha)


def breached(objective: Objective, tally: Tally, baseline: BaselineStatus | None, alpha: float = ALPHA) -> bool:
    """Whether a breach is proved: the part of `measured` that is wanted after every tick, and nothing else of it."""
    proof = breach_proof(objective, tally, baseline)
    if proof is None:
        return measured(objective, tally, baseline, alpha).breaches
    if proof >= math.log(1 / alpha) and objective.compare is not Compare.RATIO:
        return True
    sided = proof >= math.log(2 / alpha) and _measured(objective, tally, baseline, alpha).breaches
    return sided or proved_lately(objective, tally, baseline) is not None


def within(objective: Objective, interval: Interval) -> tuple[bool, bool]:
    """Whether a whole interval meets the target, and whether a whole interval breaches the limit."""
    if objective.max is not None:
        return interval.high < objective.max, interval.low > objective.limit
    return interval.low >= objective.target, interval.high < objective.limit


def _share(objective: Objective, tally: Tally, alpha: float, dispersion: float) -> Measured:
    """Method A, one arm."""
    arm = tally.candidate
    events, requests = events_of(objective, arm), arm.requests
    proof = _share_proof(objective, events, requests, dispersion)
    interval = _share_interval(objective, tally, alpha, dispersion)
    mine = value_of(objective, arm)
    return _decided(proof, Measured(mine, mine, value_of(objective, tally.stable), interval, False, False), alpha)


def _share_interval(objective: Objective, tally: Tally, alpha: float, dispersion: float) -> Interval:
    arm = tally.candidate
    return proportion.interval(events_of(objective, arm), arm.requests, alpha=alpha, dispersion=dispersion)


def _decided(proof: Proof, known: Measured, alpha: float, *, breach_alpha: float | None = None) -> Measured:
    """With the verdicts that the proofs carry at level α."""
    meets, breaches = proof[0] >= math.log(1 / alpha), proof[1] >= math.log(1 / (breach_alpha or alpha))
    log_e = proof[1] if breaches else proof[0]
    return replace(known, meets=meets, breaches=breaches, log_e=log_e if log_e > NEVER else None)


def _share_proof(objective: Objective, events: float, requests: float, dispersion: float) -> Proof:
    good, bad = share_tests(objective)
    kept = log_e(good, events, requests, objective.target, dispersion)
    return kept, log_e(bad, events, requests, objective.limit, dispersion)


def _rate_ratio(objective: Objective, tally: Tally, alpha: float, dispersion: float) -> Measured:
    """Method B. A comparison is proved when the whole interval lies on one side: one that straddles counts for nothing.
    A breach takes half of α: it is looked for on one side of a two-sided interval."""
    mine, theirs = value_of(objective, tally.candidate), value_of(objective, tally.stable)
    observed = None
    if mine is not None and theirs is not None and (mine or theirs):
        observed = mine / theirs if theirs else math.inf
    interval = tally.ratio.interval(alpha, dispersion=dispersion) if tally.ratio else None
    known = Measured(observed, mine, theirs, interval, False, False)
    decided = _decided(_ratio_proof(objective, tally, dispersion), known, alpha, breach_alpha=alpha / 2)
    if interval is None:
        return decided
    meets, breaches = within(objective, interval)
    return replace(decided, meets=decided.meets and meets, breaches=decided.breaches and breaches)


def _ratio_proof(objective: Objective, tally: Tally, dispersion: float) -> Proof:
    evidence = tally.ratio
    if evidence is None:
        return NEVER, NEVER
    good, bad = ratio_tests(objective, evidence)
    return good(objective.target, dispersion=dispersion), bad(objective.limit, dispersion=dispersion)


def _difference(objective: Objective, tally: Tally, alpha: float, dispersion: float) -> Measured:
    """Method C."""
    mine, theirs = value_of(objective, tally.candidate), value_of(objective, tally.stable)
    if mine is None or theirs is None:
        return Measured(None, mine, theirs, None, False, False)
    interval = difference.interval(
        events_of(objective, tally.candidate),
        tally.candidate.requests,
        events_of(objective, tally.stable),
        tally.stable.requests,
        alpha=alpha,
        dispersion=dispersion,
    )
    return Measured(mine - theirs, mine, theirs, interval, *within(objective, interval))


def _pairs(objective: Objective, tally: Tally, alpha: float) -> Measured:
    """Method C on pairs."""
    arm = tally.candidate
    observed = value_of(objective, arm)
    if observed is None:
        return Measured(None, None, None, None, False, False)
    interval = difference.paired_interval(*arm.values, alpha=alpha)
    return Measured(observed, None, None, interval, *within(objective, interval))


def _quantile(objective: Objective, tally: Tally, alpha: float, dispersion: float) -> Measured:
    """Method A on the share beyond the target's bucket edge; method D for the interval.

    P95 < 500 ms is the same as: at most 5 % take longer than 500 ms, if 500 ms is a bucket edge. Where it is none,
    the next lower edge makes a pass harder, and the next higher one a breach.
    """
    measure = objective.quantile
    assert measure is not None
    known = tally.candidate.histogram(measure.scale)
    mine, theirs = value_of(objective, tally.candidate), value_of(objective, tally.stable)
    if not known.total:
        return Measured(None, mine, theirs, None, False, False)
    interval = _quantile_interval(measure, tally, alpha, dispersion)
    target, limit = edges_of(objective, known)
    note = _edges_note(objective, target, limit)
    known_so_far = Measured(mine, mine, theirs, interval, False, False, note, is_blunt=target is None)
    return _decided(_quantile_proof(objective, tally, dispersion), known_so_far, alpha)


def _quantile_interval(measure: Quantile, tally: Tally, alpha: float, dispersion: float) -> Interval | None:
    known = tally.candidate.histogram(measure.scale)
    if not known.total:
        return None
    return quantile.interval(known.edges, known.counts, measure.q, alpha=alpha, dispersion=dispersion)


def _quantile_proof(objective: Objective, tally: Tally, dispersion: float) -> Proof:
    measure = objective.quantile
    assert measure is not None
    known = tally.candidate.histogram(measure.scale)
    target, limit = edges_of(objective, known)
    good, bad = share_tests(objective)

    def proof(test: ShareTest, edge: float | None) -> float:
        return NEVER if edge is None else log_e(test, known.above(edge), known.total, 1 - measure.q, dispersion)

    return proof(good, target), proof(bad, limit)


def _edges_note(objective: Objective, target: float | None, limit: float | None) -> str:
    if target is None:
        return f"the histogram has no bucket edge on the good side of {objective.target:g}{objective.unit}"
    if not math.isclose(target, objective.target):
        return f"judged at the bucket edge {target:g}{objective.unit}, next to the target"
    if limit is None:
        return f"the histogram has no bucket edge beyond {objective.limit:g}{objective.unit}: no breach can be seen"
    return ""


def _drift(
    objective: Objective, tally: Tally, baseline: BaselineStatus | None, alpha: float, dispersion: float
) -> Measured:
    """Method B on the requests beyond τ (stable) and τ + allowed drift (candidate), or method D: each has half of α."""
    measure = objective.quantile
    assert measure is not None
    mine, theirs = value_of(objective, tally.candidate), value_of(objective, tally.stable)
    if mine is None or theirs is None:
        return Measured(None, mine, theirs, None, False, False)
    slow, fast = tally.candidate.histogram(measure.scale), tally.stable.histogram(measure.scale)

    def difference_at(level: float) -> Interval:
        arms = (slow.edges, slow.counts, fast.edges, fast.counts)
        return quantile.difference_interval(*arms, measure.q, alpha=level, dispersion=dispersion)

    known = Measured(mine - theirs, mine, theirs, difference_at(alpha), *within(objective, difference_at(alpha / 2)))
    edges = drift_edges(objective, tally.candidate, tally.stable, baseline.edge if baseline else None)
    if edges is None or tally.ratio is None or tally.ratio_for_breach is None:
        note = "no bucket edges that fit: only the difference of quantiles is judged"
        return replace(known, note=note, is_blunt=True)
    shape = {"prior_scale": DRIFT_PRIOR, "dispersion": dispersion}
    meets = known.meets or tally.ratio.log_e_below(1.0, **shape) >= math.log(2 / alpha)
    breaches = known.breaches or tally.ratio_for_breach.log_e_above(1.0, **shape) >= math.log(2 / alpha)
    unit = objective.unit
    note = f"more than {edges.for_pass:g}{unit} against more than {edges.stable:g}{unit}"
    if not edges.is_exact:
        note += ", where a pass is harder to prove than needed: no bucket edge at the allowed drift"
    return replace(known, meets=meets, breaches=breaches, note=note)


def _rate(objective: Objective, tally: Tally, alpha: float) -> Measured:
    """Method E."""
    mine = tally.candidate.requests / tally.seconds if tally.seconds else None
    theirs = tally.stable.requests / tally.seconds if tally.seconds else None
    if tally.rate is None:
        return Measured(mine, mine, theirs, None, False, False)
    interval = tally.rate.interval(alpha)
    return Measured(mine, mine, theirs, interval, *within(objective, interval))


def _correlation(objective: Objective, tally: Tally, alpha: float) -> Measured:
    """Method F."""
    observed = value_of(objective, tally.candidate)
    if observed is None:
        return Measured(None, None, None, None, False, False)
    interval = correlation.interval(tally.candidate.moments, alpha=alpha)
    return Measured(observed, observed, None, interval, *within(objective, interval))
