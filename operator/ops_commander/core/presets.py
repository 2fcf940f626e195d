"""Policies with every preset replaced by the measure that it stands for."""

from __future__ import annotations

from typing import Any

from ops_commander.api.policy import Objective, Preset, Quantile, Rate, Ratio, RolloutPolicySpec
from ops_commander.api.presets import PRESETS, Latency, Share
from ops_commander.core.promql import with_matchers


def resolved(policy: RolloutPolicySpec) -> RolloutPolicySpec:
    """The policy in terms of queries alone."""
    return policy.model_copy(update={"objectives": [_resolved(objective) for objective in policy.objectives]})


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
    return {"rate": Rate(requests=with_matchers(known.requests, labels))}
