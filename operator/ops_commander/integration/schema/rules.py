"""What each kind of change weighs, and whom it breaks: requests must still be taken, responses still be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ops_commander.integration.schema.model import Direction, Json, canonical


class Kind(StrEnum):
    """Stable names of changes."""

    FIELD_REMOVED = "field-removed"
    FIELD_REFUSED = "field-refused"
    FIELD_ADDED = "field-added"
    REQUIRED_FIELD_ADDED = "required-field-added"
    BECAME_REQUIRED = "became-required"
    BECAME_OPTIONAL = "became-optional"
    DTYPE_INCOMPATIBLE = "dtype-incompatible"
    DTYPE_NARROWED = "dtype-narrowed"
    DTYPE_WIDENED = "dtype-widened"
    DTYPE_ADDED = "dtype-added"
    DTYPE_REMOVED = "dtype-removed"
    RANK_CHANGED = "rank-changed"
    DIMENSION_CHANGED = "dimension-changed"
    DIMENSION_FIXED = "dimension-fixed"
    DIMENSION_FREED = "dimension-freed"
    ORDER_CHANGED = "order-changed"
    ENCODING_CHANGED = "encoding-changed"
    SERIALIZATION_CHANGED = "serialization-changed"
    SERIALIZATION_UNSAFE = "serialization-unsafe"
    NUMBER_CHANGED = "field-number-changed"
    NULLABLE_ADDED = "nullable-added"
    NULLABLE_REMOVED = "nullable-removed"
    ENUM_VALUE_ADDED = "enum-value-added"
    ENUM_VALUE_REMOVED = "enum-value-removed"
    ENUM_INTRODUCED = "enum-introduced"
    ENUM_DROPPED = "enum-dropped"
    CONSTRAINT_TIGHTENED = "constraint-tightened"
    CONSTRAINT_LOOSENED = "constraint-loosened"
    CONSTRAINT_CHANGED = "constraint-changed"
    OBJECT_CLOSED = "object-closed"
    OBJECT_OPENED = "object-opened"
    DEFAULT_CHANGED = "default-changed"
    ALTERNATIVE_ADDED = "alternative-added"
    ALTERNATIVE_REMOVED = "alternative-removed"
    OPERATION_ADDED = "operation-added"
    OPERATION_REMOVED = "operation-removed"
    DESCRIPTION_CHANGED = "description-changed"


@dataclass(frozen=True, slots=True)
class Rule:
    """Severity, and the sentence that says why; `{}` stands for before, then after."""

    severity: float
    why: str


_REQUEST: Final[Mapping[Kind, Rule]] = {
    Kind.FIELD_REMOVED: Rule(0.3, "The server no longer reads it: what callers send has no effect, and none is told."),
    Kind.FIELD_REFUSED: Rule(1, "Callers still send it, and the server refuses fields that it does not know."),
    Kind.FIELD_ADDED: Rule(0, "Callers need not send it."),
    Kind.REQUIRED_FIELD_ADDED: Rule(1, "Callers do not send it, and requests without it are refused."),
    Kind.BECAME_REQUIRED: Rule(1, "Callers that leave it out are refused."),
    Kind.BECAME_OPTIONAL: Rule(0, "Callers that send it may go on."),
    Kind.DTYPE_INCOMPATIBLE: Rule(1, "Callers send {}, and the server takes {}."),
    Kind.DTYPE_NARROWED: Rule(1, "Callers send values of {} that {} does not hold."),
    Kind.DTYPE_WIDENED: Rule(0, "Values of {} are also values of {}."),
    Kind.DTYPE_ADDED: Rule(0, "The server takes all that it took, and more."),
    Kind.DTYPE_REMOVED: Rule(1, "Callers send {}, of which the server takes only {}."),
    Kind.RANK_CHANGED: Rule(1, "Callers send tensors of shape {}, and the server takes {}."),
    Kind.DIMENSION_CHANGED: Rule(1, "Callers send tensors of shape {}, and the server takes {}."),
    Kind.DIMENSION_FIXED: Rule(1, "Callers that send another length than {1} has are refused."),
    Kind.DIMENSION_FREED: Rule(0, "The server takes all lengths that it took, and more."),
    Kind.ORDER_CHANGED: Rule(0, "Callers name what they send; only those that go by position are mistaken."),
    Kind.ENCODING_CHANGED: Rule(1, "Callers write {}, and the server reads {}."),
    Kind.SERIALIZATION_CHANGED: Rule(1, "Callers write {}, and the server reads {}."),
    Kind.SERIALIZATION_UNSAFE: Rule(1, "A server that reads a pickle runs whatever code the caller put in it."),
    Kind.NUMBER_CHANGED: Rule(1, "Callers send it by number {}, which now means something else or nothing."),
    Kind.NULLABLE_ADDED: Rule(0, "Callers need not send null."),
    Kind.NULLABLE_REMOVED: Rule(1, "Callers that send null are refused."),
    Kind.ENUM_VALUE_ADDED: Rule(0, "The server takes all values that it took, and more."),
    Kind.ENUM_VALUE_REMOVED: Rule(1, "Callers that send a value which is gone are refused."),
    Kind.ENUM_INTRODUCED: Rule(1, "Callers that send any other value are refused."),
    Kind.ENUM_DROPPED: Rule(0, "The server takes all values that it took, and more."),
    Kind.CONSTRAINT_TIGHTENED: Rule(1, "Callers send values that were taken and are now refused."),
    Kind.CONSTRAINT_LOOSENED: Rule(0, "The server takes all values that it took, and more."),
    Kind.CONSTRAINT_CHANGED: Rule(
        1, "Values that were taken may now be refused: which of the two is tighter is not known."
    ),
    Kind.OBJECT_CLOSED: Rule(1, "Callers that send further fields are refused."),
    Kind.OBJECT_OPENED: Rule(0, "The server takes all fields that it took, and more."),
    Kind.DEFAULT_CHANGED: Rule(0.3, "Callers that leave it out get another answer than before."),
    Kind.ALTERNATIVE_ADDED: Rule(0, "Callers may go on with the forms that they know."),
    Kind.ALTERNATIVE_REMOVED: Rule(1, "Callers that send this form are refused."),
    Kind.OPERATION_ADDED: Rule(0, "Nobody calls it yet."),
    Kind.OPERATION_REMOVED: Rule(1, "Callers of it find nothing."),
    Kind.DESCRIPTION_CHANGED: Rule(0, "Only the words are others; look whether the meaning is too."),
}

_RESPONSE: Final[Mapping[Kind, Rule]] = {
    Kind.FIELD_REMOVED: Rule(1, "Clients that read it find nothing."),
    Kind.FIELD_ADDED: Rule(0.05, "Clients do not know it; the few that refuse unknown fields fail."),
    Kind.BECAME_REQUIRED: Rule(0, "Clients that can do without it may go on."),
    Kind.BECAME_OPTIONAL: Rule(1, "Clients that rely on it get responses without it."),
    Kind.DTYPE_INCOMPATIBLE: Rule(1, "Clients read {}, and get {}."),
    Kind.DTYPE_NARROWED: Rule(0.7, "Clients that count on the digits or range of {} silently get those of {}."),
    Kind.DTYPE_WIDENED: Rule(0.2, "Clients that keep it as {} cut or overflow what does not fit."),
    Kind.DTYPE_ADDED: Rule(1, "Clients read {}, and may get something else: {}."),
    Kind.DTYPE_REMOVED: Rule(0, "Clients get nothing that they did not know."),
    Kind.RANK_CHANGED: Rule(1, "Clients read tensors of shape {}, and get {}."),
    Kind.DIMENSION_CHANGED: Rule(1, "Clients read tensors of shape {}, and get {}."),
    Kind.DIMENSION_FIXED: Rule(0.5, "Clients that count on an answer as long as their request get one of shape {1}."),
    Kind.DIMENSION_FREED: Rule(0.3, "Clients that made room for shape {} may get another length."),
    Kind.ORDER_CHANGED: Rule(0.3, "Clients that read by position take one output for another."),
    Kind.ENCODING_CHANGED: Rule(1, "Clients read {}, and get {}."),
    Kind.SERIALIZATION_CHANGED: Rule(1, "Clients read {}, and get {}."),
    Kind.SERIALIZATION_UNSAFE: Rule(1, "A client that reads a pickle runs whatever code the server put in it."),
    Kind.NUMBER_CHANGED: Rule(1, "Clients read number {}, which now means something else or nothing."),
    Kind.NULLABLE_ADDED: Rule(0.7, "Clients that expect a value may get null."),
    Kind.NULLABLE_REMOVED: Rule(0, "Clients that can do with null may go on."),
    Kind.ENUM_VALUE_ADDED: Rule(0.5, "Clients may get a value that they have no case for."),
    Kind.ENUM_VALUE_REMOVED: Rule(0, "Clients get no value that they did not know."),
    Kind.ENUM_INTRODUCED: Rule(0, "Clients get no value that they did not know."),
    Kind.ENUM_DROPPED: Rule(0.5, "Clients may get a value that they have no case for."),
    Kind.CONSTRAINT_TIGHTENED: Rule(0, "Clients get no value that they did not know."),
    Kind.CONSTRAINT_LOOSENED: Rule(0.5, "Clients may get values outside of the limits that they count on."),
    Kind.CONSTRAINT_CHANGED: Rule(
        0.5, "Clients may get values that were ruled out: which of the two is tighter is not known."
    ),
    Kind.OBJECT_CLOSED: Rule(0, "Clients get no field that they did not know."),
    Kind.OBJECT_OPENED: Rule(0.05, "Clients may get fields that they do not know; the few that refuse those fail."),
    Kind.DEFAULT_CHANGED: Rule(0, "A default in a response is a remark."),
    Kind.ALTERNATIVE_ADDED: Rule(1, "Clients may get a form that they have no case for."),
    Kind.ALTERNATIVE_REMOVED: Rule(0, "Clients get no form that they did not know."),
    Kind.DESCRIPTION_CHANGED: Rule(0, "Only the words are others; look whether the meaning is too."),
}

RULES: Final[Mapping[Direction, Mapping[Kind, Rule]]] = {Direction.REQUEST: _REQUEST, Direction.RESPONSE: _RESPONSE}

WIRE_DEFAULT: Final = Rule(0.3, "Clients fill in the default that they were built with where the server left it out.")
"""Of a response in protobuf, where the reader puts the default in."""

_MOST_CHARACTERS: Final = 200
_MOST_ITEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One difference, seen from one direction."""

    path: str
    kind: Kind
    direction: Direction
    severity: float
    before: Json
    after: Json
    why: str
    hint: str | None = None


def change(
    direction: Direction,
    kind: Kind,
    path: str,
    before: Json,
    after: Json,
    *,
    hint: str | None = None,
    rule: Rule | None = None,
) -> Change:
    """A change as its rule weighs it."""
    held = rule or RULES[direction][kind]
    old, new = short(before), short(after)
    why = held.why.format(_said(old), _said(new))
    return Change(path, kind, direction, float(held.severity), old, new, why, hint)


def _said(value: Json) -> str:
    if value is None:
        return "nothing in particular"
    return value if isinstance(value, str) else canonical(value)


def short(value: Json) -> Json:
    """Enough of a value to know it by."""
    if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
        return f"{value[:_MOST_CHARACTERS]}…"
    if isinstance(value, list) and len(value) > _MOST_ITEMS:
        return [*map(short, value[:_MOST_ITEMS]), f"… and {len(value) - _MOST_ITEMS} more"]
    return [short(item) for item in value] if isinstance(value, list) else value
