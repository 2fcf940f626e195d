"""JSON with limits: duplicate keys, NaN, numbers out of range and deep nesting are refused, with line and column."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NoReturn

from ops_commander.integration.schema.model import Json, SchemaError

MAX_VALUES: Final = 2_000_000
MAX_DEPTH: Final = 256
MAX_DIGITS: Final = 4_000

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRINGS = re.compile(rb'"[^"]*+"')
_TOKEN = re.compile(
    rf"(?P<key>{_STRING}(?=\s*:))|(?P<string>{_STRING})|(?P<mark>[\[\]{{}}])|(?P<word>[-+.\w]+)", re.DOTALL
)
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NOT_MARKS = bytes(set(range(256)) - set(b'[]{},"'))
_UP_AND_DOWN = bytes.maketrans(b"[{]}", b"\x02\x02\x00\x00")


class _Fault(ValueError):
    """Something that the parser lets through and we do not; where it stands is looked up afterwards."""


def position(text: str, offset: int) -> str:
    """`line 3, column 14` of an offset."""
    line = text.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - text.rfind(chr(10), 0, offset)}"


def load_json(text: str) -> Json:
    """A JSON document. Raises SchemaError for anything that is not one, or not one value for every reader."""
    _check_limits(text)
    try:
        value: Json = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except json.JSONDecodeError as error:
        raise SchemaError(error.msg[:1].lower() + error.msg[1:], "JSON", position(text, error.pos)) from error
    except _Fault as fault:
        _locate(text, str(fault))
    except RecursionError as error:
        raise _too_deep("") from error
    if _ESCAPED_SURROGATE.search(text):
        _check_unicode(value)
    return value


def _check_limits(text: str) -> None:
    """Before memory is spent: a value needs a comma or a bracket, and a string can hide both."""
    marks = _marks(text.encode("utf-8", "surrogatepass"))
    if marks.count(b'"') > 4 * MAX_VALUES:
        raise _too_many()
    marks = _STRINGS.sub(b"", marks)
    brackets = marks.translate(None, b',"')
    if marks.count(b",") + len(brackets) // 2 > MAX_VALUES:
        raise _too_many()
    if len(brackets) <= MAX_DEPTH:
        return
    depths = accumulate(mark - 1 for mark in brackets.translate(_UP_AND_DOWN))
    if any(depth > MAX_DEPTH for depth in depths):
        _locate(text, "")


def _marks(data: bytes) -> bytes:
    """Brackets, commas and quotes alone. Two quotes side by side change nothing about what is inside of a string."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return data.translate(None, _NOT_MARKS).replace(b'""', b"")


def _too_many() -> SchemaError:
    return SchemaError(f"more than {MAX_VALUES:,} values", f"at most {MAX_VALUES:,}")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Fault("a key is there twice")
    return found


def _constant(name: str) -> NoReturn:
    raise _Fault(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _Fault("a number is out of range")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Fault("a number is too long")
    return int(text)


def _locate(text: str, fault: str) -> NoReturn:
    """Go through the tokens once more, slowly, and say where the first fault is."""
    for offset, problem, expected in _faults(text):
        raise SchemaError(problem, expected, position(text, offset))
    raise SchemaError(fault or "not JSON", "JSON")


def _faults(text: str) -> Iterator[tuple[int, str, str]]:
    keys: list[set[str]] = []
    for match in _TOKEN.finditer(text):
        token, start = match.group(), match.start()
        if match.lastgroup == "mark":
            if token in "[{":
                keys.append(set())
            elif keys:
                keys.pop()
            if len(keys) > MAX_DEPTH:
                yield start, f"nested more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH}"
        elif match.lastgroup == "key" and keys:
            name = _text(token)
            if name in keys[-1]:
                yield start, f"the key {name!r} is there twice", "each key once in an object"
            keys[-1].add(name)
        elif match.lastgroup == "word":
            yield from ((start, *fault) for fault in _number_faults(token))


def _text(token: str) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token


def _number_faults(token: str) -> Iterator[tuple[str, str]]:
    if token in ("NaN", "Infinity", "-Infinity"):
        yield f"{token} is not JSON", "a number"
    elif not token.lstrip("-")[:1].isdigit():
        return
    elif len(token) > MAX_DIGITS:
        yield f"a number of {len(token):,} characters", f"at most {MAX_DIGITS:,}"
    elif _is_infinite(token):
        yield f"the number {token[:40]} is out of range", "a number within the range of a double"


def _is_infinite(token: str) -> bool:
    try:
        return not token.lstrip("-").isdigit() and math.isinf(float(token))
    except ValueError:
        return False


def _too_deep(where: str) -> SchemaError:
    return SchemaError(f"nested more than {MAX_DEPTH} levels", f"at most {MAX_DEPTH}", where)


def _check_unicode(value: Json) -> None:
    """Half of a surrogate pair is no character: it could be neither compared nor written."""
    todo: list[Json] = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo += item.values()
            todo += item.keys()
        elif isinstance(item, list):
            todo += item
        elif isinstance(item, str) and not _is_unicode(item):
            raise SchemaError(f"{ascii(item)[:60]} is half of a surrogate pair", "valid Unicode")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
