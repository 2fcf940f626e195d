"""Running other programs: every one has a time-out, and what it printed is kept in a log and shown when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

_TAIL_LINES = 25

Argv = Sequence[str | Path]


class BootstrapError(Exception):
    """Something the user has to know about; the message says what was attempted and what to look at."""


def _text(argv: Argv) -> list[str]:
    return [str(argument) for argument in argv]


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(extra or {})}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _finish(process: subprocess.Popen[bytes], timeout: float) -> int:
    try:
        return process.wait(timeout)
    except BaseException:
        _kill_group(process)
        raise


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log, indented for a message."""
    try:
        content = log.read_text(errors="replace").splitlines()
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in content[-lines:])


def run(
    argv: Argv,
    *,
    log: Path,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
) -> None:
    """Run a program to its end, appending what it prints to `log`; raise BootstrapError unless it exits with 0."""
    command = _text(argv)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        sink.write(f"$ {' '.join(command)}\n".encode())
        sink.flush()
        try:
            process = subprocess.Popen(
                command,
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or sink,
                stderr=sink,
                env=_environment(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise BootstrapError(f"cannot start {command[0]}: {error}") from error
        try:
            code = _finish(process, timeout)
        except subprocess.TimeoutExpired as error:
            message = f"{command[0]} did not finish in {timeout:.0f} s\n{tail(log)}\n  whole log: {log}"
            raise BootstrapError(message) from error
    if code != 0:
        shown = " ".join(command)[:300]
        raise BootstrapError(f"exit code {code} from: {shown}\n{tail(log)}\n  whole log: {log}")


def output(
    argv: Argv,
    *,
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Run a short program and return what it printed; raise BootstrapError unless it exits with 0."""
    command = _text(argv)
    try:
        result = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=_environment(env),
            cwd=cwd,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BootstrapError(f"{' '.join(command)[:300]}: {error}") from error
    if result.returncode != 0:
        raise BootstrapError(
            f"exit code {result.returncode} from: {' '.join(command)[:300]}\n    {result.stderr.strip()[-2000:]}"
        )
    return result.stdout


def succeeds(argv: Argv, *, timeout: float = 20, env: Mapping[str, str] | None = None) -> bool:
    """Tell whether a program exits with 0 within the time-out; its output is dropped."""
    try:
        output(argv, timeout=timeout, env=env)
    except BootstrapError:
        return False
    return True


def wait_until(what: str, check: Callable[[], bool], *, timeout: float, interval: float = 0.5) -> None:
    """Poll `check` until it holds; on time-out say what was awaited."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise BootstrapError(f"waited {timeout:.0f} s in vain for: {what}")
        time.sleep(interval)
