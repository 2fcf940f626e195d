"""The policy that a rollout is judged by: read and resolved once for all rollouts that share it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from pydantic import ValidationError

from ops_commander.adapters.surroundings import Surroundings
from ops_commander.api.policy import DEFAULT_POLICY, RolloutPolicy, RolloutPolicySpec
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.core import acceptance, presets, promql

Resolved = tuple[RolloutPolicySpec | None, str | None]
"""The policy, or what is wrong with it."""

MOST_REMEMBERED = 1000


@dataclass
class Policies:
    """Remembers the latest version of each."""

    _resolved: dict[tuple[str, str], tuple[str, promql.PodLabels, Resolved]] = field(default_factory=dict)

    def of(self, rollout: ModelRollout, around: Surroundings, labels: promql.PodLabels) -> Resolved:
        reference = rollout.spec.policy_ref
        if reference is None:
            return _default(), None
        if around.policy is None:
            expected = "expected a RolloutPolicy of that name in this namespace"
            return None, f"spec.policyRef.name is {reference.name!r}: {expected}"
        metadata = around.policy["metadata"]
        key, version = (metadata["namespace"], metadata["name"]), metadata["resourceVersion"]
        known = self._resolved.get(key)
        if known is None or known[:2] != (version, labels):
            if len(self._resolved) >= MOST_REMEMBERED:
                self._resolved.clear()
            known = self._resolved[key] = (version, labels, _resolve(reference.name, around.policy, labels))
        return known[2]


@cache
def _default() -> RolloutPolicySpec:
    return presets.resolved(DEFAULT_POLICY)


def _resolve(name: str, body: object, labels: promql.PodLabels) -> Resolved:
    try:
        policy = RolloutPolicy.model_validate(body).spec
    except ValidationError as error:
        return None, f"RolloutPolicy {name}: {describe(error)}"
    problem = acceptance.query_problem(policy, labels)
    return (None, f"RolloutPolicy {name}: {problem}") if problem else (presets.resolved(policy), None)


def describe(error: ValidationError) -> str:
    """Field, value and expectation of each thing that is wrong."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])} is {item.get('input')!r:.80}: {item['msg']}"
        for item in error.errors(include_url=False)
    )
