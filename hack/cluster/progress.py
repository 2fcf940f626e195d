"""What the bootstrap tells the person who waits for it: one line a step, with the seconds it has taken so far."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_QUIET_INTERVAL = 30.0  # without a terminal, the running step reports once in this many seconds
_open: list[str] = []  # the steps within steps that are running, the outermost first


def _indent() -> str:
    return "  " * len(_open)


def say(message: str) -> None:
    """Print one line of plain information, indented under the step that is running."""
    print(f"{_indent()}{message}", file=sys.stderr, flush=True)


def _tick(title: str, started: float, done: threading.Event) -> None:
    terminal = sys.stderr.isatty()
    while not done.wait(1.0 if terminal else _QUIET_INTERVAL):
        if not _open or _open[-1] != title:
            continue  # the step within this one reports
        elapsed = time.monotonic() - started
        if terminal:
            print(f"\r{_indent()}… {title} ({elapsed:.0f} s)", end="", file=sys.stderr, flush=True)
        else:
            say(f"… {title}: still at it after {elapsed:.0f} s")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Report a step that may take long: its start, its elapsed seconds while it runs, and how it ended."""
    started = time.monotonic()
    say(f"▸ {title}")
    _open.append(title)
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(title, started, done), daemon=True)
    ticker.start()
    outcome = "✗ failed"
    try:
        yield
        outcome = "✓ done"
    finally:
        done.set()
        ticker.join()
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        _open.pop()
        say(f"{outcome}: {title} ({time.monotonic() - started:.1f} s)")
