"""One field before and after: all that has changed in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ops_commander.integration.schema.dtypes import Relation, is_whole, relate
from ops_commander.integration.schema.encodings import is_timestamp
from ops_commander.integration.schema.keywords import size
from ops_commander.integration.schema.model import DYNAMIC, Direction, Field, Json, Shape, Typing, plain
from ops_commander.integration.schema.rules import WIRE_DEFAULT, Change, Kind, change

Difference = tuple[Kind, Json, Json]

_LOWER_BOUNDS: Final = ("minLength", "minItems", "minProperties")
_UPPER_BOUNDS: Final = ("maxLength", "maxItems", "maxProperties")
_READABLE: Final = {"lower": "minimum", "upper": "maximum"}
_EVERYTHING: Final = "ANY"


@dataclass(frozen=True, slots=True)
class Pair:
    """The same field in both versions."""

    before: Field
    after: Field
    direction: Direction
    signature_only: bool = False
    """Names, types and shapes alone: the two formats say nothing comparable on the rest."""
    serializations: tuple[str | None, str | None] = (None, None)
    """Of the whole message, before and after: what is told there is not told again for each field."""

    @property
    def is_request(self) -> bool:
        return self.direction is Direction.REQUEST


def compare(pair: Pair) -> list[Change]:
    """Changes of a field that is there in both versions."""
    found = list(_types(pair))
    incompatible = any(kind is Kind.DTYPE_INCOMPATIBLE for kind, _, _ in found)
    checks: list[Callable[[Pair], Iterator[Difference]]] = [] if pair.signature_only else [_presence, _number]
    checks += [] if incompatible else [_shape]
    checks += [] if incompatible or pair.signature_only else [_encoding, _enum, _constraints, _closed]
    for check in checks:
        found += check(pair)
    changes = [_change(pair, *difference) for difference in found]
    if not pair.signature_only:
        changes += _default(pair)
        if pair.before.doc != pair.after.doc:
            changes.append(_change(pair, Kind.DESCRIPTION_CHANGED, pair.before.doc, pair.after.doc))
    return changes


def _change(pair: Pair, kind: Kind, before: Json, after: Json) -> Change:
    return change(pair.direction, kind, pair.after.path, before, after)


# --- types ---------------------------------------------------------------------------------------

_ORDER: Final = (Kind.DTYPE_WIDENED, Kind.DTYPE_NARROWED, Kind.ENCODING_CHANGED, Kind.DTYPE_INCOMPATIBLE)


def _types(pair: Pair) -> Iterator[Difference]:
    before, after = set(pair.before.types), set(pair.after.types)
    if pair.signature_only:
        # What one format calls bytes is text in another.
        before, after = ({"BYTES" if name == "STRING" else name for name in names} for names in (before, after))
    if before == after:
        return
    old, new = ("|".join(sorted(names)) or _EVERYTHING for names in (before, after))
    if not before or not after:
        yield (Kind.DTYPE_REMOVED if not before else Kind.DTYPE_ADDED), old, new
    else:
        yield _worst(pair, before, after), old, new


def _worst(pair: Pair, before: set[str], after: set[str]) -> Kind:
    """Each type that callers send must be taken; each that clients get must be known."""
    lone, others = (before - after, after) if pair.is_request else (after - before, before)
    if not lone:
        return Kind.DTYPE_ADDED if pair.is_request else Kind.DTYPE_REMOVED
    kinds = [_best(pair, name, others) for name in lone]
    worst = max(kinds, key=_ORDER.index)
    if worst is Kind.DTYPE_INCOMPATIBLE and before & after:
        return Kind.DTYPE_REMOVED if pair.is_request else Kind.DTYPE_ADDED
    return worst


def _best(pair: Pair, name: str, others: set[str]) -> Kind:
    if pair.is_request:
        kinds = (_taken(name, other, pair.after.typing) for other in others)
    else:
        kinds = (_read(other, name, pair.after.typing) for other in others)
    return min(kinds, key=_ORDER.index)


def _taken(sent: str, wanted: str, typing: Typing) -> Kind:
    relation = relate(sent, wanted)
    if {sent, wanted} == {"STRING", "BYTES"}:
        return Kind.ENCODING_CHANGED
    if relation is Relation.OTHER or not _is_readable(sent, relation, typing):
        return Kind.DTYPE_INCOMPATIBLE
    if relation in (Relation.WIDER, Relation.TO_FLOAT):
        return Kind.DTYPE_INCOMPATIBLE if typing is Typing.EXACT else Kind.DTYPE_WIDENED
    return Kind.DTYPE_NARROWED


def _read(known: str, got: str, typing: Typing) -> Kind:
    relation = relate(known, got)
    if {known, got} == {"STRING", "BYTES"}:
        return Kind.ENCODING_CHANGED
    if relation in (Relation.OTHER, Relation.TO_FLOAT) or not _is_readable(known, relation, typing):
        return Kind.DTYPE_INCOMPATIBLE
    if relation is Relation.TO_WHOLE:
        return Kind.DTYPE_NARROWED if typing is Typing.VALUE else Kind.DTYPE_INCOMPATIBLE
    return Kind.DTYPE_WIDENED if relation is Relation.WIDER else Kind.DTYPE_NARROWED


def _is_readable(before: str, relation: Relation, typing: Typing) -> bool:
    """On protobuf's wire whole numbers of any width are alike, and floats are not."""
    return typing is not Typing.WIRE or (is_whole(before) and relation in (Relation.WIDER, Relation.NARROWER))


