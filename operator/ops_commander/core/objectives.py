"""Verdicts: one objective and all its evidence in, one row of status out. They may be asked for after every tick."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ops_commander.api.policy import Compare, Objective, OnBreach
from ops_commander.api.v1alpha1 import BaselineStatus, Interval, ObjectiveStatus, Trend, Verdict
from ops_commander.core import measures
from ops_commander.core.measures import ALPHA, UNKNOWN, Measured
from ops_commander.core.snapshot import Evidence
from ops_commander.core.statistics import allocation, dispersion
from ops_commander.core.tally import NOTHING, Arm, Tally

CATCHING_UP = "CatchingUp"
NO_EVIDENCE = frozenset({"NoData", "StaleData"})
NOT_KNOWN = NO_EVIDENCE | {CATCHING_UP}
"""Reasons that mean: nothing is known, not: too little is known."""

SPLIT_ALPHA = 0.001
MOST_DISPERSED = dispersion.CAP
LIKE_BEFORE = 0.1
"""A recent value within this relative distance of the whole step's is no trend."""
FEWEST_FOR_TREND = 30
MOST_ODDS = 9999


@dataclass(frozen=True, slots=True)
class Bench:
    """What a judge knows besides the evidence."""

    now: datetime
    stale_after: timedelta
    alpha: float = ALPHA
    baseline: BaselineStatus | None = None
    weight: int = 0
    """Percentage of live requests that the candidate was to have."""
    next_weight: int | None = None
    """That of a split which the router may have by now."""
    mirror_percent: int = 0
    split_tolerance: float = 0.1


@dataclass(frozen=True, slots=True)
class _Ruling:
    verdict: Verdict
    reason: str
    message: str


def judge(objective: Objective, evidence: Evidence | None, bench: Bench) -> ObjectiveStatus:
    """The row for one objective that Prometheus answers."""
    tally = evidence.tally if evidence else NOTHING
    try:
        tally, known = _known(objective, evidence, bench)
    except ValueError as error:  # the metrics are a tenant's: nonsense in them must not keep others from being judged
        known, ruling = UNKNOWN, _undecided("NoData", f"the counters make no sense: {error}")
    else:
        ruling = _missing(objective, evidence, known, bench) or _ruling(objective, tally, known, bench)
    arm = tally.candidate
    return ObjectiveStatus(
        name=objective.name,
        slo=objective.slo,
        verdict=ruling.verdict,
        reason=ruling.reason,
        role=objective.role,
        judged=judged_value(objective),
        observed=rounded(known.observed),
        candidate=rounded(known.candidate),
        stable=rounded(known.stable),
        target=target_text(objective),
        unit=objective.unit,
        interval=shown(known),
        samples=rounded(arm.requests, 1) if tally.ticks else None,
        dispersion=round(bench.baseline.dispersion, 3) if bench.baseline else 1.0,
        trend=_trend(objective, tally),
        message=ruling.message,
        query="; ".join(objective.queries),
        source=evidence.source if evidence else None,
        first_tick=tally.first,
        last_tick=tally.last if tally.ticks else None,
        ticks=tally.ticks,
    )


def _known(objective: Objective, evidence: Evidence | None, bench: Bench) -> tuple[Tally, Measured]:
    """By all that is counted; while the latest ticks are apart from it, by these where they prove a breach."""
    tally, ahead = (evidence.tally, evidence.ahead) if evidence else (NOTHING, None)
    if ahead is not None:
        found = measures.measured_ahead(objective, ahead.tally, ahead.after, bench.baseline, bench.alpha)
        if found is not None:
            return found
    return tally, measures.measured(objective, tally, bench.baseline, bench.alpha)


def judged_value(objective: Objective) -> str:
    """What is held against the target, in a word."""
    if objective.run:
        return "difference" if _compares_shares(objective) else "candidate"
    if objective.pairs or objective.compare is Compare.DIFFERENCE:
        return "difference"
    return "ratio" if objective.compare is Compare.RATIO else "candidate"


def _compares_shares(objective: Objective) -> bool:
    run = objective.run
    if run is None or run.samples is None:
        return False
    return run.against is not None or objective.compare is Compare.DIFFERENCE


