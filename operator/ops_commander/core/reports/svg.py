"""A small SVG writer: escaped text, numbers that are finite, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from ops_commander.core.reports.markup import one_line

FONT: Final = "font-family:system-ui,sans-serif;font-size:12px"
INK, FAINT, GRID, BAND, LINE, BAD = "#1f2328", "#656d76", "#d0d7de", "#b6d4fe", "#0969da", "#cf222e"
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})


def escaped(text: str, most: int = 120) -> str:
    """For the content of an element or an attribute."""
    return one_line(text, most).translate(_ESCAPES)


def number(value: float) -> str:
    """A coordinate. Raises ValueError for one that is none."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no coordinate: expected a finite number")
    return f"{value:.2f}".rstrip("0").rstrip(".")


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """An element; `content` is SVG already. `_` in names of attributes stands for `-`."""
    said = "".join(
        f' {key.replace("_", "-")}="{escaped(value, 100_000) if isinstance(value, str) else number(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{said}>{content}</{name}>" if content else f"<{name}{said}/>"


def text(x: float, y: float, said: str, *, fill: str = INK, anchor: str = "start", most: int = 120) -> str:
    return element("text", escaped(said, most), x=x, y=y, fill=fill, text_anchor=anchor, style=FONT)


def line(x1: float, y1: float, x2: float, y2: float, *, stroke: str = GRID, width: float = 1, dash: str = "") -> str:
    extra = {"stroke_dasharray": dash} if dash else {}
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, stroke_width=width, **extra)


def path(points: Iterable[tuple[float, float]], *, stroke: str = LINE, fill: str = "none") -> str:
    drawn = " L".join(f"{number(x)},{number(y)}" for x, y in points)
    return element("path", d=f"M{drawn}", stroke=stroke, fill=fill, stroke_width=2) if drawn else ""


def document(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """The whole file. The title is what screen readers say."""
    background = element("rect", x=0, y=0, width=width, height=height, fill="#ffffff")
    body = "\n".join([element("title", escaped(title)), background, *(part for part in parts if part)])
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{number(width)}" height="{number(height)}"'
        f' viewBox="0 0 {number(width)} {number(height)}" role="img">\n{body}\n</svg>\n'
    )
