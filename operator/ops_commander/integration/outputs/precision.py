"""Whether a candidate's floats have lost digits that stable's have.

A float with n bits of significand goes unchanged through every format of at least n bits. Numbers of FP64 nearly never
have so few by chance (2^-29 for FP32), but round ones such as 0.5 do: those say nothing. Decimal digits tell rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ops_commander.integration.outputs.numbers import Floats

MOST_LOOKED_AT: Final = 64
"""Pairs of one group of numbers; spread evenly over larger ones."""
SHARE: Final = 0.9
"""Of the numbers that could show a loss, so many must."""
FEW: Final = 3
MANY: Final = 8
"""Losses that chance could make singly are believed from so many of one kind in one answer on."""

_FORMATS: Final = (("bfloat16", 8, 6, 6), ("float16", 11, 9, 6), ("float32", 24, 12, 12))
"""Name, bits, the fewest bits that are no round number, and the digits that stable's number must have."""

Pair = tuple[float, float]


class _Proof(IntEnum):
    """How much one pair says."""

    AGAINST = 0
    SILENT = 1
    DIGITS = 2
    """4 or 5 digits, and no rounding of stable's number."""
    COARSE = 3
    """A rounding of stable's to a single digit or to eighths, as models of few steps give by chance."""
    BITS = 4
    SURE = 5


_ENOUGH: Final = {_Proof.DIGITS: MANY, _Proof.COARSE: MANY, _Proof.BITS: FEW, _Proof.SURE: 1}


@dataclass(frozen=True, slots=True)
class Loss:
    said: str
    stable: float
    candidate: float


def spread(stable: Floats, candidate: Floats) -> list[Pair]:
    """Pairs of finite numbers to look at, evenly spread."""
    step = max(1, -(-stable.size // MOST_LOOKED_AT))
    mine, theirs = stable[::step], candidate[::step]
    usable = np.isfinite(mine) & np.isfinite(theirs)
    return list(zip(mine[usable].tolist(), theirs[usable].tolist(), strict=True))


def lost(pairs: Sequence[Pair]) -> Loss | None:
    """The loss that these numbers of one kind show together."""
    chosen = [pair for pair in pairs if _is_telling(pair)]
    if not chosen or all(stable == candidate for stable, candidate in chosen):
        return None
    bits = _bits(np.array(chosen, dtype=np.float64))
    judged = [(*_judge(pair, *ends), ends[1], pair) for pair, ends in zip(chosen, bits.tolist(), strict=True)]
    speaking = [each for each in judged if each[0] is not _Proof.SILENT]
    losses = [each for each in speaking if each[0] > _Proof.SILENT]
    if not losses or len(losses) < SHARE * len(speaking):
        return None
    proved = Counter(each[0] for each in losses)
    if not any(proved[proof] >= enough for proof, enough in _ENOUGH.items()):
        return None
    _, said, _, pair = max(losses, key=lambda each: (each[0], each[2]))
    return Loss(said, *pair)


def _is_telling(pair: Pair) -> bool:
    """Whole numbers have no digits to lose, and to become one says as little."""
    stable, candidate = pair
    return not stable.is_integer() and not candidate.is_integer()


def _judge(pair: Pair, stable_bits: int, candidate_bits: int) -> tuple[_Proof, str]:
    stable, candidate = pair
    had, _ = _digits(stable)
    if had < 6:
        return _Proof.SILENT, ""  # stable's is a short one too
    if stable == candidate:
        return _Proof.AGAINST, ""
    for name, bits, fewest, digits in _FORMATS:
        if fewest <= candidate_bits <= bits and stable_bits > bits and had >= digits:
            near = abs(stable - candidate) <= abs(stable) * 2.0 ** (1 - bits)
            return _by_format(name, near=near), f"no more digits than {name} holds"
    return _by_digits(stable, candidate, had, candidate_bits)


def _by_format(name: str, *, near: bool) -> _Proof:
    """Eighths and the like have few bits too, and so have the scores of a forest of 64 trees."""
    if name == "float32" or (name == "float16" and near):
        return _Proof.SURE
    return _Proof.BITS if near or name == "float16" else _Proof.SILENT


def _by_digits(stable: float, candidate: float, had: int, bits: int) -> tuple[_Proof, str]:
    has, unit = _digits(candidate)
    said = f"{has} significant digits where stable has {had}"
    if had - has >= (5 if had >= 12 else 4) and _is_rounded(stable, candidate, unit):
        return (_Proof.SURE if has > 1 and bits > 8 else _Proof.COARSE), said
    if had >= 15 and 6 <= has <= 9 and bits > 12:
        return _Proof.SURE, said  # as float32 is written; by chance once in 10^7
    if had >= 12 and 4 <= has <= 5 and bits > 8:
        return _Proof.DIGITS, said
    return (_Proof.SILENT, "") if bits <= 8 else (_Proof.AGAINST, "")


def _is_rounded(stable: float, candidate: float, unit: float) -> bool:
    """To the nearest, or towards 0."""
    apart = abs(stable) - abs(candidate)
    return stable * candidate > 0 and -0.51 * unit <= apart < unit


def _bits(values: Floats) -> NDArray[np.int64]:
    """Of the significand, without the zeros at its end."""
    fractions, _ = np.frexp(np.abs(values))
    whole = (fractions * 2.0**53).astype(np.int64)
    lowest = whole & -whole
    return np.asarray(53 - np.log2(np.maximum(lowest, 1)), dtype=np.int64)


def _digits(value: float) -> tuple[int, float]:
    """Significant decimal digits of the shortest form, and what one unit of the last is."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, rest = mantissa.partition(".")
    digits = (whole + rest).strip("0")
    kept = rest.rstrip("0")
    return len(digits), math.pow(10.0, int(exponent or 0) - len(kept))
