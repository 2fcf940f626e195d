"""What a comparison of two answers finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Path = tuple[str | int, ...]
"""Keys of objects and indexes of arrays, from the root of an answer."""

MOST_FINDINGS_OF_A_KIND: Final = 3


class Kind(StrEnum):
    """Silent regressions: the answer still looks like one, and is worse."""

    PRECISION_LOSS = "precision_loss"
    FIELD_DROP = "field_drop"
    ENCODING_MISMATCH = "encoding_mismatch"
    NON_FINITE = "non_finite"
    DTYPE = "dtype"
    CONTENT_TYPE = "content_type"
    SHAPE = "shape"
    STATUS = "status"
    ORDER = "order"


@dataclass(frozen=True, slots=True)
class Finding:
    """One regression, where it was, and what was seen. The values are the users': redact them before they are shown."""

    kind: Kind
    path: Path
    said: str
    """What it is, in words without values."""
    stable: Any = None
    candidate: Any = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The place at which the answers are furthest apart."""

    path: Path
    deviation: float
    stable: Any
    candidate: Any


@dataclass(frozen=True, slots=True)
class Compared:
    """A pair that counts."""

    deviation: float
    """In [0, 1]: the largest of all leaves; 1 for most regressions."""
    kinds: frozenset[Kind] = frozenset()
    findings: tuple[Finding, ...] = ()
    """A few of each kind."""
    worst: Difference | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A pair that does not count, and why."""

    reason: str
    """One of SKIP_REASONS."""
    detail: str


SKIP_REASONS: Final = (
    "stable_unreachable",
    "stable_timeout",
    "stable_status",
    "stable_unreadable",
    "unsupported_type",
    "encoded",
    "streaming",
    "too_large",
    "too_deep",
    "too_much_work",
    "internal",
)


class Skip(Exception):
    """A pair cannot be judged."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def pointer(path: Path) -> str:
    """A JSON pointer."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path) or "/"
