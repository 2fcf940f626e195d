"""Two schemas to the changes between them, worst first; and the drift that they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import ROUND_HALF_UP, Decimal, localcontext
from difflib import SequenceMatcher
from typing import Final

from ops_commander.integration.schema.compare import Pair, compare, serialization_kind
from ops_commander.integration.schema.formats import BY_NAME
from ops_commander.integration.schema.model import (
    ApiSchema,
    Direction,
    Field,
    Json,
    SchemaError,
    Side,
    canonical,
    describe,
)
from ops_commander.integration.schema.protobuf_types import OPERATION
from ops_commander.integration.schema.rules import Change, Kind, change

_MOST_PAIRS: Final = 2_500
_ALIKE: Final = 0.6
_PLACES: Final = Decimal("0.0001")


def diff(baseline: ApiSchema, candidate: ApiSchema) -> tuple[Change, ...]:
    """What the candidate changes, worst first and then by name. Raises SchemaError for formats that have nothing
    to compare."""
    signature_only = _signature_only(baseline, candidate)
    found = [
        each
        for direction in Direction
        for each in _sides(baseline.side(direction), candidate.side(direction), direction, signature_only)
    ]
    return tuple(sorted(found, key=_rank))


def _rank(each: Change) -> tuple[float, str, str, str, str, str]:
    return -each.severity, each.direction, each.path, each.kind, canonical(each.before), canonical(each.after)


def _signature_only(baseline: ApiSchema, candidate: ApiSchema) -> bool:
    if baseline.format == candidate.format:
        return False
    if baseline.format in BY_NAME and candidate.format in BY_NAME:
        return True
    raise SchemaError(
        f"{candidate.format} against a baseline of {baseline.format}",
        f"the same format, or two of {', '.join(BY_NAME)}",
    )


def notes(baseline: ApiSchema, candidate: ApiSchema) -> tuple[str, ...]:
    """What a reader of the diff must know besides the changes."""
    found = []
    if _signature_only(baseline, candidate):
        found.append("the formats differ: only names, types, shapes and order were compared")
    for name, schema in (("baseline", baseline), ("candidate", candidate)):
        found += [f"{name}: {note}" for note in schema.notes]
        unsafe = {each.serialization for each in (schema.request, schema.response)}
        if "pickle" in unsafe | {each.serialization for each in (*schema.request.fields, *schema.response.fields)}:
            found.append(f"{name}: pickle is unsafe: whoever reads one runs the code in it")
    return tuple(found)


# --- one direction -------------------------------------------------------------------------------


def _sides(before: Side, after: Side, direction: Direction, signature_only: bool) -> Iterator[Change]:
    old = {each.path: each for each in before.fields}
    new = {each.path: each for each in after.fields}
    if not signature_only:
        yield from _serialization(before.serialization, after.serialization, direction)
    if before.ordered and after.ordered:
        yield from _order(_outermost(before), _outermost(after), direction)
    written = (before.serialization, after.serialization)
    broken: set[str] = set()
    for path, item in old.items():
        if item.parent in broken:
            broken.add(path)
        elif path in new:
            changes = compare(Pair(item, new[path], direction, signature_only, written))
            if any(each.kind is Kind.DTYPE_INCOMPATIBLE for each in changes):
                broken.add(path)
            yield from changes
    gone = _topmost(old, new, broken)
    come = _topmost(new, old, broken)
    hints = _renamed(gone, come)
    for item in gone:
        yield from _gone(item, new, direction, hints.get(item.path))
    for item in come:
        yield from _come(item, direction, hints.get(item.path))


def _topmost(fields: Mapping[str, Field], others: Mapping[str, Field], broken: set[str]) -> list[Field]:
    """Fields that the others lack, though their parent is there; what is below them goes without saying."""
    return [
        each
        for path, each in fields.items()
        if path not in others and (each.parent is None or (each.parent in others and each.parent not in broken))
    ]


def _gone(item: Field, new: Mapping[str, Field], direction: Direction, hint: str | None) -> Iterator[Change]:
    is_request = direction is Direction.REQUEST
    parent = new.get(item.parent or "")
    if item.types == (OPERATION,):
        kind = Kind.OPERATION_REMOVED
        if not is_request:  # it has been told with the requests
            return
    elif item.branch:
        kind = Kind.ALTERNATIVE_REMOVED
    elif is_request and parent is not None and parent.closed:
        kind = Kind.FIELD_REFUSED
    else:
        kind = Kind.FIELD_REMOVED
    yield change(direction, kind, item.path, describe(item), None, hint=hint)


def _come(item: Field, direction: Direction, hint: str | None) -> Iterator[Change]:
    is_request = direction is Direction.REQUEST
    if item.types == (OPERATION,):
        kind = Kind.OPERATION_ADDED
        if not is_request:
            return
    elif item.branch:
        kind = Kind.ALTERNATIVE_ADDED
    elif is_request and item.required:
        kind = Kind.REQUIRED_FIELD_ADDED
    else:
        kind = Kind.FIELD_ADDED
    yield change(direction, kind, item.path, None, describe(item), hint=hint)


def _serialization(before: str | None, after: str | None, direction: Direction) -> Iterator[Change]:
    if before != after and before is not None and after is not None:
        yield change(direction, serialization_kind(after), "", before, after)


def _outermost(side: Side) -> list[str]:
    """What has a position: fields inside of others go by their names."""
    return [each.path for each in side.fields if each.parent is None]


def _order(old: list[str], new: list[str], direction: Direction) -> Iterator[Change]:
    """Whoever reads by position still finds what remains of the old ones first, in the old order."""
    there = set(new)
    kept: list[Json] = [name for name in old if name in there]
    first: list[Json] = [*new[: len(kept)]]
    if kept != first:
        yield change(direction, Kind.ORDER_CHANGED, "", kept, first)


# --- renames -------------------------------------------------------------------------------------


def _renamed(gone: list[Field], come: list[Field]) -> dict[str, str]:
    """For what was removed, what it is perhaps called now, and the other way round."""
    hints: dict[str, str] = {}
    added: dict[str | None, list[Field]] = {}
    for item in come:
        added.setdefault(item.parent, []).append(item)
    removed: dict[str | None, list[Field]] = {}
    for item in gone:
        removed.setdefault(item.parent, []).append(item)
    for parent, items in removed.items():
        fresh = added.get(parent, [])
        if len(items) * len(fresh) <= _MOST_PAIRS:
            hints |= _paired(items, fresh)
    return hints


def _paired(gone: list[Field], come: list[Field]) -> dict[str, str]:
    hints: dict[str, str] = {}
    alone = len(gone) == len(come) == 1
    scored = [(_likeness(one, other, alone), one.path, other.path) for one in gone for other in come]
    for likeness, old, new in sorted(scored, key=lambda each: (-each[0], each[1], each[2])):
        if likeness >= _ALIKE and old not in hints and new not in hints:
            hints[old] = f"perhaps renamed to {new}"
            hints[new] = f"perhaps renamed from {old}"
    return hints


def _likeness(one: Field, other: Field, alone: bool) -> float:
    if one.number is not None and one.number == other.number and one.types == other.types:
        return 1.0
    if (one.types, one.shape, one.branch) != (other.types, other.shape, other.branch):
        return 0.0
    names = (one.path.rpartition("/")[2][:100].lower(), other.path.rpartition("/")[2][:100].lower())
    return max(SequenceMatcher(None, *names).ratio(), _ALIKE if alone else 0.0)


# --- drift ---------------------------------------------------------------------------------------


def schema_drift(changes: Iterable[Change], usage: Mapping[str, float] | None = None) -> float:
    """S: 1 − Π(1 − severity · usage), to 4 places. `usage` by path says which share of readers a change meets: 1
    unless there is evidence for less. Raises ValueError outside of 0 to 1."""
    weights = usage or {}
    left = Decimal(1)
    with localcontext() as context:
        context.prec = 50
        for each in changes:
            weight = weights.get(each.path, 1.0)
            if not 0 <= weight <= 1:
                raise ValueError(f"usage of {each.path!r} is {weight}: expected 0 to 1")
            left *= 1 - Decimal(str(each.severity)) * Decimal(str(weight))
        return float((1 - left).quantize(_PLACES, rounding=ROUND_HALF_UP))
