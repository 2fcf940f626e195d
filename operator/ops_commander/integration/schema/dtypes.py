"""Types by one name each, and what becomes of a value that goes from one to another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

ANY: Final = "ANY"


class Relation(StrEnum):
    EQUAL = "equal"
    WIDER = "wider"  # the same kind of number, and each value fits
    NARROWER = "narrower"  # the same kind of number, and the way back would be wider
    CROSSED = "crossed"  # floats that each lose something in the other: FP16 and BF16
    TO_FLOAT = "to-float"  # whole numbers to floats that hold them
    TO_WHOLE = "to-whole"  # floats to whole numbers
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class _Number:
    kind: str
    low: int = 0
    """Whole numbers: bits below zero."""
    high: int = 0
    """Whole numbers: bits above zero."""
    mantissa: int = 0
    exponent: int = 0

    def holds(self, other: _Number) -> bool:
        """Every value of the other, of the same kind."""
        return (
            self.low >= other.low
            and self.high >= other.high
            and self.mantissa >= other.mantissa
            and self.exponent >= other.exponent
        )


def _whole(bits: int, *, signed: bool) -> _Number:
    return _Number("whole", low=bits - 1 if signed else 0, high=bits - 1 if signed else bits)


_NUMBERS: Final = {
    **{f"INT{bits}": _whole(bits, signed=True) for bits in (2, 4, 8, 16, 32, 64)},
    **{f"UINT{bits}": _whole(bits, signed=False) for bits in (2, 4, 8, 16, 32, 64)},
    "FP64": _Number("float", mantissa=53, exponent=11),
    "FP32": _Number("float", mantissa=24, exponent=8),
    "BF16": _Number("float", mantissa=8, exponent=8),
    "FP16": _Number("float", mantissa=11, exponent=5),
    "FP8_E4M3": _Number("float", mantissa=4, exponent=4),
    "FP8_E5M2": _Number("float", mantissa=3, exponent=5),
    "COMPLEX64": _Number("complex", mantissa=24, exponent=8),
    "COMPLEX128": _Number("complex", mantissa=53, exponent=11),
}
_OTHERS: Final = ("BOOL", "STRING", "BYTES", "DATETIME", "DATE", "DECIMAL", "OBJECT", "ARRAY", "MAP", ANY)

DTYPES: Final = (*_NUMBERS, *_OTHERS)
"""Every type that the project's own format can name."""

_ALIASES: Final = {
    "BOOLEAN": "BOOL",
    "BYTE": "UINT8",
    "CHAR": "INT8",
    "SHORT": "INT16",
    "INT": "INT32",
    "LONG": "INT64",
    "INTEGER": "INT64",
    "HALF": "FP16",
    "FLOAT": "FP32",
    "SINGLE": "FP32",
    "DOUBLE": "FP64",
    "NUMBER": "FP64",
    "CFLOAT": "COMPLEX64",
    "CDOUBLE": "COMPLEX128",
    "STR": "STRING",
    "TEXT": "STRING",
    "UNICODE": "STRING",
    "BINARY": "BYTES",
    "TIMESTAMP": "DATETIME",
    "DATETIME64": "DATETIME",
    "LIST": "ARRAY",
    "DICT": "OBJECT",
    "F8E4M3": "FP8_E4M3",
    "FLOAT8E4M3FN": "FP8_E4M3",
    "FLOAT8_E4M3FN": "FP8_E4M3",
    "F8E5M2": "FP8_E5M2",
    "FLOAT8E5M2": "FP8_E5M2",
    "FLOAT8_E5M2": "FP8_E5M2",
}
_NAMED_BY_BITS = re.compile(r"(?:BFLOAT|BF)(16)|(?:FLOAT|FP|F)(16|32|64)|(U?)(?:INT|I)(2|4|8|16|32|64)|U(8|16|32|64)")


@lru_cache(maxsize=1024)
def canonical_dtype(name: str) -> str | None:
    """`float32`, `torch.float32`, `TYPE_FP32`, `F32`, `float`: FP32. None for a name that means nothing here."""
    short = name.strip().upper()
    for prefix in ("TORCH.", "NUMPY.", "NP.", "TF.", "TYPE_", "DT_"):
        short = short.removeprefix(prefix)
    short = short.partition("[")[0]  # datetime64[ns]
    if short in DTYPES:
        return short
    if match := _NAMED_BY_BITS.fullmatch(short):
        brain, binary, unsigned, whole, bits = match.groups()
        if brain or binary:
            return f"BF{brain}" if brain else f"FP{binary}"
        return f"UINT{bits}" if bits else f"{unsigned}INT{whole}"
    # numpy writes fixed-width text as <U12, |S8.
    if re.fullmatch(r"[<>=|]U\d*", short):
        return "STRING"
    if re.fullmatch(r"[<>=|]S\d+", short):
        return "BYTES"
    return _ALIASES.get(short)


def is_number(dtype: str) -> bool:
    return dtype in _NUMBERS


def is_whole(dtype: str) -> bool:
    return dtype in _NUMBERS and _NUMBERS[dtype].kind == "whole"


def relate(before: str, after: str) -> Relation:
    """What the change of a type does to its values."""
    if before == after:
        return Relation.EQUAL
    old, new = _NUMBERS.get(before), _NUMBERS.get(after)
    if old is None or new is None:
        return Relation.OTHER
    if old.kind == new.kind:
        return _within(old, new)
    if (old.kind, new.kind) == ("whole", "float"):
        return Relation.TO_FLOAT if _fits(old, new) else Relation.OTHER
    return Relation.TO_WHOLE if (old.kind, new.kind) == ("float", "whole") else Relation.OTHER


def _within(old: _Number, new: _Number) -> Relation:
    if new.holds(old):
        return Relation.WIDER
    if old.holds(new):
        return Relation.NARROWER
    return Relation.OTHER if old.kind == "whole" else Relation.CROSSED


def _fits(whole: _Number, real: _Number) -> bool:
    """64 bits into FP64 are let through as MLflow does; beyond 2^53, JSON does not keep them anyway."""
    bits = max(whole.low, whole.high)
    return bits <= real.mantissa or real.mantissa == _NUMBERS["FP64"].mantissa
