"""Files that a vote rests on: they are there, unchanged, young enough, and of a run that is named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ops_commander.api.ballot import VoteEvidence
from ops_commander.api.fields import format_duration
from ops_commander.integration.documents import BadInput, Document, Place, inside, load_yaml, read_bytes, read_text
from ops_commander.integration.handoffs.reports import API_VERSION, KINDS, Artifact, Handoff, Report

MAX_REPORT: Final = 512 * 1024
MAX_FILE: Final = 256 * 1024 * 1024
AHEAD: Final = timedelta(minutes=5)
"""How far ahead of ours the clock of a report's author may be."""

_TEXT: Final = (".yaml", ".yml", ".json")
_STEP: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Terms:
    """What evidence must be like."""

    now: datetime
    max_age: timedelta
    deployment_id: str | None = None
    """The deployment that is voted on; a report on another one is refused."""


@dataclass(frozen=True, slots=True)
class Proved:
    """Evidence that was verified, and what in it speaks against going on."""

    evidence: tuple[VoteEvidence, ...]
    against: tuple[str, ...] = ()


def prove(given: str, terms: Terms) -> Proved:
    """Verify `FILE` or `FILE@RUN_ID`; the run of a report is the one that it names. Raises BadInput."""
    path, run_id = _split(given)
    size, changed = _stat(path, str(path))
    if path.suffix in _TEXT and size <= MAX_REPORT and API_VERSION.encode() in read_bytes(path, MAX_REPORT):
        return _report(path, run_id, terms)
    if run_id is None:
        raise BadInput(str(path), "", "names no run", "FILE@RUN_ID, or a report of ops-commander.dev/handoff/v1")
    checksum = sha256_of(path)
    _check_age(str(path), "", changed, terms, terms.max_age)
    item = VoteEvidence(kind="file", path=str(path), sha256=checksum, run_id=run_id, created_at=changed)
    return Proved((item,))


def read_report(path: Path) -> tuple[Report, Document, str]:
    """A report, where each of its values stands, and the sha256 of its bytes. Raises BadInput."""
    text = read_text(path, MAX_REPORT)
    document = load_yaml(text.text, text.file)
    if not isinstance(document.value, dict):
        raise BadInput(text.file, document.position(()), "is no mapping", f"a report of {API_VERSION}")
    try:
        report = Handoff.model_validate(document.value).root
    except ValidationError as error:
        raise _bad_input(text.file, document, error.errors(include_url=False)) from error
    return report, document, text.sha256


def sha256_of(path: Path, name: str | None = None) -> str:
    """Of a file that may be large. Raises BadInput where it cannot be read or is too large."""
    size, _ = _stat(path, name or str(path))
    if size <= _STEP:
        return hashlib.sha256(read_bytes(path, _STEP, name)).hexdigest()
    if size > MAX_FILE or not path.is_file():
        raise BadInput(name or str(path), "", f"has {size} bytes", f"a file of at most {MAX_FILE}")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _stat(path: Path, name: str) -> tuple[int, datetime]:
    """A file's size and when it was last changed."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else None
        raise BadInput(name, "", said or str(error), "a file that can be read") from error
    return found.st_size, datetime.fromtimestamp(found.st_mtime, UTC)


def _split(given: str) -> tuple[Path, str | None]:
    """A file whose own name has an @ is one that exists."""
    before, found, after = given.rpartition("@")
    if not found or Path(given).exists():
        return Path(given), None
    if not before or not after.strip() or len(after) > 250:
        raise BadInput(given, "", "is no file and run id", "FILE or FILE@RUN_ID")
    return Path(before), after


def _report(path: Path, run_id: str | None, terms: Terms) -> Proved:
    report, document, checksum = read_report(path)
    file = str(path)
    if run_id is not None and run_id != report.run_id:
        raise BadInput(file, document.position(("runId",)), f"is of run {report.run_id}", f"run {run_id}")
    wanted = terms.deployment_id
    if wanted and report.deployment_id and report.deployment_id != wanted:
        raise BadInput(file, document.position(("deploymentId",)), f"is for {report.deployment_id}", wanted)
    place = document.position(("createdAt",))
    _check_age(file, place, report.created_at, terms, min(report.max_age or terms.max_age, terms.max_age))
    kind = str(document.value["kind"])
    item = VoteEvidence(
        kind=kind,
        path=file,
        sha256=checksum,
        run_id=report.run_id,
        created_at=report.created_at,
        summary=(report.summary or "; ".join(report.against()))[:1024] or None,
    )
    files = [
        _artifact(path, report, each, document, ("artifacts", index)) for index, each in enumerate(report.artifacts)
    ]
    return Proved((item, *files), tuple(f"{path.name}: {said}" for said in report.against()))


def _artifact(path: Path, report: Report, artifact: Artifact, document: Document, place: Place) -> VoteEvidence:
    """A file beside the report must be the very one; one elsewhere is noted with the checksum that it must have."""
    if artifact.path is not None:
        where = document.position((*place, "path"))
        found = sha256_of(inside(path.parent, artifact.path, str(path), where), f"{path}: {where}: {artifact.path}")
        if found != artifact.sha256.lower():
            problem = f"sha256 of {artifact.path} is {found}"
            raise BadInput(str(path), document.position((*place, "sha256")), problem, artifact.sha256)
    return VoteEvidence(
        kind="artifact",
        path=artifact.path,
        uri=artifact.uri,
        sha256=artifact.sha256.lower(),
        run_id=artifact.run_id or report.run_id,
        created_at=artifact.created_at or report.created_at,
        summary=None if artifact.path else "not fetched: its checksum is the one that the report states",
    )


def _check_age(file: str, place: str, made: datetime, terms: Terms, most: timedelta) -> None:
    age = terms.now - made
    if age > most:
        said = format_duration(timedelta(seconds=int(age.total_seconds())))
        raise BadInput(file, place, f"is {said} old", f"at most {format_duration(most)}")
    if age < -AHEAD:
        raise BadInput(file, place, f"is of {made.isoformat()}, which is still to come", "a time in the past")


def _bad_input(file: str, document: Document, errors: list[Any]) -> BadInput:
    """The first error; how many others there are."""
    first: Mapping[str, Any] = errors[0]
    place: Place = tuple(part for part in first["loc"] if part not in KINDS)
    more = f" ({len(errors) - 1} more after it)" if len(errors) > 1 else ""
    problem, expected = _said(first)
    return BadInput(file, document.position(place), problem, expected + more)


def _said(error: Mapping[str, Any]) -> tuple[str, str]:
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if kind.startswith("union_tag"):
        return "is no kind of report", f"kind: one of {', '.join(KINDS)}"
    if kind == "missing":
        return "is missing", "a value"
    if kind == "extra_forbidden":
        return "is not a field", "one of the fields of this kind of report"
    problem, found, expected = message.partition(": expected ")
    return (problem, expected) if found else (f"is {str(error['input'])[:100]!r}", message[:1].lower() + message[1:])
