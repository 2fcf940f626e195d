"""How a value is written, by one name for each way."""

from __future__ import annotations

from typing import Final

TIMESTAMP: Final = "timestamp:"
"""How the names of ways to write a moment begin."""

TIMESTAMPS: Final = {
    "date-time": "date-time",
    "datetime": "date-time",
    "iso8601": "date-time",
    "iso-8601": "date-time",
    "rfc3339": "date-time",
    "rfc-3339": "date-time",
    "date": "date",
    "time": "time",
    "duration": "duration",
    "unix": "unix",
    "unix-time": "unix",
    "unix-s": "unix",
    "epoch": "unix",
    "timestamp": "unix",
    "unix-ms": "unix-ms",
    "unix-time-ms": "unix-ms",
    "epoch-ms": "unix-ms",
    "epoch-millis": "unix-ms",
    "unix-us": "unix-us",
    "unix-ns": "unix-ns",
}
_UTF8 = {"utf-8", "utf8", "text", "plain"}
_SAME = {"byte": "base64", "base-64": "base64", "b64": "base64", "latin1": "latin-1", "iso-8859-1": "latin-1"}


def canonical_encoding(name: str | None, dtype: str) -> str | None:
    """None is text as it stands, or values without any encoding: UTF-8 goes without saying."""
    short = (name or "").strip().lower().replace("_", "-").removeprefix(TIMESTAMP)
    if not short or (short in _UTF8 and dtype != "BYTES"):
        return None
    if short in TIMESTAMPS:
        return TIMESTAMP + TIMESTAMPS[short]
    return "utf-8" if short in _UTF8 else _SAME.get(short, short)


def is_timestamp(encoding: str | None) -> bool:
    return encoding is not None and encoding.startswith(TIMESTAMP)
