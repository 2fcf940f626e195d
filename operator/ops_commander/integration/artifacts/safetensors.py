"""safetensors: a length, a header in JSON, and bytes of which each belongs to one tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ops_commander.integration.artifacts.binary import CHUNK, Reader
from ops_commander.integration.artifacts.findings import Malformed, Notes, Tensors
from ops_commander.integration.documents import BadInput, load_json

BITS: Final = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}
_MAX_DIMENSIONS: Final = 32


@dataclass(frozen=True, slots=True)
class _Float:
    """How to tell NaN and infinity from the bits: a whole exponent, and whether anything is behind it."""

    unsigned: str
    exponent: int
    fraction: int


_FLOATS: Final = {
    "F16": _Float("<u2", 0x7C00, 0x03FF),
    "BF16": _Float("<u2", 0x7F80, 0x007F),
    "F32": _Float("<u4", 0x7F80_0000, 0x007F_FFFF),
    "C64": _Float("<u4", 0x7F80_0000, 0x007F_FFFF),
    "F64": _Float("<u8", 0x7FF0_0000_0000_0000, 0x000F_FFFF_FFFF_FFFF),
    "F8_E5M2": _Float("<u1", 0x7C, 0x03),
}


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    dtype: str
    parameters: int
    begin: int
    end: int


def is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def check(reader: Reader, notes: Notes) -> None:
    """Raises Malformed at the first thing that makes the rest meaningless."""
    length = reader.number(8, "the length of the header")
    if length > notes.limits.header:
        raise Malformed("HeaderTooLarge", f"a header of {length} bytes: expected at most {notes.limits.header}", 0)
    raw = reader.read(length, "the header")
    # What JSON would cost in memory is bounded before it is parsed.
    notes.spend(raw.count(b"{") + raw.count(b"[") + raw.count(b","), 8)
    header = _header(raw)
    tensors = sorted(_tensors(header), key=lambda each: (each.begin, each.end))
    _check_layout(tensors, reader.size - 8 - length, 8 + length, notes)
    notes.details["metadata"] = ", ".join(sorted(header.get("__metadata__", {})))[:200]
    notes.tensors = _summary(tensors)
    if notes.policy.count_non_finite and not notes.findings:
        _count(reader, 8 + length, tensors, notes)


def _header(raw: bytes) -> dict[str, Any]:
    try:
        header = load_json(raw.decode("utf-8"), "header")
    except UnicodeDecodeError as error:
        raise Malformed("MalformedHeader", "the header is not UTF-8", 8 + error.start) from error
    except BadInput as error:
        raise Malformed("MalformedHeader", f"the header: {error.problem}: expected {error.expected}", 8) from error
    if not isinstance(header, dict):
        raise Malformed("MalformedHeader", "the header is no JSON object", 8)
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Malformed("MalformedHeader", "__metadata__ is not a map of texts", 8)
    return header


def _tensors(header: dict[str, Any]) -> Iterator[_Tensor]:
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise Malformed("MalformedHeader", f"{name!r}: expected dtype, shape and data_offsets, and no more", 8)
        yield _tensor(name, entry)


def _tensor(name: str, entry: dict[str, Any]) -> _Tensor:
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise Malformed("UnknownType", f"{name!r} has dtype {dtype!r}: expected one of {', '.join(BITS)}", 8)
    if not _are_counts(shape) or len(shape) > _MAX_DIMENSIONS:
        raise Malformed(
            "MalformedHeader", f"{name!r} has shape {str(shape)[:100]}: expected whole numbers from 0 on", 8
        )
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise Malformed("MalformedHeader", f"{name!r} has offsets {str(offsets)[:100]}: expected begin ≤ end", 8)
    parameters = math.prod(shape)
    bits = parameters * BITS[dtype]
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        message = f"{name!r} is {dtype} {shape}, {bits / 8:g} bytes, in {offsets[1] - offsets[0]}: expected as many"
        raise Malformed("SizeMismatch", message, 8)
    return _Tensor(name, dtype, parameters, *offsets)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**63 for each in value)


def _check_layout(tensors: list[_Tensor], size: int, start: int, notes: Notes) -> None:
    """All of the data belongs to exactly one tensor."""
    expected = 0
    for tensor in tensors:
        if tensor.end > size:
            message = f"{tensor.name!r} ends at {tensor.end} of {size} bytes of data: expected within"
            raise Malformed("OutOfRange", message, start + tensor.begin)
        if tensor.begin != expected:
            kind = "Overlap" if tensor.begin < expected else "Hole"
            message = f"{tensor.name!r} begins at {tensor.begin}: expected {expected}, where the one before ends"
            raise Malformed(kind, message, start + tensor.begin)
        expected = tensor.end
    if expected != size:
        message = f"{size - expected} bytes behind the last tensor belong to none: expected the end of the file"
        notes.refuse("TrailingData", message, start + expected)


def _summary(tensors: list[_Tensor]) -> Tensors:
    dtypes: dict[str, int] = {}
    for tensor in tensors:
        dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + 1
    return Tensors(
        count=len(tensors),
        parameters=sum(tensor.parameters for tensor in tensors),
        bytes=sum(tensor.end - tensor.begin for tensor in tensors),
        dtypes=dict(sorted(dtypes.items())),
    )


def _count(reader: Reader, start: int, tensors: list[_Tensor], notes: Notes) -> None:
    nan = infinite = 0
    for tensor in tensors:
        if form := _FLOATS.get(tensor.dtype):
            reader.stream.seek(start + tensor.begin)
            more = _non_finite(reader, tensor.end - tensor.begin, form)
            nan, infinite = nan + more[0], infinite + more[1]
            if any(more):
                message = f"{tensor.name!r} has {more[0]} NaN and {more[1]} infinite values: expected none"
                notes.refuse("NonFinite", message, start + tensor.begin)
    if notes.tensors:
        notes.tensors = notes.tensors.model_copy(update={"nan": nan, "infinite": infinite})


def _non_finite(reader: Reader, size: int, form: _Float) -> tuple[int, int]:
    nan = infinite = 0
    while size:
        data = reader.read(min(size, CHUNK), "a tensor")
        size -= len(data)
        bits = np.frombuffer(data, dtype=form.unsigned)
        special = bits[(bits & form.exponent) == form.exponent]
        found = int(np.count_nonzero(special & form.fraction))
        nan, infinite = nan + found, infinite + len(special) - found
    return nan, infinite