# --- shape ---------------------------------------------------------------------------------------


def _shape(pair: Pair) -> Iterator[Difference]:
    before, after = pair.before.shape, pair.after.shape
    if before == after or (pair.signature_only and (before is None or after is None)):
        return
    old, new = _listed(before), _listed(after)
    if before is None or after is None:
        yield (Kind.DIMENSION_FIXED if before is None else Kind.DIMENSION_FREED), old, new
    elif len(before) != len(after):
        yield Kind.RANK_CHANGED, old, new
    else:
        kinds = {_length(one, other) for one, other in zip(before, after, strict=True) if one != other}
        for kind in sorted(kinds):
            yield kind, old, new


def _listed(shape: Shape | None) -> Json:
    return "any shape" if shape is None else list(shape)


def _length(before: int, after: int) -> Kind:
    if before == DYNAMIC:
        return Kind.DIMENSION_FIXED
    return Kind.DIMENSION_FREED if after == DYNAMIC else Kind.DIMENSION_CHANGED


# --- whether, how and what -----------------------------------------------------------------------


def _presence(pair: Pair) -> Iterator[Difference]:
    before, after = pair.before, pair.after
    if before.required != after.required:
        kind = Kind.BECAME_REQUIRED if after.required else Kind.BECAME_OPTIONAL
        yield kind, _need(before), _need(after)
    if before.nullable != after.nullable and _EVERYTHING not in (_known(before), _known(after)):
        yield (Kind.NULLABLE_ADDED if after.nullable else Kind.NULLABLE_REMOVED), before.nullable, after.nullable


def _need(item: Field) -> str:
    return "required" if item.required else "optional"


def _known(item: Field) -> str:
    """A value that may be anything may be null, whether that is said or not."""
    return "|".join(item.types) or _EVERYTHING


def _number(pair: Pair) -> Iterator[Difference]:
    if pair.before.number != pair.after.number:
        yield Kind.NUMBER_CHANGED, pair.before.number, pair.after.number


def _encoding(pair: Pair) -> Iterator[Difference]:
    before, after = pair.before, pair.after
    if before.encoding != after.encoding and _is_other(pair):
        yield Kind.ENCODING_CHANGED, before.encoding or "plain", after.encoding or "plain"
    elif before.encoding != after.encoding:
        # Text that is now known to be a moment, or no longer is: a matter of which values are allowed.
        kind = Kind.CONSTRAINT_TIGHTENED if before.encoding is None else Kind.CONSTRAINT_LOOSENED
        yield kind, before.encoding, after.encoding
    written = before.serialization or pair.serializations[0], after.serialization or pair.serializations[1]
    if written[0] != written[1] and None not in written and written != pair.serializations:
        yield serialization_kind(written[1]), *written


