"""GGUF: keys, tensor infos, and aligned tensors; every count is bounded before anything is read for it."""

from __future__ import annotations

import math
from typing import Final

from ops_commander.integration.artifacts.binary import Reader
from ops_commander.integration.artifacts.findings import Malformed, Notes, Tensors

MAGIC: Final = b"GGUF"
_MAX_KEY: Final = 65_535
_MAX_TEXT: Final = 16 * 1024 * 1024
_MAX_DEPTH: Final = 4
_TEXT: Final = 8
_ARRAY: Final = 9
_WIDTHS: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_BLOCKS: Final = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
"""Name, elements and bytes of a block, by ggml type."""
_NOTED: Final = ("general.architecture", "general.name")


def check(reader: Reader, notes: Notes) -> None:
    """Raises Malformed at the first thing that makes the rest meaningless."""
    reader.skip(4, "the magic")
    version = reader.number(4, "the version")
    if version not in (2, 3):
        raise Malformed("UnknownVersion", f"GGUF version {version}: expected 2 or 3, little end first", 4)
    notes.details["version"] = str(version)
    tensors, keys = reader.number(8, "the number of tensors"), reader.number(8, "the number of keys")
    # The least that each takes bounds what a count can be.
    if keys * 13 + tensors * 24 > reader.left:
        raise Malformed("Truncated", f"{keys} keys and {tensors} tensors in {reader.left} bytes", reader.tell())
    alignment = _keys(reader, keys, notes)
    infos = [_tensor(reader, notes) for _ in range(tensors)]
    _check_layout(reader, infos, alignment, notes)


def _keys(reader: Reader, count: int, notes: Notes) -> int:
    alignment = 32
    seen: set[str] = set()
    for _ in range(count):
        at = reader.tell()
        key = _text(reader, _MAX_KEY, "a key", notes)
        if key in seen:
            raise Malformed("DuplicateKey", f"key {key[:100]!r} comes twice", at)
        seen.add(key)
        kind = reader.number(4, "the type of a value")
        if key == "general.alignment":
            alignment = _alignment(reader, kind)
        elif key in _NOTED and kind == _TEXT:
            notes.details[key] = _text(reader, _MAX_TEXT, key, notes)[:200]
        else:
            _skip_value(reader, kind, notes, 0)
        if key.startswith("tokenizer.chat_template"):
            notes.info("ChatTemplate", "has a chat template: render it in a sandbox only", at)
    return alignment


def _alignment(reader: Reader, kind: int) -> int:
    at = reader.tell()
    value = reader.number(4, "general.alignment") if kind == 4 else 0
    if value < 1 or value > 65_536 or value & (value - 1):
        raise Malformed("MalformedHeader", f"general.alignment is {value}: expected a power of 2 as uint32", at)
    return value


def _text(reader: Reader, limit: int, what: str, notes: Notes) -> str:
    at = reader.tell()
    notes.spend(1, at)
    size = reader.number(8, f"the length of {what}")
    if size > limit:
        raise Malformed("TooLarge", f"{what} has {size} bytes: expected at most {limit}", at)
    return reader.read(size, what).decode("utf-8", "replace")


def _skip_value(reader: Reader, kind: int, notes: Notes, depth: int) -> None:
    at = reader.tell()
    notes.spend(1, at)
    if kind in _WIDTHS:
        reader.skip(_WIDTHS[kind], "a value")
    elif kind == _TEXT:
        _skip_text(reader, notes)
    elif kind == _ARRAY and depth < _MAX_DEPTH:
        inner, count = reader.number(4, "the type of an array"), reader.number(8, "the length of an array")
        if inner in _WIDTHS:
            reader.skip(_WIDTHS[inner] * count, "an array")
            return
        if count * 8 > reader.left:
            raise Malformed("Truncated", f"an array of {count} values in {reader.left} bytes", at)
        for _ in range(count):
            _skip_value(reader, inner, notes, depth + 1)
    else:
        raise Malformed("UnknownType", f"a value of type {kind} at depth {depth}: expected a type of GGUF", at)


def _skip_text(reader: Reader, notes: Notes) -> None:
    notes.spend(1, reader.tell())
    reader.skip(reader.number(8, "the length of a text"), "a text")


Info = tuple[str, str, int, int, int | None]


def _tensor(reader: Reader, notes: Notes) -> Info:
    """Name, type, elements, offset and bytes; None where the type is not known."""
    at = reader.tell()
    name = _text(reader, 4096, "the name of a tensor", notes)
    dimensions = reader.number(4, "the number of dimensions")
    if dimensions > 8:
        raise Malformed("MalformedHeader", f"{name[:100]!r} has {dimensions} dimensions: expected at most 8", at)
    shape = [reader.number(8, "a dimension") for _ in range(dimensions)]
    kind, offset = reader.number(4, "the type of a tensor"), reader.number(8, "the offset of a tensor")
    elements = math.prod(shape)
    dtype, per_block, width = _BLOCKS.get(kind, (f"type {kind}", 0, 0))
    if not per_block:
        notes.warn("UnknownType", f"{name[:100]!r} has {dtype}, whose size is not known: its end was not checked", at)
        return name, dtype, elements, offset, None
    if (shape[0] if shape else 1) % per_block:
        raise Malformed("SizeMismatch", f"{name[:100]!r}: rows of {shape[0]} in blocks of {per_block}", at)
    return name, dtype, elements, offset, elements // per_block * width


def _check_layout(reader: Reader, infos: list[Info], alignment: int, notes: Notes) -> None:
    if len({info[0] for info in infos}) != len(infos):
        raise Malformed("DuplicateKey", "two tensors have one name", None)
    start = -(-reader.tell() // alignment) * alignment
    room = reader.size - start
    last, before = 0, ""
    for name, _, _, offset, size in sorted(infos, key=lambda info: info[3]):
        if offset % alignment:
            raise Malformed(
                "Unaligned", f"{name[:100]!r} begins at {offset}: expected a multiple of {alignment}", start
            )
        if offset + (size or 0) > room:
            message = f"{name[:100]!r} ends at {offset + (size or 0)} of {max(room, 0)} bytes of data: expected within"
            raise Malformed("OutOfRange", message, start + offset)
        if offset < last:
            raise Malformed("Overlap", f"{name[:100]!r} begins within {before[:100]!r}", start + offset)
        last, before = offset + (size or 0), name
    if infos and room - last >= alignment and all(info[4] is not None for info in infos):
        notes.refuse("TrailingData", f"{room - last} bytes behind the last tensor belong to none", start + last)
    dtypes: dict[str, int] = {}
    for info in infos:
        dtypes[info[1]] = dtypes.get(info[1], 0) + 1
    notes.tensors = Tensors(
        count=len(infos),
        parameters=sum(info[2] for info in infos),
        bytes=sum(info[4] or 0 for info in infos),
        dtypes=dict(sorted(dtypes.items())),
    )
