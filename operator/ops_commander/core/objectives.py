"""Verdicts: one objective and its evidence in, one row of status out.

This version compares points. The place of an interval is kept: `ObjectiveStatus.interval`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ops_commander.api.fields import format_duration
from ops_commander.api.v1alpha1 import Objective, ObjectiveStatus, OnBreach, Verdict
from ops_commander.core.snapshot import Buckets, Evidence, Value

NO_EVIDENCE = frozenset({"NoData", "StaleData"})
"""Reasons that mean: nothing is known, not: too little is known."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """An objective's value for one arm and the number of requests behind it."""

    value: float | None
    samples: float
    is_least: bool = False
    """Whether the true value is this or more: the histogram has no edge above it."""


@dataclass(frozen=True, slots=True)
class _Judgement:
    verdict: Verdict
    reason: str
    message: str
    candidate: Measurement | None = None
    stable: Measurement | None = None


def judge(
    objective: Objective, evidence: Evidence | None, *, since: datetime | None, now: datetime, stale_after: timedelta
) -> ObjectiveStatus:
    """The row for one objective. `since` is when the present split was confirmed: a pass needs a whole window
    after it, a breach does not."""
    judgement = _judge(objective, evidence, since, now, stale_after)
    candidate, stable = judgement.candidate, judgement.stable
    observed = candidate.value if candidate else None
    if objective.relative_to_stable and observed is not None and stable and stable.value is not None:
        observed -= stable.value
    return ObjectiveStatus(
        name=objective.name,
        slo=objective.slo,
        verdict=judgement.verdict,
        reason=judgement.reason,
        required=objective.required,
        observed=_rounded(observed),
        stable=_rounded(stable.value if stable else None),
        target=target_text(objective),
        unit=objective.unit,
        samples=_rounded(candidate.samples if candidate else None, 1),
        message=judgement.message,
        query="; ".join(objective.queries),
        evidence_at=evidence.at if evidence else None,
        window=format_duration(objective.window),
    )


def target_text(objective: Objective) -> str:
    sign, bound = ("<", objective.max) if objective.max is not None else ("≥", objective.min)
    difference = "difference to stable " if objective.relative_to_stable else ""
    return f"{difference}{sign} {_number(bound)}{objective.unit}"


def measure(objective: Objective, values: tuple[Value, ...]) -> Measurement | None:
    """The value of one arm; None where the series that counts requests has no row."""
    if objective.ratio:
        return _ratio(values)
    if objective.quantile:
        buckets = values[0] if values else None
        if not isinstance(buckets, Buckets):
            return None
        value, is_least = _quantile(buckets, objective.quantile.q)
        return Measurement(value, buckets.total, is_least)
    rate = values[0] if values else None
    samples = rate * objective.window.total_seconds() if isinstance(rate, float) else math.nan
    if not isinstance(rate, float) or not math.isfinite(samples):
        return None
    return Measurement(rate, samples)


def _ratio(values: tuple[Value, ...]) -> Measurement | None:
    bad, total = values if len(values) == 2 else (None, None)
    if not isinstance(total, float) or not math.isfinite(total):
        return None
    errors = bad if isinstance(bad, float) else 0.0
    if not math.isfinite(errors):
        return None
    return Measurement(min(errors / total, 1.0) if total > 0 else None, total)


def quantile_of(buckets: Buckets, q: float) -> float | None:
    """The q-quantile by linear interpolation within its bucket, as Prometheus' histogram_quantile does.

    None for an empty histogram; the highest finite edge where the quantile lies in the infinite bucket.
    """
    return _quantile(buckets, q)[0]


def _quantile(buckets: Buckets, q: float) -> tuple[float | None, bool]:
    """The quantile, and whether it lies beyond the highest finite edge."""
    if buckets.total <= 0 or not math.isfinite(buckets.total):
        return None, False
    rank = q * buckets.total
    lower_edge = lower_count = 0.0
    for edge, count in zip(buckets.edges, buckets.counts, strict=True):
        if count >= rank:
            if math.isinf(edge):
                return lower_edge, True
            within = (rank - lower_count) / (count - lower_count) if count > lower_count else 1.0
            return lower_edge + (edge - lower_edge) * within, False
        lower_edge, lower_count = edge, count
    return lower_edge, False