def target_text(objective: Objective) -> str:
    sign, bound = ("<", objective.max) if objective.max is not None else ("≥", objective.min)
    other = objective.run.against if objective.run and objective.run.against else "stable"
    what = {"candidate": "", "difference": f"difference to {other} ", "ratio": "ratio to stable "}
    return f"{what[judged_value(objective)]}{sign} {number(bound)}{objective.unit}"


def shown(known: Measured) -> Interval | None:
    """The interval as status has it: an infinite end is left out."""
    if known.interval is None:
        return None
    low, high = known.interval.low, known.interval.high
    return Interval(low=rounded(low), high=rounded(high))


def _missing(objective: Objective, evidence: Evidence | None, known: Measured, bench: Bench) -> _Ruling | None:
    if evidence is None or evidence.seen_at is None:
        error = evidence.error if evidence else None
        return _undecided("NoData", error or "Prometheus has not been asked yet")
    if bench.now - evidence.seen_at > bench.stale_after:
        since = f"no answer since {evidence.seen_at:%H:%M:%S}"  # no age: it would be written each time
        return _undecided("StaleData", f"{since}: {evidence.error or 'no newer poll'}")
    if evidence.fresh_at is None or bench.now - evidence.fresh_at > bench.stale_after:
        arms = "the candidate's and the stable pods" if _needs_stable(objective) else "the candidate's pods"
        since = f" since {evidence.fresh_at:%H:%M:%S}" if evidence.fresh_at else ""
        return _undecided("NoData", f"Prometheus has no series of {arms}{since}")
    if evidence.ahead is not None:
        since = f"{evidence.origin:%H:%M:%S}" if evidence.origin else "the step's beginning"
        message = f"ticks since {since} are still being read; the latest ones are watched"
        return None if known.breaches else _undecided(CATCHING_UP, message)
    if not evidence.tally.ticks:
        begins = f": requests count from {evidence.origin:%H:%M:%S} on" if evidence.origin else ""
        return _undecided("InsufficientSample", f"no tick has been counted yet{begins}")
    return None


def _needs_stable(objective: Objective) -> bool:
    return objective.compare is not Compare.ABSOLUTE and objective.pairs is None


def _undecided(reason: str, message: str) -> _Ruling:
    return _Ruling(Verdict.INCONCLUSIVE, reason, message)


def _ruling(objective: Objective, tally: Tally, known: Measured, bench: Bench) -> _Ruling:
    """A breach first, whatever else is odd: to revert needs no certainty about the rest."""
    text = described(objective, known, tally.candidate.requests)
    odd = _distrust(tally, bench)
    if known.breaches and (odd is None or objective.compare is Compare.ABSOLUTE):
        if objective.on_breach is OnBreach.HOLD:
            return _short_of_target(objective, tally, bench, text)
        return _Ruling(Verdict.FAIL, "Breached", text)
    if odd:
        return _undecided(odd[0], f"{odd[1]}; {text}")
    if known.meets:
        if objective.min_samples and tally.candidate.requests < objective.min_samples:
            return _undecided("InsufficientSample", f"{text}; {objective.min_samples} requests needed")
        return _Ruling(Verdict.PASS, "Met", text)
    return _open(objective, tally, known, bench, text)


def _distrust(tally: Tally, bench: Bench) -> tuple[str, str] | None:
    """Why the evidence cannot be believed as it is."""
    if bench.baseline and bench.baseline.dispersion > MOST_DISPERSED:
        return "Overdispersed", f"φ is {bench.baseline.dispersion:.3g}: events come in clumps too large to judge"
    if tally.contradicted:
        return "Overdispersed", "intervals of this step exclude each other: the value changed under way"
    mine, theirs = tally.split
    if bench.weight in (0, 100) or not mine + theirs:
        return None
    weights = (bench.weight, bench.weight if bench.next_weight is None else bench.next_weight)
    share = min(max(mine / (mine + theirs), min(weights) / 100), max(weights) / 100)
    if share in (0, 1):
        return None
    if allocation.log_e(mine, theirs, share, tolerance=bench.split_tolerance) < math.log(1 / SPLIT_ALPHA):
        return None
    seen = f"{100 * mine / (mine + theirs):.3g}% of {mine + theirs:.0f} requests reached the candidate"
    return "RoutingMismatch", f"{seen}, {bench.weight}% were to"


