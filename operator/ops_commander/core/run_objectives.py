"""Objectives that an MLflow run answers: nothing is believed without run id and artifact."""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass

from ops_commander.api.policy import Compare, Objective, OnBreach, RunMeasure
from ops_commander.api.v1alpha1 import ObjectiveStatus, Verdict
from ops_commander.core import measures, objectives
from ops_commander.core.measures import ALPHA, Measured
from ops_commander.core.snapshot import RunRecord
from ops_commander.core.statistics import correlation, difference, proportion
from ops_commander.core.statistics.interval import Interval


@dataclass(frozen=True, slots=True)
class Runs:
    """Which runs are compared; None where there is none, or MLflow has not answered yet."""

    candidate_id: str | None
    candidate: RunRecord | None
    baseline_id: str | None = None
    baseline: RunRecord | None = None


class Unproved(Exception):
    """The run does not have what the objective needs; the text says what."""


def names_baseline(objective: Objective) -> bool:
    """Whether a second run is needed."""
    return objective.run is not None and objective.compare is Compare.DIFFERENCE and objective.run.against is None


def judge(objective: Objective, runs: Runs, alpha: float = ALPHA) -> ObjectiveStatus:
    """The row for one objective that a run answers."""
    measure = objective.run
    assert measure is not None
    try:
        known, samples, what = _known(objective, measure, runs, alpha)
    except Unproved as error:
        return _row(objective, runs, Verdict.INCONCLUSIVE, "NoData", str(error), measures.UNKNOWN)
    text = _described(objective, measure, known, samples)
    text = f"{what}: {text}" if what != measure.metric and measure.metric else text
    if known.breaches:
        held = objective.on_breach is OnBreach.HOLD
        verdict, reason = (Verdict.INCONCLUSIVE, "BelowTarget") if held else (Verdict.FAIL, "Breached")
    elif known.meets and samples is not None and samples < (objective.min_samples or 0):
        verdict, reason = Verdict.INCONCLUSIVE, "InsufficientSample"
        text = f"{text}; {objective.min_samples} samples needed"
    elif known.meets:
        verdict, reason = Verdict.PASS, "Met"
    else:
        verdict, reason = Verdict.INCONCLUSIVE, "Straddles"
    return _row(objective, runs, verdict, reason, text, known, samples)


def _described(objective: Objective, measure: RunMeasure, known: Measured, samples: float | None) -> str:
    unit, interval = objective.unit, known.interval
    text = f"{objectives.number(known.observed)}{unit}"
    if interval is not None and not measure.exact:
        text += f" (CI95 {objectives.number(interval.low)} to {objectives.number(interval.high)})"
    text += f", target {objectives.target_text(objective)}"
    if samples is not None:
        text += f", {samples:.0f} samples"
    if known.stable is None:
        return text
    return f"{text}, {measure.against or 'stable'} {objectives.number(known.stable)}{unit}"


def _row(
    objective: Objective,
    runs: Runs,
    verdict: Verdict,
    reason: str,
    message: str,
    known: Measured,
    samples: float | None = None,
) -> ObjectiveStatus:
    assert objective.run is not None
    run = runs.candidate_id or "no run"
    return ObjectiveStatus(
        name=objective.name,
        slo=objective.slo,
        verdict=verdict,
        reason=reason,
        role=objective.role,
        judged=objectives.judged_value(objective),
        observed=objectives.rounded(known.observed),
        candidate=objectives.rounded(known.candidate),
        stable=objectives.rounded(known.stable) if names_baseline(objective) else None,
        target=objectives.target_text(objective),
        unit=objective.unit,
        interval=objectives.shown(known),
        samples=samples,
        message=f"{message} @ {run}",
        query=objective.run.metric or f"{objective.run.moments}*",
        source=f"{run}/{objective.run.artifact}",
    )


