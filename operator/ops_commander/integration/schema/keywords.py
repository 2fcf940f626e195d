"""The keywords of JSON Schema, for a node of which several schemas must hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ops_commander.integration.schema.dtypes import is_whole
from ops_commander.integration.schema.encodings import TIMESTAMP, TIMESTAMPS, canonical_encoding
from ops_commander.integration.schema.model import Json, SchemaError, canonical

Schema = dict[str, Json]

PRIMITIVES: Final = {"string", "integer", "number", "boolean", "object", "array", "null"}
_PLAIN: Final = {"string": "STRING", "boolean": "BOOL", "object": "OBJECT", "array": "ARRAY"}
_WHOLE: Final = re.compile(r"u?int(8|16|32|64)")
_REAL: Final = {"float": "FP32", "double": "FP64", "float16": "FP16", "float32": "FP32", "float64": "FP64"}
_COUNTS: Final = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_OPAQUE: Final = (
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedItems",
)
"""Compared as they stand: whether one is tighter than another is not worked out."""

_CONSTRAINTS: Final = frozenset(
    (*_COUNTS, "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "uniqueItems", "multipleOf", "pattern")
)


@dataclass(slots=True)
class Facts:
    """What a node says about its value, properties and items aside."""

    primitives: set[str] | None = None
    """Of JSON, null aside; None is any."""
    dtypes: set[str] = field(default_factory=set)
    nullable: bool = False
    encoding: str | None = None
    enum: frozenset[str] | None = None
    constraints: dict[str, Json] = field(default_factory=dict)
    default: str | None = None
    doc: str | None = None
    closed: bool = False


def facts_of(fragments: Sequence[Schema], where: str) -> Facts:
    """All that holds if every one of the schemas holds."""
    facts = Facts()
    types = _types(fragments, where)
    facts.enum = _enum(fragments, where)
    if types is None and facts.enum is not None:
        types = {_primitive(value) for value in facts.enum}
    if types is None:
        types = _implied(fragments)
    facts.nullable = _nullable(fragments, types, facts.enum)
    facts.primitives = types - {"null"} if types is not None else None
    format_ = next((each["format"] for each in fragments if isinstance(each.get("format"), str)), None)
    facts.dtypes = {_dtype(name, format_) for name in facts.primitives or ()}
    facts.encoding = _encoding(fragments, format_, facts.dtypes)
    facts.constraints = _constraints(fragments, facts, where)
    if isinstance(format_, str) and facts.encoding is None and not _is_type(format_, facts.primitives):
        facts.constraints["format"] = format_
    facts.default = next((canonical(each["default"]) for each in fragments if each.get("default") is not None), None)
    facts.doc = next((text for each in fragments if isinstance(text := each.get("description"), str)), None)
    facts.closed = any(
        each.get(key) is False for each in fragments for key in ("additionalProperties", "unevaluatedProperties")
    )
    return facts


# --- types ---------------------------------------------------------------------------------------


def _types(fragments: Iterable[Schema], where: str) -> set[str] | None:
    found: set[str] | None = None
    for each in fragments:
        if "type" not in each:
            continue
        named = each["type"]
        names = named if isinstance(named, list) else [named]
        stated: set[str] = set()
        for name in names:
            if not isinstance(name, str) or name not in PRIMITIVES:
                raise SchemaError(f"{str(name)[:60]!r} is no type", f"one of {', '.join(sorted(PRIMITIVES))}", where)
            stated.add(name)
        found = stated if found is None else _both(found, stated)
    return found


def _both(one: set[str], other: set[str]) -> set[str]:
    """Whole numbers are numbers."""
    shared = one & other
    if ("integer" in one and "number" in other) or ("integer" in other and "number" in one):
        shared |= {"integer"}
    return shared


def _implied(fragments: Iterable[Schema]) -> set[str] | None:
    """Properties without a type are meant for an object, items for a list."""
    for each in fragments:
        if "properties" in each:
            return {"object"}
        if "items" in each or "prefixItems" in each:
            return {"array"}
    return None


def _primitive(value: str) -> str:
    """Of canonical JSON."""
    first = value[:1]
    if first in "tf":
        return "boolean"
    named = {'"': "string", "{": "object", "[": "array", "n": "null"}
    return named.get(first, "number" if set(value) & set(".eE") else "integer")


def _nullable(fragments: Iterable[Schema], types: set[str] | None, enum: frozenset[str] | None) -> bool:
    if enum is not None and "null" not in enum:
        return False
    if any(each.get("nullable") is True for each in fragments):  # OpenAPI 3.0
        return True
    return types is not None and "null" in types


def _dtype(primitive: str, format_: Json) -> str:
    if primitive == "integer":
        return str(format_).upper() if isinstance(format_, str) and _WHOLE.fullmatch(format_) else "INT64"
    if primitive == "number":
        return _REAL.get(str(format_), "FP64")
    if primitive == "string" and format_ == "binary":
        return "BYTES"
    return _PLAIN[primitive]


def _is_type(format_: str, primitives: set[str] | None) -> bool:
    """A format that has become part of the type."""
    names = primitives or set()
    return bool(
        ("integer" in names and _WHOLE.fullmatch(format_))
        or ("number" in names and format_ in _REAL)
        or ("string" in names and format_ == "binary")
    )


def _encoding(fragments: Sequence[Schema], format_: Json, dtypes: set[str]) -> str | None:
    parts: list[str] = []
    short = format_.lower() if isinstance(format_, str) else ""
    if short in TIMESTAMPS and dtypes & {"STRING", "INT64", "FP64"}:
        parts.append(TIMESTAMP + TIMESTAMPS[short])
    elif short in ("byte", "base64", "base64url") and "STRING" in dtypes:
        parts.append(canonical_encoding(short, "STRING") or "")
    for each in fragments:
        content, media = each.get("contentEncoding"), each.get("contentMediaType")
        if isinstance(content, str):
            parts.append(canonical_encoding(content, "STRING") or "")
        if isinstance(media, str) and (match := re.search(r"charset=\"?([\w.-]+)", media, re.IGNORECASE)):
            parts.append(canonical_encoding(match.group(1), "STRING") or "")
    return "+".join(dict.fromkeys(part for part in parts if part)) or None


# --- values --------------------------------------------------------------------------------------


def _enum(fragments: Iterable[Schema], where: str) -> frozenset[str] | None:
    found: frozenset[str] | None = None
    for each in fragments:
        for values in _allowed(each, where):
            found = values if found is None else found & values
    return found


def _allowed(schema: Schema, where: str) -> Iterator[frozenset[str]]:
    if "const" in schema:
        yield frozenset([canonical(schema["const"])])
    if "enum" in schema:
        values = schema["enum"]
        if not isinstance(values, list):
            raise SchemaError("an enum that is not a list", "a list of values", where)
        yield frozenset(map(canonical, values))


def _constraints(fragments: Sequence[Schema], facts: Facts, where: str) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for each in fragments:
        if _CONSTRAINTS.isdisjoint(each):
            continue
        _add(found, "lower", _bound(each, "minimum", "exclusiveMinimum", where), _higher)
        _add(found, "upper", _bound(each, "maximum", "exclusiveMaximum", where), _lower)
        for key in _COUNTS:
            _add(found, key, _count(each, key, where), _most if key.startswith("min") else _least)
        if each.get("uniqueItems") is True:
            found["uniqueItems"] = True
        step = each.get("multipleOf")
        if step is not None:
            found["multipleOf"] = _number(step, "multipleOf", where)
        if isinstance(each.get("pattern"), str):
            found["pattern"] = each["pattern"]
    for key in _OPAQUE:
        said = [each[key] for each in fragments if key in each]
        if said:
            found[key] = canonical(said)
    if facts.dtypes and all(map(is_whole, facts.dtypes)):
        _to_inclusive(found)
    return found


def _add(found: dict[str, Json], key: str, value: Json, choose: Callable[[Json, Json], Json]) -> None:
    """The tightest of several holds."""
    if value is not None:
        found[key] = choose(found[key], value) if key in found else value


def _most(one: Json, other: Json) -> Json:
    return max(one, other, key=size)


def _least(one: Json, other: Json) -> Json:
    return min(one, other, key=size)


def _higher(one: Json, other: Json) -> Json:
    return max(one, other, key=lambda bound: (size(bound), _is_exclusive(bound)))


def _lower(one: Json, other: Json) -> Json:
    return min(one, other, key=lambda bound: (size(bound), not _is_exclusive(bound)))


def size(bound: Json) -> float:
    """The number of a constraint."""
    value = bound[0] if isinstance(bound, list) and bound else bound
    return value if isinstance(value, (int, float)) else 0


def _is_exclusive(bound: Json) -> bool:
    return isinstance(bound, list) and bound[1] is True


def _bound(schema: Schema, inclusive: str, exclusive: str, where: str) -> Json:
    """[value, whether it is itself left out]; draft 4 and OpenAPI 3.0 say the latter by a flag."""
    plain, strict = schema.get(inclusive), schema.get(exclusive)
    if isinstance(strict, bool):
        return None if plain is None else [_number(plain, inclusive, where), strict]
    if strict is not None and (plain is None or _is_tighter(strict, plain, inclusive, where)):
        return [_number(strict, exclusive, where), True]
    return None if plain is None else [_number(plain, inclusive, where), False]


def _is_tighter(strict: Json, plain: Json, key: str, where: str) -> bool:
    one, other = _number(strict, key, where), _number(plain, key, where)
    return one >= other if key == "minimum" else one <= other


def _number(value: Json, key: str, where: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SchemaError(f"{key} is {str(value)[:40]!r}", "a number", where)
    return value


def _count(schema: Schema, key: str, where: str) -> int | float | None:
    value = schema.get(key)
    if value is None:
        return None
    number = _number(value, key, where)
    if number < 0:
        raise SchemaError(f"{key} is {number}", "0 or more", where)
    return None if key.startswith("min") and number == 0 else number


def _to_inclusive(found: dict[str, Json]) -> None:
    """Above 0 is 1 and more, for whole numbers."""
    for key, round_, sign in (("lower", math.floor, 1), ("upper", math.ceil, -1)):
        bound = found.get(key)
        if isinstance(bound, list) and bound[1] is True:
            found[key] = [round_(size(bound)) + sign, False]
