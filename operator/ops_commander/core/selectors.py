"""Label selectors as Kubernetes has them in `kubectl -l`: read, and held against labels.

Source: kubernetes.io/docs/concepts/overview/working-with-objects/labels, and apimachinery/pkg/labels. Refused
is what the API server takes and is not documented there: `<`, `>`, and an empty list of values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"
_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/){_DOMAIN}/)?{_NAME}")
_VALUE = re.compile(rf"(?:{_NAME})?")
_BETWEEN = re.compile(r",(?![^(]*\))")
"""Commas that are not inside of parentheses."""
_EQUALITY = re.compile(r"(?P<key>[^=!\s]+)\s*(?P<operator>==?|!=)\s*(?P<value>[^=!\s]*)")
_SET = re.compile(r"(?P<key>[^=!\s]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]+)\)")
_PRESENCE = re.compile(r"(?P<operator>!?)\s*(?P<key>[^=!\s]+)")

EXPECTED = "expected a label selector such as 'shard=a,!legacy' or 'shard notin (a,b)'"


class Operator(StrEnum):
    """What a label must be."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    NOT_EXISTS = "!"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """An absent label has no value: `notin` and `!=` hold for it, `in` and `=` do not."""
        if self.operator is Operator.EXISTS:
            return self.key in labels
        if self.operator is Operator.NOT_EXISTS:
            return self.key not in labels
        is_in = self.key in labels and labels[self.key] in self.values
        return is_in is (self.operator is Operator.IN)


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its requirements must hold; without any it matches everything."""

    text: str = ""
    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        return all(requirement.matches(labels or {}) for requirement in self.requirements)


EVERYTHING = Selector()


def parse(text: str) -> Selector:
    """Raises ValueError that names the part, what is wrong with it and what was expected."""
    text = text.strip()
    return Selector(text, tuple(_requirement(part.strip()) for part in _BETWEEN.split(text))) if text else EVERYTHING


def _requirement(part: str) -> Requirement:
    if found := _SET.fullmatch(part):
        operator, values = Operator(found["operator"]), [value.strip() for value in found["values"].split(",")]
    elif found := _EQUALITY.fullmatch(part):
        operator, values = Operator.NOT_IN if found["operator"] == "!=" else Operator.IN, [found["value"]]
    elif found := _PRESENCE.fullmatch(part):
        operator, values = Operator.NOT_EXISTS if found["operator"] else Operator.EXISTS, []
    else:
        raise ValueError(f"{part!r} is no requirement on a label: {EXPECTED}")
    if not _KEY.fullmatch(found["key"]):
        raise ValueError(f"{found['key']!r} is no key of a label: {EXPECTED}")
    for value in values:
        if not _VALUE.fullmatch(value):
            raise ValueError(f"{value!r} is no value of a label: {EXPECTED}")
    return Requirement(found["key"], operator, frozenset(values))
