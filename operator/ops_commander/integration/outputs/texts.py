"""How alike two texts are, and whether one is the other in a wrong encoding."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

MOST_CELLS: Final = 2_000_000
"""Lengths multiplied: up to it characters are compared, which takes 1 to 2 ms, else words."""
MOST_CELLS_OF_WORDS: Final = 25_000_000
"""Up to it their order matters, else only which there are."""
CELLS_A_STEP: Final = 512

_REPLACEMENT: Final = "\ufffd"
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{6,}={0,2}")


def dissimilarity(stable: str, candidate: str) -> float:
    """Edits over the longer length, in [0, 1]."""
    if stable == candidate:
        return 0.0
    if len(stable) * len(candidate) <= MOST_CELLS:
        return distance(stable, candidate) / max(len(stable), len(candidate))
    mine, theirs = stable.split(), candidate.split()
    least = 1 / max(len(stable), len(candidate))  # they may differ in spaces alone
    if len(mine) * len(theirs) <= MOST_CELLS_OF_WORDS:
        return max(least, distance(mine, theirs) / max(len(mine), len(theirs), 1))
    words, others = Counter(mine), Counter(theirs)
    return max(least, 1.0 - 2.0 * (words & others).total() / (words.total() + others.total()))


def steps(stable: str, candidate: str) -> int:
    """The work of it."""
    cells = len(stable) * len(candidate)
    if cells > MOST_CELLS:
        cells = min(len(stable.split()) * len(candidate.split()), MOST_CELLS_OF_WORDS)
    return 1 + (len(stable) + len(candidate)) // 32 + cells // CELLS_A_STEP


def distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Levenshtein's, a column at a time in the bits of one integer (Myers 1999, as written by Hyyrö 2003)."""
    first, second = _trimmed(first, second)
    if not first or not second:
        return len(first) + len(second)
    places: dict[Hashable, int] = {}
    for number, each in enumerate(first):
        places[each] = places.get(each, 0) | 1 << number
    mask, top = (1 << len(first)) - 1, 1 << (len(first) - 1)
    plus, minus, edits = mask, 0, len(first)
    for each in second:
        same = places.get(each, 0)
        diagonal = (((same & plus) + plus) ^ plus) | same | minus
        right_plus = minus | ~(diagonal | plus) & mask
        right_minus = diagonal & plus & mask
        if right_plus & top:
            edits += 1
        elif right_minus & top:
            edits -= 1
        right_plus = right_plus << 1 | 1
        right_minus <<= 1
        plus = (right_minus | ~(diagonal | right_plus)) & mask
        minus = right_plus & diagonal & mask
    return edits


def _trimmed(first: Sequence[Hashable], second: Sequence[Hashable]) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
    """Without what both begin and end with."""
    most = min(len(first), len(second))
    start = next((at for at in range(most) if first[at] != second[at]), most)
    rest = most - start
    end = next((at for at in range(rest) if first[-1 - at] != second[-1 - at]), rest)
    return first[start : len(first) - end], second[start : len(second) - end]


def wrong_encoding(stable: str, candidate: str) -> str | None:
    """What the candidate's text is of stable's, if it is the same in another encoding."""
    if stable == candidate:
        return None
    if candidate.count(_REPLACEMENT) > stable.count(_REPLACEMENT):
        return "has U+FFFD, which stands for bytes that were no text"
    if stable.isascii() and candidate.isascii():
        return _other_ascii(stable, candidate)
    if unicodedata.normalize("NFC", stable) == unicodedata.normalize("NFC", candidate):
        return "the same characters in another normal form of Unicode"
    for charset in ("cp1252", "latin-1"):
        if _misread(stable, charset) == candidate:
            return f"UTF-8 that was read as {charset}"
    if _misread(candidate, "cp1252") == stable:
        return "no longer UTF-8 that was read as cp1252"
    return _other_ascii(stable, candidate)


def _misread(text: str, charset: str) -> str | None:
    try:
        return text.encode("utf-8").decode(charset)
    except UnicodeError:
        return None


def _other_ascii(stable: str, candidate: str) -> str | None:
    if _standard(stable) == _standard(candidate) and _BASE64.fullmatch(stable) and _BASE64.fullmatch(candidate):
        return "base64 with another alphabet or padding"
    if _decoded(candidate) == stable:
        return "base64 of the text"
    if _decoded(stable) == candidate:
        return "the text itself, where stable has base64 of it"
    if json.dumps(stable)[1:-1] == candidate:
        return "escaped twice for JSON"
    if "&" in candidate and html.unescape(candidate) == stable:
        return "escaped for HTML"
    return None


def _standard(text: str) -> str:
    return text.rstrip("=").replace("-", "+").replace("_", "/")


def _decoded(text: str) -> str | None:
    if not _BASE64.fullmatch(text):
        return None
    plain = _standard(text)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
