"""CEL rules that the models carry into the CRDs: what a value may be, told by the API server itself."""

from __future__ import annotations

from typing import Any

from ops_commander.api.fields import are_durations


def rule(expression: str, message: str, *values: str, at: str = "") -> dict[str, str]:
    """A CEL rule of the CRD, reported for the field `at` below its place.

    Each %s of the message stands for the value of a CEL expression. They go through `format` because the API server
    takes a string that was joined or converted for one of unbounded cost, and refuses the whole CRD.
    """
    said = {"messageExpression": f"'{message}'.format([{', '.join(values)}])"} if values else {"message": message}
    return {"rule": expression, **said, **({"fieldPath": at} if at else {})}


def exactly_one(what: str, *names: str) -> dict[str, str]:
    """The rule that one of these fields is set; the message names those that are."""
    are_set = ", ".join(f"has(self.{name})" for name in names)
    pairs = ", ".join(f"[has(self.{name}), '{name}']" for name in names)
    return rule(
        f"[{are_set}].filter(set, set).size() == 1",
        f"{what} has exactly one of {', '.join(names[:-1])} and {names[-1]}, but this one has %s",
        f"[{pairs}].filter(pair, pair[0]).map(pair, pair[1])",
    )


def rules(*items: dict[str, str]) -> dict[str, Any]:
    return {"x-kubernetes-validations": list(items)}


def not_longer(low: str, high: str) -> dict[str, Any]:
    """The rule that one duration fits into another. Both have defaults, so both are there."""
    return rules(
        rule(
            f"!({are_durations(f'self.{low}', f'self.{high}')}) || duration(self.{low}) <= duration(self.{high})",
            f"{low} %s is longer than {high} %s",
            f"self.{low}",
            f"self.{high}",
        )
    )
