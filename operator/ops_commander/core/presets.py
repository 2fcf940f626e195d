"""Policies with every preset replaced by the measure that it stands for."""

from __future__ import annotations

from typing import Any

from ops_commander.api.policy import Objective, Preset, Quantile, Rate, Ratio, RolloutPolicySpec, Score
from ops_commander.api.presets import COMPARER_METRICS, PRESETS, Latency, MeanScore, Share
from ops_commander.core.promql import with_matchers


def resolved(policy: RolloutPolicySpec) -> RolloutPolicySpec:
    """The policy in terms of queries alone."""
    return policy.model_copy(update={"objectives": [_resolved(objective) for objective in policy.objectives]})


def asks_comparer(objective: Objective) -> bool:
    """Whether its counters are those of the shadow comparer, which runs only while a candidate is compared.

    The stable version has none before a deployment, or old ones of when it was the candidate itself.
    """
    return any(COMPARER_METRICS in query for query in objective.queries)


def _resolved(objective: Objective) -> Objective:
    if objective.preset is None:
        return objective
    return objective.model_copy(update={"preset": None, **measure_of(objective.preset)})


def measure_of(preset: Preset) -> dict[str, Any]:
    """The field of an Objective that a preset stands for, with the queries for its labels."""
    known, labels = PRESETS[preset.name], preset.labels
    if isinstance(known, Share):
        return {"ratio": Ratio(bad=with_matchers(known.bad, labels), total=with_matchers(known.total, labels))}
    if isinstance(known, Latency):
        return {"quantile": Quantile(buckets=with_matchers(known.buckets, labels), scale=known.seconds)}
    if isinstance(known, MeanScore):
        return {"score": Score(sum=with_matchers(known.sum, labels), count=with_matchers(known.count, labels))}
    return {"rate": Rate(requests=with_matchers(known.requests, labels))}