def _open(objective: Objective, tally: Tally, known: Measured, bench: Bench, text: str) -> _Ruling:
    if objective.rate:
        offered = _offered(tally, bench)
        if offered is not None and objective.min is not None and offered < objective.min:
            return _demand_limited(objective, offered, text)
    if known.observed is None and not known.is_blunt:
        return _undecided("InsufficientSample", f"{tally.candidate.requests:.0f} requests: no value yet")
    if known.is_blunt:
        return _undecided("Resolution", text)
    favourable = known.observed is not None and _is_favourable(objective, known.observed)
    reason = "InsufficientSample" if favourable else "Straddles"
    return _undecided(reason, text)


def _is_favourable(objective: Objective, observed: float) -> bool:
    """Whether more of the same would pass."""
    return observed < objective.max if objective.max is not None else observed >= objective.target


def _short_of_target(objective: Objective, tally: Tally, bench: Bench, text: str) -> _Ruling:
    offered = _offered(tally, bench)
    if objective.rate and offered is not None and objective.min is not None and offered < objective.min:
        return _demand_limited(objective, offered, text)
    return _undecided("BelowTarget", text)


def _demand_limited(objective: Objective, offered: float, text: str) -> _Ruling:
    unit = objective.unit
    said = f"only {number(offered)}{unit} were offered, so {number(objective.min)}{unit} could not be shown"
    return _undecided("DemandLimited", f"{said}; {text}")


def _offered(tally: Tally, bench: Bench) -> float | None:
    """Requests per second that the candidate was offered; None where the counters cannot tell."""
    if not tally.seconds:
        return None
    mine, theirs = tally.split
    if bench.mirror_percent:
        return theirs * bench.mirror_percent / 100 / tally.seconds
    if bench.weight == 100:
        return tally.candidate.requests / tally.seconds
    return (mine + theirs) * bench.weight / 100 / tally.seconds


def described(objective: Objective, known: Measured, requests: float | None = None) -> str:
    """Value, interval and target in words."""
    unit = objective.unit
    text = f"{number(known.observed)}{unit}"
    if known.interval is not None:
        text += f" (CI95 {number(known.interval.low)} to {number(known.interval.high)})"
    text += f", target {target_text(objective)}"
    if requests is not None:
        text += f", {requests:.0f} requests"
    if known.stable is not None:
        text += f", stable {number(known.stable)}{unit if judged_value(objective) != 'ratio' else ''}"
    if (known.meets or known.breaches) and known.log_e is not None:
        odds = math.exp(min(known.log_e, 50.0))
        text += f"; shown at odds of {odds:.0f} to 1" if odds <= MOST_ODDS else f"; shown at odds over {MOST_ODDS} to 1"
    return f"{text}; {known.note}" if known.note else text


def _trend(objective: Objective, tally: Tally) -> Trend | None:
    if len(tally.recent) < 2 or objective.rate:
        return None
    latest: Arm = tally.recent_candidate.gained(len(tally.recent) - 1)
    if latest.requests < FEWEST_FOR_TREND or latest.requests >= tally.candidate.requests:
        return None
    recent, whole = measures.value_of(objective, latest), measures.value_of(objective, tally.candidate)
    if recent is None or whole is None:
        return None
    if abs(recent - whole) <= LIKE_BEFORE * abs(whole):
        return Trend.STEADY
    return Trend.RISING if recent > whole else Trend.FALLING


def overall(rows: Iterable[ObjectiveStatus]) -> Verdict:
    """Fail if one that may revert fails; Pass if there are required ones and all pass on the same tick."""
    judged = list(rows)
    if any(row.verdict is Verdict.FAIL and row.role != "Advisory" for row in judged):
        return Verdict.FAIL
    required = [row for row in judged if row.role == "Required"]
    ticks = {row.last_tick for row in required if row.last_tick is not None}
    passed = bool(required) and all(row.verdict is Verdict.PASS for row in required)
    return Verdict.PASS if passed and len(ticks) <= 1 else Verdict.INCONCLUSIVE


def share_of_alpha(objectives: Iterable[Objective]) -> float:
    """α of each objective where the family of all that may revert is to have 5 % together."""
    return ALPHA / max(1, sum(objective.reverts for objective in objectives))


def rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)


def number(value: float | None) -> str:
    if value is None:
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}"
