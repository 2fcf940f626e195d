"""The figures for people: one row a pace of scrapes and weight."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report import Figures, seconds

_TITLES = (
    ("scrape", "to the first scrape with a failure"),
    ("proof", "to the one that proves it"),
    ("decision", "to the decision"),
    ("write", "to the route"),
    ("proxy", "to the last failed answer"),
)


def table(found: Sequence[Figures]) -> str:
    """Markdown; p50 / max over the runs, in seconds."""
    rows = [["scrape", "weight", "runs", "fault → last failed answer", "failed answers"]]
    rows[0] += [title for _, title in _TITLES] + ["CPU idle, least"]
    rows += [_row(cell) for cell in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def _row(cell: Figures) -> list[str]:
    failed = cell["failed"]
    answers = f"{failed['p50']} / {failed['max']}" if failed["count"] else "–"
    runs = str(failed["count"]) + (f", {cell['errors']} not measured" if cell["errors"] else "")
    shares = [seconds(cell[name], "p50", "max") for name, _ in _TITLES]
    idle = "–" if cell["least_idle"] is None else f"{cell['least_idle']:.0%}"
    head = [f"{cell['interval']} s", str(cell["weight"]), runs, seconds(cell["felt"], "p50", "max"), answers]
    return [*head, *shares, idle]