def _is_other(pair: Pair) -> bool:
    """Whether what is written in one way cannot be read in the other."""
    before, after = pair.before.encoding, pair.after.encoding
    if before is None:
        return not is_timestamp(after)
    return after is not None or not is_timestamp(before) or not pair.is_request


def serialization_kind(after: str | None) -> Kind:
    """Of a change of serialization: a pickle is worse than a change."""
    return Kind.SERIALIZATION_UNSAFE if after == "pickle" else Kind.SERIALIZATION_CHANGED


def _enum(pair: Pair) -> Iterator[Difference]:
    before, after = pair.before.enum, pair.after.enum
    if before == after:
        return
    if before is None or after is None:
        kind = Kind.ENUM_INTRODUCED if before is None else Kind.ENUM_DROPPED
        yield kind, _values(before), _values(after)
        return
    if gone := before - after:
        yield Kind.ENUM_VALUE_REMOVED, _values(gone), None
    if come := after - before:
        yield Kind.ENUM_VALUE_ADDED, None, _values(come)


def _values(values: frozenset[str] | None) -> Json:
    return None if values is None else [plain(value) for value in sorted(values)]


def _closed(pair: Pair) -> Iterator[Difference]:
    if pair.before.closed != pair.after.closed:
        names = {True: "no other fields", False: "other fields"}
        kind = Kind.OBJECT_CLOSED if pair.after.closed else Kind.OBJECT_OPENED
        yield kind, names[pair.before.closed], names[pair.after.closed]


def _default(pair: Pair) -> Iterator[Change]:
    before, after = pair.before.default, pair.after.default
    # Of a field that now must be sent nobody meets the default.
    is_moot = after is None and pair.after.required and not pair.before.required
    if before != after and not is_moot:
        rule = WIRE_DEFAULT if not pair.is_request and pair.after.typing is Typing.WIRE else None
        yield change(pair.direction, Kind.DEFAULT_CHANGED, pair.after.path, plain(before), plain(after), rule=rule)


# --- constraints ---------------------------------------------------------------------------------


def _constraints(pair: Pair) -> Iterator[Difference]:
    before, after = pair.before.constraints, pair.after.constraints
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield _constraint(key, before, after), _worded(key, before), _worded(key, after)


def _worded(key: str, constraints: Mapping[str, Json]) -> Json:
    value = constraints.get(key)
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 2:
        return f"{'exclusive ' if value[1] else ''}{_READABLE[key]} {value[0]}"
    return f"{key} {value}"


def _constraint(key: str, before: Mapping[str, Json], after: Mapping[str, Json]) -> Kind:
    old, new = before.get(key), after.get(key)
    if old is None:
        return Kind.CONSTRAINT_TIGHTENED
    if new is None:
        return Kind.CONSTRAINT_LOOSENED
    if key in ("lower", "upper"):
        return _bound(key, old, new)
    if key in _LOWER_BOUNDS:
        return _tighter(size(new) > size(old))
    if key in _UPPER_BOUNDS:
        return _tighter(size(new) < size(old))
    return _multiple(size(old), size(new)) if key == "multipleOf" else Kind.CONSTRAINT_CHANGED


def _tighter(is_so: bool) -> Kind:
    return Kind.CONSTRAINT_TIGHTENED if is_so else Kind.CONSTRAINT_LOOSENED


def _bound(key: str, old: Json, new: Json) -> Kind:
    if size(old) == size(new):
        return _tighter(isinstance(new, list) and new[1] is True)
    return _tighter((size(new) > size(old)) == (key == "lower"))


def _multiple(old: float, new: float) -> Kind:
    if old > 0 and new > 0 and new % old == 0:
        return Kind.CONSTRAINT_TIGHTENED
    return Kind.CONSTRAINT_LOOSENED if old > 0 and new > 0 and old % new == 0 else Kind.CONSTRAINT_CHANGED
