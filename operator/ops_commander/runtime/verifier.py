"""Verification in a process of its own: short-lived, limited, and killed with all that it started when time is up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from ops_commander.api.verification import VerificationStatus, VerifiedFile
from ops_commander.integration.documents import printable
from ops_commander.integration.verification_request import Recheck, VerificationRequest
from ops_commander.runtime.verifications import NotVerifiedNow

COMMAND: Final = (sys.executable, "-m", "ops_commander.cli.main", "verify")
_MAX_ANSWER: Final = 4 * 1024 * 1024
_TAIL: Final = 2000
_PIECE: Final = 65536
_LAST_WORDS: Final = 5.0
_PASSED_ON: Final = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Of the environment: no credentials of the operator, because the process reads files of strangers."""

_Answer = TypeVar("_Answer", bound=BaseModel)


class Verifier:
    """Runs `ops-commander verify`, a few at once. Nothing of a candidate is read in this process."""

    def __init__(
        self, *, at_once: int = 2, timeout: timedelta = timedelta(minutes=10), command: Sequence[str] = COMMAND
    ) -> None:
        """`timeout` is that of one process, from its start."""
        self._slots = asyncio.Semaphore(at_once)
        self._timeout = timeout
        self._command = tuple(command)

    async def verify(self, request: VerificationRequest) -> VerificationStatus:
        """What was found of the files. Raises NotVerifiedNow."""
        return _parsed(VerificationStatus, await self._run(request))

    async def recheck(self, request: VerificationRequest, files: Sequence[VerifiedFile]) -> list[str]:
        """What is not as it was verified; empty where nothing has changed. Raises NotVerifiedNow.

        `request.model` names the version that was verified, and its run: no alias is followed.
        """
        again = request.model_copy(update={"recheck": list(files)})
        found = _parsed(Recheck, await self._run(again))
        if found.unchanged != (not found.problems):
            raise NotVerifiedNow("the process that verifies contradicts itself: expected problems where files changed")
        return found.problems

    async def _run(self, request: VerificationRequest) -> bytes:
        async with self._slots:
            folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="ops-commander-verifier-")
            try:
                return await self._answer(request.model_dump_json(by_alias=True).encode(), folder.name)
            finally:
                # A process that was killed has left its files.
                await asyncio.shield(asyncio.to_thread(folder.cleanup))

    async def _answer(self, request: bytes, folder: str) -> bytes:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**environment, "TMPDIR": folder},
                start_new_session=True,
            )
        except OSError as error:
            raise NotVerifiedNow(f"the process that verifies does not start: {error}") from error
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                answer, said = await _talk(process, request)
                code = await process.wait()
        except TimeoutError as error:
            seconds = self._timeout.total_seconds()
            await _end(process)
            raise NotVerifiedNow(f"verification took more than {seconds:g} s and was stopped") from error
        except BaseException:
            await _end(process)
            raise
        if code != 0:
            raise NotVerifiedNow(f"{_ended(code)}: {said or 'it said nothing'}")
        return answer


async def _talk(process: asyncio.subprocess.Process, request: bytes) -> tuple[bytes, str]:
    """What it answers, and the end of what it says besides."""
    assert process.stdin and process.stdout and process.stderr
    stdin = process.stdin
    with suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(request)
        await stdin.drain()
    stdin.close()
    answer, said = await asyncio.gather(_first(process.stdout, _MAX_ANSWER + 1), _last(process.stderr, _TAIL))
    if len(answer) > _MAX_ANSWER:
        raise NotVerifiedNow(f"the process that verifies answers more than {_MAX_ANSWER} bytes: expected fewer")
    return answer, printable(" ".join(said.decode(errors="replace").split()), _TAIL)


async def _first(stream: asyncio.StreamReader, limit: int) -> bytes:
    """To the end, beyond the limit too: a process is only seen to end once its pipes have been read."""
    found = bytearray()
    while piece := await stream.read(_PIECE):
        found += piece[: limit - len(found)]
    return bytes(found)


async def _last(stream: asyncio.StreamReader, limit: int) -> bytes:
    found = b""
    while piece := await stream.read(_PIECE):
        found = (found + piece)[-limit:] if limit else b""
    return found


async def _end(process: asyncio.subprocess.Process) -> None:
    """The whole group, which may outlive its leader. One who has left it and holds a pipe is not waited for."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    assert process.stdout and process.stderr
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS):
            await asyncio.gather(_last(process.stdout, 0), _last(process.stderr, 0))
            await process.wait()


def _ended(code: int) -> str:
    if code == 3:
        return "cannot be verified now"
    if code < 0:
        return f"the process that verifies was ended by {signal.Signals(-code).name}"
    return f"the process that verifies ended with exit code {code}"


def _parsed(model: type[_Answer], answer: bytes) -> _Answer:
    try:
        return model.model_validate_json(answer)
    except ValidationError as error:
        text = printable(str(error), 300)
        raise NotVerifiedNow(f"the process that verifies answers no {model.__name__}: {text}") from error