def _judge(
    objective: Objective, evidence: Evidence | None, since: datetime | None, now: datetime, stale_after: timedelta
) -> _Judgement:
    missing = _missing(evidence, now, stale_after)
    if missing:
        return missing
    assert evidence is not None and evidence.at is not None
    candidate = measure(objective, evidence.candidate)
    stable = measure(objective, evidence.stable)
    if candidate is None:
        return _undecided("NoData", "Prometheus has no series for the candidate's pods")
    if objective.relative_to_stable and stable is None:
        return _undecided("NoData", "Prometheus has no series for the stable pods", candidate)
    if candidate.samples < objective.min_samples or candidate.value is None:
        message = f"{candidate.samples:.0f} requests in {format_duration(objective.window)}: "
        return _undecided("InsufficientSample", f"{message}{objective.min_samples} needed", candidate, stable)
    observed = candidate.value
    if objective.relative_to_stable:
        if stable is None or stable.value is None:
            return _undecided("InsufficientSample", "no requests on the stable pods", candidate, stable)
        observed -= stable.value
    judgement = _compare(objective, observed, candidate, stable)
    if judgement.verdict is Verdict.PASS and _may_be_worse(objective, candidate, stable):
        edge = f"the histogram's highest edge, {_number(candidate.value)}{objective.unit}, is below the target's reach"
        return _undecided("BeyondBuckets", f"{edge}: the value may be anything above", candidate, stable)
    if judgement.verdict is Verdict.PASS and (since is None or evidence.at - objective.window < since):
        ready = "" if since is None else f" until {(since + objective.window):%H:%M:%S}"
        return _undecided("Warmup", f"the window reaches back before this split{ready}", candidate, stable)
    return judgement


def _may_be_worse(objective: Objective, candidate: Measurement, stable: Measurement | None) -> bool:
    """Whether a value beyond the histogram's edges stands behind a pass."""
    if objective.max is not None:
        return candidate.is_least
    return objective.relative_to_stable and stable is not None and stable.is_least


def _missing(evidence: Evidence | None, now: datetime, stale_after: timedelta) -> _Judgement | None:
    if evidence is None or evidence.at is None:
        error = evidence.error if evidence else None
        return _undecided("NoData", error or "Prometheus has not been asked yet")
    if now - evidence.at > stale_after:
        since = f"no answer since {evidence.at:%H:%M:%S}"  # no age: a text that changes would be written each time
        return _undecided("StaleData", f"{since}: {evidence.error or 'no newer poll'}")
    return None


def _undecided(
    reason: str, message: str, candidate: Measurement | None = None, stable: Measurement | None = None
) -> _Judgement:
    return _Judgement(Verdict.INCONCLUSIVE, reason, message, candidate, stable)


def _compare(objective: Objective, observed: float, candidate: Measurement, stable: Measurement | None) -> _Judgement:
    """Distances are rounded so that a value on the bound is not pushed over it by binary fractions."""
    if objective.max is not None:
        met = observed < objective.max
        over = round(observed - objective.max, 9)
    else:
        assert objective.min is not None
        met = observed >= objective.min
        over = round(objective.min - observed, 9)
    shown = f"{_number(observed)}{objective.unit}, target {target_text(objective)}"
    shown += f", {candidate.samples:.0f} requests"
    if stable and stable.value is not None:
        shown += f", stable {_number(stable.value)}{objective.unit}"
    if met:
        return _Judgement(Verdict.PASS, "Met", shown, candidate, stable)
    if over <= objective.tolerance:
        return _Judgement(Verdict.INCONCLUSIVE, "WithinTolerance", shown, candidate, stable)
    if objective.on_breach is OnBreach.HOLD:
        return _Judgement(Verdict.INCONCLUSIVE, "BelowTarget", shown, candidate, stable)
    return _Judgement(Verdict.FAIL, "Breached", shown, candidate, stable)


def overall(rows: Iterable[ObjectiveStatus]) -> Verdict:
    """Fail if a required one fails, Pass if there are required ones and all pass, else Inconclusive."""
    verdicts = [row.verdict for row in rows if row.required]
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.PASS if set(verdicts) == {Verdict.PASS} else Verdict.INCONCLUSIVE


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4g}"