def _known(objective: Objective, measure: RunMeasure, runs: Runs, alpha: float) -> tuple[Measured, float | None, str]:
    """What is known, from how many samples, and of which metric."""
    mine = _run(runs.candidate_id, runs.candidate, "spec.model.runId", measure.artifact)
    if measure.moments:
        return (*_correlation(objective, measure.moments, mine, alpha), measure.moments)
    assert measure.metric is not None
    if measure.interval:
        return (*_worst_interval(objective, measure, mine),)
    if measure.exact:
        return _exact(objective, _metric(mine, measure.metric)), None, measure.metric
    assert measure.samples is not None
    value, samples = _proportion(mine, measure.metric), _count(mine, measure.samples)
    if measure.against is None and objective.compare is not Compare.DIFFERENCE:
        return _share(objective, value, samples, alpha), samples, measure.metric
    if measure.against is not None:
        other, others = _proportion(mine, measure.against), samples
    else:
        what = f"objective {objective.name} compares with the stable version's run"
        theirs = _run(runs.baseline_id, runs.baseline, what, None)
        other, others = _proportion(theirs, measure.metric), _count(theirs, measure.samples)
    interval = difference.interval(value * samples, samples, other * others, others, alpha=alpha)
    known = Measured(value - other, value, other, interval, *measures.within(objective, interval))
    return known, samples, measure.metric


def _exact(objective: Objective, value: float) -> Measured:
    """A fact that does not meet its target breaches it, unless `breach` leaves room between the two."""
    meets, breaches = measures.within(objective, interval := Interval(value, value))
    breaches = not meets if objective.breach is None else breaches
    return Measured(value, value, None, interval, meets, breaches)


def _share(objective: Objective, value: float, samples: float, alpha: float) -> Measured:
    interval = proportion.interval(value * samples, samples, alpha=alpha)
    return Measured(value, value, None, interval, *measures.within(objective, interval))


def _correlation(objective: Objective, prefix: str, run: RunRecord, alpha: float) -> tuple[Measured, float]:
    moments = {(i, j): _metric(run, f"{prefix}{i}_{j}") for i in range(5) for j in range(5 - i)}
    try:
        interval = correlation.interval(moments, alpha=alpha)
    except ValueError as error:
        raise Unproved(f"the moments {prefix}* of run {run.run_id} make no sense: {error}") from error
    observed = correlation.estimate(moments)
    return Measured(observed, observed, None, interval, *measures.within(objective, interval)), moments[(0, 0)]


def _worst_interval(objective: Objective, measure: RunMeasure, run: RunRecord) -> tuple[Measured, float | None, str]:
    """Of all metrics that the name stands for, the one furthest on the bad side."""
    assert measure.metric is not None and measure.interval is not None
    names = sorted(name for name in run.metrics if fnmatch.fnmatchcase(name, measure.metric))
    if not names:
        raise Unproved(f"run {run.run_id} has no metric {measure.metric}")
    found: list[tuple[tuple[bool, bool, float], Measured, str]] = []
    for name in names:
        middle = name[len(measure.metric.partition("*")[0]) :] if "*" in measure.metric else ""
        low = _metric(run, measure.interval.low.replace("*", middle))
        high = _metric(run, measure.interval.high.replace("*", middle))
        value = _metric(run, name)
        if not low <= value <= high:
            raise Unproved(
                f"{name} of run {run.run_id} is {value:g}: expected it within its interval, {low:g} to {high:g}"
            )
        interval = Interval(low, high)
        meets, breaches = measures.within(objective, interval)
        known = Measured(value, value, None, interval, meets, breaches)
        distance = value if objective.max is None else -value
        found.append(((not breaches, meets, distance), known, name))
    _, known, name = min(found, key=lambda item: item[0])
    return known, None, name


def _run(run_id: str | None, run: RunRecord | None, what: str, artifact: str | None) -> RunRecord:
    if run_id is None:
        raise Unproved(f"{what}, and there is none" if " " in what else f"{what} is not set")
    if run is None:
        raise Unproved(f"run {run_id} has not been read from MLflow")
    if artifact is not None and artifact not in run.artifacts:
        raise Unproved(f"run {run_id} has no artifact {artifact}")
    return run


def _metric(run: RunRecord, name: str) -> float:
    value = run.metrics.get(name)
    if value is None or not math.isfinite(value):
        raise Unproved(
            f"run {run.run_id} has no metric {name}" + ("" if value is None else f" that is finite: {value}")
        )
    return value


def _proportion(run: RunRecord, name: str) -> float:
    value = _metric(run, name)
    if not 0 <= value <= 1:
        raise Unproved(f"metric {name} of run {run.run_id} is {value:g}: expected a share between 0 and 1")
    return value


def _count(run: RunRecord, name: str) -> float:
    value = _metric(run, name)
    if value < 1:
        raise Unproved(f"metric {name} of run {run.run_id} is {value:g}: expected the number of samples")
    return value
