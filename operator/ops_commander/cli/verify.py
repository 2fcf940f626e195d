"""`ops-commander verify`: what the operator runs as a process of its own, so that it reads no file of a stranger."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import tempfile
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import ValidationError

from ops_commander.adapters import candidate_files
from ops_commander.adapters.mlflow_artifacts import ArtifactError, MLflowArtifacts, Unreachable
from ops_commander.api.verification import EvidenceFile, VerificationStatus
from ops_commander.integration import preflight_report
from ops_commander.integration.dependencies import report as lock_report
from ops_commander.integration.documents import printable
from ops_commander.integration.preflight_report import PreflightReport
from ops_commander.integration.verification import rejected, verify
from ops_commander.integration.verification_request import Recheck, VerificationRequest
from ops_commander.runtime import clock

BAD_REQUEST: Final = 2
NOT_NOW: Final = 3
_MAX_REQUEST: Final = 4 * 1024 * 1024
_MEMORY: Final = 4 * 1024**3
_SPARE: Final = 16 * 1024 * 1024
_POLITE: Final = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Reads one request as JSON from stdin and answers with one JSON document. "
        "Exit code 0: answered, whatever the verdict; 2: bad request; 3: cannot be done now, try again."
    )
    parser.add_argument(
        "--memory", type=int, default=_MEMORY, metavar="BYTES", help="address space of the process (default: 4 GiB)"
    )
    parser.set_defaults(handle=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    try:
        text = sys.stdin.buffer.read(_MAX_REQUEST + 1)
        if len(text) > _MAX_REQUEST:
            raise ValueError(f"the request has more than {_MAX_REQUEST} bytes: expected fewer")
        request = VerificationRequest.model_validate_json(text)
    except ValueError as error:
        return _failed(_said(error), BAD_REQUEST)
    _limit(request, arguments.memory)
    try:
        with tempfile.TemporaryDirectory(prefix="ops-commander-verify-") as folder:
            found = asyncio.run(answer(request, Path(folder)))
    except (ArtifactError, OSError) as error:
        return _failed(str(error), NOT_NOW)
    except MemoryError:
        return _failed(f"out of memory: expected more than --memory {arguments.memory}", NOT_NOW)
    sys.stdout.write(found.model_dump_json(by_alias=True) + "\n")
    return 0


def _failed(message: str, code: int) -> int:
    print(f"ops-commander verify: {printable(message, 1000)}", file=sys.stderr)
    return code


def _said(error: ValueError) -> str:
    """The first thing that is wrong: field, what is wrong with it, and its value."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the request"
    return f"{place}: {first['msg']}: found {str(first['input'])[:200]!r}"


def _limit(request: VerificationRequest, memory: int) -> None:
    """A file that is made to be costly costs this process only, and the operator comes first."""
    os.nice(_POLITE)
    for kind, wanted in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, request.max_file + _SPARE)):
        _, hard = resource.getrlimit(kind)
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


async def answer(request: VerificationRequest, folder: Path) -> VerificationStatus | Recheck:
    """The answer to a request; an empty folder is filled.

    Raises Unreachable, and OSError where files cannot be kept.
    """
    mlflow = MLflowArtifacts(request.mlflow_url)
    try:
        if request.recheck is not None:
            return await candidate_files.recheck(mlflow, request, request.recheck)
        return await _verified(mlflow, request, folder, clock.now())
    finally:
        await mlflow.close()


async def _verified(
    mlflow: MLflowArtifacts, request: VerificationRequest, folder: Path, now: datetime
) -> VerificationStatus:
    try:
        candidate = await candidate_files.fetch(mlflow, request, folder)
    except candidate_files.Refused as error:
        return rejected(request, now, [error.veto], error.candidate)
    status, report = verify(request, candidate, now)
    if report is None:
        return status
    evidence = [
        await _kept(mlflow, candidate.run_id, str(PurePosixPath(request.evidence_path, name)), text)
        for name, text in _reports(report).items()
    ]
    return status.model_copy(update={"evidence": evidence})


def _reports(report: PreflightReport) -> dict[str, str]:
    return {
        "preflight.json": preflight_report.as_json(report),
        "preflight.md": preflight_report.as_markdown(report),
        "api_schema_diff.json": report.schema_diff.to_json(),
        "lock_diff.json": lock_report.as_json(report.lock_diff),
    }


async def _kept(mlflow: MLflowArtifacts, run_id: str, path: str, text: str) -> EvidenceFile:
    try:
        sha256 = await mlflow.upload(run_id, path, text.encode())
    except Unreachable:
        raise
    except ArtifactError as error:
        raise Unreachable(f"report not kept: {error}") from error
    return EvidenceFile(run_id=run_id, path=path, sha256=sha256, written_at=clock.now())
