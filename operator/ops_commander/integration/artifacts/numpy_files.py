"""`.npy`: a header, then numbers; or a pickle, where the elements are objects."""

from __future__ import annotations

import ast
import math
import re
from typing import Any, Final

from ops_commander.integration.artifacts import pickles
from ops_commander.integration.artifacts.findings import Format, Malformed, Notes, Tensors

MAGIC: Final = b"\x93NUMPY"
_MAX_HEADER: Final = 10_000
_SIMPLE: Final = re.compile(r"[<>=|]?[biufcmMSUV]\d{1,9}(\[\d*\w+\])?")


def check(stream: pickles.Stream, size: int, notes: Notes, where: str = "") -> Format:
    """Reads from the magic on. Objects are a pickle, and make it one."""
    head = stream.read(8)
    width = 2 if head[6:7] == b"\x01" else 4
    length = int.from_bytes(stream.read(width), "little")
    if len(head) != 8 or head[6] not in (1, 2, 3) or length > _MAX_HEADER:
        raise Malformed("MalformedHeader", f"{where} npy header of {length} bytes: expected at most {_MAX_HEADER}", 6)
    descr, shape = _header(stream.read(length))
    start = 8 + width + length
    if _holds_objects(descr):
        pickles.scan(stream, notes, f"{where}[objects]")
        return Format.PICKLE
    expected = _item_size(descr) * math.prod(shape)
    if size - start != expected:
        kind = "Truncated" if size - start < expected else "TrailingData"
        raise Malformed(kind, f"{where} array of {expected} bytes in {size - start}: expected as many", start)
    if not where:
        notes.tensors = Tensors(count=1, parameters=math.prod(shape), bytes=expected, dtypes={str(descr)[:100]: 1})
    return Format.NPY


def _header(raw: bytes) -> tuple[Any, tuple[int, ...]]:
    try:
        value = ast.literal_eval(raw.decode("utf-8").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise Malformed(
            "MalformedHeader", f"npy header: {type(error).__name__}: expected a dict of literals", 10
        ) from None
    if not isinstance(value, dict) or set(value) != {"descr", "fortran_order", "shape"}:
        raise Malformed("MalformedHeader", "npy header: expected descr, fortran_order and shape", 10)
    shape = value["shape"]
    if not isinstance(shape, tuple) or not all(type(each) is int and 0 <= each < 2**63 for each in shape):
        raise Malformed("MalformedHeader", f"npy header: shape {str(shape)[:100]}: expected a tuple of numbers", 10)
    return value["descr"], shape


def _holds_objects(descr: Any) -> bool:
    """Anything that is not plainly numbers counts as objects."""
    if isinstance(descr, list):
        return not descr or any(_holds_objects(each[1]) if _is_field(each) else True for each in descr)
    return not (isinstance(descr, str) and _SIMPLE.fullmatch(descr))


def _is_field(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) in (2, 3)


def _item_size(descr: Any) -> int:
    if isinstance(descr, list):
        return sum(_item_size(each[1]) * _repeats(each) for each in descr)
    found = re.search(r"([a-zA-Z])(\d+)", descr)
    assert found is not None
    return int(found[2]) * (4 if found[1] == "U" else 1)


def _repeats(entry: tuple[Any, ...]) -> int:
    shape = entry[2] if len(entry) == 3 else ()
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(each) is int and 0 <= each < 2**63 for each in sizes):
        raise Malformed("MalformedHeader", f"npy header: {str(shape)[:100]}: expected a shape", 10)
    return math.prod(sizes)
