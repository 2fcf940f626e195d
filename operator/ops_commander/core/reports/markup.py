"""Markdown from parts that others wrote: whatever a text holds, it stays within its cell or line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

MOST_CHARACTERS: Final = 400
"""Of one text of others."""
ABSENT: Final = "—"

_SIGNS: Final = re.compile(r"[\\`*\[\]~|$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ENTITY: Final = re.compile(r"&(?=#|[A-Za-z])")
_BEFORE_PIPE: Final = re.compile(r"\\+(?=\|)")
_TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")


def plain(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text of others in one line, in which nothing begins markup, HTML or another cell."""
    signs = _SIGNS.sub(r"\\\g<0>", _ENTITY.sub("&amp;", one_line(text, most)))
    return _TAG.sub("&lt;", signs)


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """Without line breaks and control characters, and no longer than `most`."""
    clean = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def code(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text of others as a code span in a line."""
    clean = one_line(text, most).replace("`", "'")
    return f"`{clean}`" if clean else ABSENT


def cell_code(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text of others as a code span in a cell of a table, where a pipe ends the cell in code too."""
    return _BEFORE_PIPE.sub("/", code(text, most)).replace("|", "\\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table. The cells are Markdown already; an empty one is a dash."""
    lines = [_row(header), _row(["---"] * len(header))]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells: expected {len(header)}, as the header {' · '.join(header)}")
        lines.append(_row(row))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell or ABSENT for cell in cells)} |"


def section(title: str, *blocks: Sequence[str]) -> list[str]:
    """A heading and its blocks of lines, each after an empty line."""
    lines = [f"## {title}"]
    for block in blocks:
        if block:
            lines += ["", *block]
    return [*lines, ""]


def first_words(text: str, most: int) -> str:
    """No more than so many words."""
    words = text.split()
    return text if len(words) <= most else f"{' '.join(words[: most - 1])} …"
