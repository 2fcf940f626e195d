"""Whether each step can be proved before its deadline, worked out from the stable version's traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ops_commander.api.policy import Compare, Objective, RolloutPolicySpec
from ops_commander.api.v1alpha1 import BaselineStatus, FeasibilityStatus, Step, StepKind
from ops_commander.core import objectives
from ops_commander.core.measures import ALPHA, within
from ops_commander.core.statistics import proportion
from ops_commander.core.statistics.rate import RateEvidence
from ops_commander.core.tally import rate_cap

MOST_WINDOWS = 500

HORIZON = 2.0
"""Added to ln(1/α) in t ≈ φ·(ln(1/α) + 2) / KL: errs on the long side (measured against simulations)."""


@dataclass(frozen=True, slots=True)
class Needed:
    """Requests of the candidate until a pass; infinite where it never comes."""

    fastest: float
    expected: float


def outlook(
    policy: RolloutPolicySpec, steps: list[Step], baselines: Mapping[str, BaselineStatus]
) -> list[FeasibilityStatus]:
    """A row for each required objective in each step that has a baseline to work with."""
    rows = []
    for step in steps:
        for objective in policy.objectives:
            baseline = baselines.get(objective.name)
            if objective.is_required and objective.queries and step.kind in objective.steps and baseline:
                rows.append(_row(policy, step, objective, baseline))
    return rows


def _row(policy: RolloutPolicySpec, step: Step, objective: Objective, baseline: BaselineStatus) -> FeasibilityStatus:
    share = (step.mirror_percent or step.weight) / 100
    candidate_rate = baseline.rate * share
    warm_up, floor = policy.warm_up.total_seconds(), step.min_duration.total_seconds()
    fastest, expected = (math.inf, math.inf)
    if not _lacks_stable(objective, step):
        fastest, expected = (warm_up + seconds for seconds in _seconds(objective, baseline, candidate_rate))
    deadline = step.max_duration.total_seconds()
    fastest, expected = max(fastest, floor), max(expected, floor)
    return FeasibilityStatus(
        step=step.label,
        objective=objective.name,
        possible=fastest <= deadline,
        fastest_seconds=objectives.rounded(fastest, 1),
        expected_seconds=objectives.rounded(expected, 1),
        deadline_seconds=deadline,
        advice=None if expected <= deadline else _advice(objective, step, baseline, expected, deadline),
    )


def _lacks_stable(objective: Objective, step: Step) -> bool:
    """Whether there is nothing to compare with: in a full step stable gets no requests."""
    return step.kind is StepKind.FULL and objective.compare is not Compare.ABSOLUTE and objective.pairs is None


def _seconds(objective: Objective, baseline: BaselineStatus, candidate_rate: float) -> tuple[float, float]:
    if candidate_rate <= 0:
        return math.inf, math.inf
    if objective.rate:
        seconds = windows_needed(objective, candidate_rate) * objective.rate.window.total_seconds()
        return seconds, seconds  # no candidate answers more than it is asked
    needed = requests_needed(objective, baseline)
    return needed.fastest / candidate_rate, needed.expected / candidate_rate


def requests_needed(objective: Objective, baseline: BaselineStatus) -> Needed:
    """For a share the exact least number of requests, and the horizon rule for a candidate like the stable version."""
    if objective.quantile and objective.compare is Compare.DIFFERENCE:
        return _for_drift(baseline)
    share = _share_and_bound(objective, baseline)
    if share is None:
        return Needed(float(objective.min_samples or 1), float(objective.min_samples or 1))
    observed, bound = share
    least = proportion.smallest_passing(bound, dispersion=baseline.dispersion)
    fastest = float(max(least, objective.min_samples or 0))
    if observed >= bound:
        return Needed(fastest, math.inf)
    expected = baseline.dispersion * (math.log(1 / ALPHA) + HORIZON) / divergence(observed, bound)
    return Needed(fastest, max(fastest, expected))


def _for_drift(baseline: BaselineStatus) -> Needed:
    """A candidate like the stable version has fewer requests beyond τ + drift than stable has beyond τ."""
    behind, beyond = baseline.share_beyond_edge, baseline.share_beyond_drift
    if not behind or beyond is None:
        return Needed(0.0, 0.0)
    share = beyond / (behind + beyond)
    evidence = math.log(2 / ALPHA) + HORIZON
    events = evidence * baseline.dispersion / divergence(share, 0.5) if share < 0.5 else math.inf
    fastest = evidence / divergence(0.0, 0.5) / behind
    return Needed(fastest, events / (behind + beyond))


def windows_needed(objective: Objective, rate: float) -> float:
    """Windows of one steady rate until it is shown; infinite where it is past the target, or too near to it."""
    cap = rate_cap(objective)
    evidence = RateEvidence.empty(cap)
    for windows in range(1, MOST_WINDOWS + 1):
        evidence = evidence.add(min(rate, cap))
        if within(objective, evidence.interval())[0]:
            return float(windows)
    return math.inf


def _share_and_bound(objective: Objective, baseline: BaselineStatus) -> tuple[float, float] | None:
    """The stable version's share of events, and the bound that the candidate's must be shown to keep."""
    if objective.compare is not Compare.ABSOLUTE or objective.max is None or baseline.value is None:
        return None
    if objective.ratio and 0 < objective.max < 1:
        return baseline.value, objective.max
    if objective.quantile:
        bound = 1 - objective.quantile.q
        return (0.0 if baseline.value < objective.max else bound), bound
    return None


def divergence(p: float, q: float) -> float:
    """Kullback–Leibler divergence of Bernoulli(p) from Bernoulli(q), in nats."""
    first = p * math.log(p / q) if p > 0 else 0.0
    second = (1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0
    return first + second


def _advice(objective: Objective, step: Step, baseline: BaselineStatus, expected: float, deadline: float) -> str:
    """What could decide it: more traffic, a shadow step, or a longer deadline."""
    share = step.mirror_percent or step.weight
    if _lacks_stable(objective, step):
        return "stable gets no requests in a full step: judge it in shadow or canary, or make it a Guard"
    if objective.rate:
        offered = f"the candidate is offered {baseline.rate * share / 100:.3g} of {baseline.rate:.3g} req/s"
        return f"{offered}: another target, or other steps"
    if math.isinf(expected):
        return _out_of_reach(objective, baseline)
    options = [f"maxDuration of {math.ceil(expected / 60)}m"]
    wanted = math.ceil(share * expected / deadline)
    if step.kind is StepKind.CANARY:
        options.append(f"weight {wanted}" if wanted < 100 else "a shadow step")
    elif step.kind is StepKind.SHADOW and wanted <= 100:
        options.append(f"percent {wanted}")
    return "could be decided with " + " or ".join(options)


def _out_of_reach(objective: Objective, baseline: BaselineStatus) -> str:
    if objective.compare is Compare.DIFFERENCE and objective.quantile:
        near = f"near {objectives.number(baseline.edge)}{objective.unit}"
        return f"stable's histogram cannot tell a drift of {objectives.number(objective.max)}{objective.unit} {near}"
    shown = f"the stable version has {objectives.number(baseline.value)}{objective.unit}"
    return f"{shown}, at or past the target: no candidate like it can pass; raise the target"
