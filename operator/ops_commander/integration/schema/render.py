"""The diff for people: an aligned table, or Markdown."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from ops_commander.integration.schema.report import ApiSchemaDiff, DiffChange, Verdict

MOST_ROWS: Final = 200
_MOST_IN_CELL: Final = 48
_HEADER: Final = ("SEVERITY", "DIRECTION", "KIND", "PATH", "BEFORE", "AFTER")
_RED, _YELLOW, _GREEN, _BOLD, _FAINT, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


def text(diff: ApiSchemaDiff, *, colour: bool = False) -> str:
    """An aligned table, with a line below each change on whom it breaks."""
    paint = _paint if colour else _leave
    tone = _RED if diff.verdict is Verdict.BREAKING else _GREEN
    lines = [
        f"{diff.tool}: {paint(diff.verdict.upper(), _BOLD + tone)}, schema drift S = {diff.schema_drift:.4f}",
        *(
            f"{label:<9}  {printable(item.file)}  {item.format}  sha256 {item.sha256[:12]}…"
            for label, item in (("baseline", diff.baseline), ("candidate", diff.candidate))
        ),
        *(f"note       {printable(note)}" for note in diff.notes),
        "",
    ]
    if not diff.changes:
        return "\n".join([*lines, "No changes."]) + "\n"
    shown = diff.changes[:MOST_ROWS]
    rows = [_row(change) for change in shown]
    widths = [max(_width(row[column]) for row in (_HEADER, *rows)) for column in range(len(_HEADER))]
    lines.append(paint(_aligned(_HEADER, widths), _BOLD))
    for change, row in zip(shown, rows, strict=True):
        lines.append(paint(_aligned(row, widths), _tone(change.severity, diff.fail_on)))
        lines.append(paint(f"{'':>8}  {_why(change)}", _FAINT))
    lines += ["", _summary(diff)]
    return "\n".join(lines) + "\n"


def markdown(diff: ApiSchemaDiff) -> str:
    """For a pull request or a report."""
    lines = [
        f"## API schema diff: {diff.verdict}",
        "",
        f"Schema drift S = **{diff.schema_drift:.4f}**. {_summary(diff)}",
        "",
        "| | File | Format | sha256 |",
        "|---|---|---|---|",
        *(
            f"| {label} | {_code(item.file)} | {item.format} | `{item.sha256}` |"
            for label, item in (("baseline", diff.baseline), ("candidate", diff.candidate))
        ),
        "",
    ]
    lines += [f"- {_cell(note)}" for note in diff.notes] + ([""] if diff.notes else [])
    if diff.changes:
        lines += ["| Severity | Direction | Kind | Path | Before | After | Why |", "|---|---|---|---|---|---|---|"]
        lines += [_markdown_row(change) for change in diff.changes[:MOST_ROWS]]
        lines.append("")
    return "\n".join([*lines, f"<sub>{diff.tool}</sub>"]) + "\n"


def _summary(diff: ApiSchemaDiff) -> str:
    total = len(diff.changes)
    breaking = sum(change.severity >= diff.fail_on for change in diff.changes)
    said = (
        f"{total} change{'' if total == 1 else 's'}, {breaking} of them breaking (severity {diff.fail_on:g} or more)."
    )
    hidden = total - MOST_ROWS
    return f"{said} {hidden} more are in the JSON file." if hidden > 0 else said


# --- text ----------------------------------------------------------------------------------------


def _row(change: DiffChange) -> tuple[str, ...]:
    cells = (_value(change.before), _value(change.after))
    return (f"{change.severity:.2f}", change.direction, change.kind, _path(change), *cells)


def _path(change: DiffChange) -> str:
    return printable(change.path) if change.path else "(whole)"


def _why(change: DiffChange) -> str:
    return printable(change.why + (f" ({change.hint})" if change.hint else ""))


def _value(value: JsonValue) -> str:
    if value is None:
        return "–"
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    said = printable(said)
    return f"{said[: _MOST_IN_CELL - 1]}…" if len(said) > _MOST_IN_CELL else said


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [" " * (widths[0] - _width(row[0])) + row[0]]
    cells += [cell + " " * (width - _width(cell)) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join(cells).rstrip()


def _width(cell: str) -> int:
    """Columns on a terminal."""
    if cell.isascii():
        return len(cell)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in cell
    )


def printable(said: str) -> str:
    """Names come from files of others: nothing in them may move the cursor or turn the text around."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in said)


def _tone(severity: float, fail_on: float) -> str:
    return _RED if severity >= fail_on else _YELLOW if severity > 0 else _GREEN


def _paint(said: str, tone: str) -> str:
    return f"{tone}{said}{_PLAIN}"


def _leave(said: str, _: str) -> str:
    return said


# --- Markdown ------------------------------------------------------------------------------------


def _markdown_row(change: DiffChange) -> str:
    values = (_code(_value(change.before)), _code(_value(change.after)))
    cells = (
        f"{change.severity:g}",
        change.direction,
        _code(change.kind),
        _code(_path(change)),
        *values,
        _cell(_why(change)),
    )
    return f"| {' | '.join(cells)} |"


def _code(said: str) -> str:
    """As code that ends where it should, in a cell that ends where it should."""
    clean = printable(said).replace("|", "\\|")
    if "`" not in clean:
        return f"`{clean}`"
    longest = max(len(run) for run in "".join(letter if letter == "`" else " " for letter in clean).split())
    fence = "`" * (longest + 1)
    return f"{fence} {clean} {fence}"


def _cell(said: str) -> str:
    clean = printable(said)
    for mark in "\\|<>*_[]`":
        clean = clean.replace(mark, f"\\{mark}")
    return clean
