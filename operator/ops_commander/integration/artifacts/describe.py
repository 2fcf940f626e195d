"""An artifact in, a report out. The file is opened once, read as bytes, and never loaded."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from ops_commander.api.fields import format_time
from ops_commander.integration.artifacts import archives, gguf, keras, numpy_files, onnx, packed, pickles, safetensors
from ops_commander.integration.artifacts.binary import CHUNK, Reader
from ops_commander.integration.artifacts.findings import (
    ArtifactReport,
    Finding,
    Format,
    Limits,
    Malformed,
    Notes,
    Policy,
    Severity,
)
from ops_commander.integration.documents import BadInput, canonical_json, load_json

PICKLE_BEARING: Final = frozenset({Format.PICKLE, Format.PYTORCH, Format.TORCHSCRIPT})
_HEAD: Final = 4096
_TAIL: Final = 65_557
_MAX_JSON: Final = 64 * 1024 * 1024
_CLOCKS_DIFFER: Final = timedelta(minutes=5)
_SEVERITIES: Final = (Severity.REFUSED, Severity.WARNING, Severity.INFO)


def describe(
    path: Path,
    policy: Policy | None = None,
    *,
    now: datetime | None = None,
    created: datetime | None = None,
    name: str | None = None,
    limits: Limits | None = None,
) -> ArtifactReport:
    """What a file is, and whether the policy takes it. Its age is that of `created`, or else of its last change.

    Raises BadInput where there is no file to read.
    """
    file = name or str(path)
    try:
        # Without O_NONBLOCK a FIFO would wait for ever for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            before = os.fstat(stream.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise BadInput(file, "", "is no regular file", "a file")
            notes = Notes(policy or Policy(), limits or Limits())
            modified = datetime.fromtimestamp(before.st_mtime, UTC)
            report = _described(stream, before.st_size, file, notes, path.resolve().parent)
            after = os.fstat(stream.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                notes.refuse("ChangedWhileRead", "the file was changed while it was read: expected it to rest")
    except OSError as error:
        raise BadInput(file, "", error.strerror or str(error), "a file that can be read") from error
    _check_age(created or modified, now, notes)
    return report.model_copy(update={"modified": modified, "findings": _sorted(notes)})


def describe_stream(
    stream: BinaryIO, size: int, name: str, policy: Policy | None = None, limits: Limits | None = None
) -> ArtifactReport:
    """The same of a stream that can be searched; files beside it are judged by their names alone."""
    notes = Notes(policy or Policy(), limits or Limits())
    report = _described(stream, size, name, notes, None)
    return report.model_copy(update={"findings": _sorted(notes)})


def sha256_of(stream: BinaryIO) -> str:
    """From the start, a piece at a time."""
    stream.seek(0)
    digest = hashlib.sha256()
    while data := stream.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()


def config_checksum(value: object) -> str:
    """sha256 of the canonical JSON: the same for a config however it is spaced and ordered.

    Raises ValueError for what JSON cannot say.
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _described(stream: BinaryIO, size: int, name: str, notes: Notes, folder: Path | None) -> ArtifactReport:
    checksum = sha256_of(stream)
    form = _checked(stream, size, notes, folder)
    _check_policy(form, checksum, notes)
    return ArtifactReport(
        path=name,
        format=form,
        size=size,
        sha256=checksum,
        tensors=notes.tensors,
        imports=list(notes.imports.values()),
        external=notes.external,
        details=notes.details,
    )


def _sorted(notes: Notes) -> list[Finding]:
    return sorted(notes.findings, key=lambda each: _SEVERITIES.index(each.severity))


def _checked(stream: BinaryIO, size: int, notes: Notes, folder: Path | None) -> Format:
    stream.seek(0)
    head = stream.read(_HEAD)
    try:
        form = _by_content(stream, head, size, notes, folder)
    except Malformed as error:
        notes.malformed(error)
        form = _named_by(head)
    if not archives.is_zip(head):
        stream.seek(max(0, size - _TAIL))
        if archives.tail_is_zip(stream.read(_TAIL)):
            notes.refuse("Polyglot", "the file ends as a zip archive: expected one format", max(0, size - _TAIL))
    return form


def _by_content(stream: BinaryIO, head: bytes, size: int, notes: Notes, folder: Path | None) -> Format:
    stream.seek(0)
    if archives.is_zip(head):
        return archives.check(stream, size, notes)
    if head.startswith(numpy_files.MAGIC):
        return numpy_files.check(stream, size, notes)
    if head.startswith(keras.HDF5_MAGIC):
        keras.check_hdf5(stream, notes)
        return Format.HDF5
    checks: dict[Format, Callable[[], None]] = {
        Format.GGUF: lambda: gguf.check(Reader(stream, size), notes),
        Format.SAFETENSORS: lambda: safetensors.check(Reader(stream, size), notes),
        Format.ONNX: lambda: onnx.check(Reader(stream, size), notes, folder),
    }
    form = _named_by(head)
    if form in checks and (form is not Format.ONNX or _is_onnx(stream, size)):
        checks[form]()
        return form
    if packing := packed.packing_of(head):
        return _packed(stream, packing, size, notes)
    stream.seek(0)
    return _text_or_pickle(stream, head, size, notes)


def _named_by(head: bytes) -> Format:
    """By the first bytes, for what cannot be read further."""
    if head.startswith(gguf.MAGIC):
        return Format.GGUF
    if safetensors.is_safetensors(head):
        return Format.SAFETENSORS
    if head.startswith(numpy_files.MAGIC):
        return Format.NPY
    if archives.is_zip(head):
        return Format.ZIP
    if pickles.looks_like_pickle(head):
        return Format.PICKLE
    return Format.ONNX if head[:1] == b"\x08" else Format.UNKNOWN


def _is_onnx(stream: BinaryIO, size: int) -> bool:
    """Protobuf has no magic: a small walk that fails at once says that it is something else."""
    notes = Notes(limits=Limits(values=10_000))
    try:
        onnx.check(Reader(stream, size), notes, None)
    except Malformed:
        return "irVersion" in notes.details
    return True


def _packed(stream: BinaryIO, packing: str, size: int, notes: Notes) -> Format:
    """joblib packs pickles; nothing else that is packed is a checkpoint."""
    if packing == "unsupported":
        raise Malformed("UnknownPacking", "packed with lz4 or zstd: expected gzip, zlib, bz2 or xz", 0)
    notes.details["packing"] = packing
    stream.seek(0)
    with packed.unpack(stream, packing, size, notes) as unpacked:
        pickles.scan(unpacked, notes, packing)
    return Format.PICKLE if notes.imports or not notes.findings else Format.UNKNOWN


def _text_or_pickle(stream: BinaryIO, head: bytes, size: int, notes: Notes) -> Format:
    if pickles.looks_like_pickle(head):
        pickles.scan(stream, notes)
        return Format.PICKLE
    if head.lstrip()[:1] in (b"{", b"["):
        return _json(stream, size)
    # Protocols 0 and 1 have no mark. What imports before it breaks has run, and counts as a pickle.
    tried = Notes(notes.policy, notes.limits)
    ended = pickles.scan(stream, tried)
    if ended or tried.imports:
        notes.findings += tried.findings
        notes.imports |= tried.imports
        return Format.PICKLE
    return Format.UNKNOWN


def _json(stream: BinaryIO, size: int) -> Format:
    if size > _MAX_JSON:
        raise Malformed("TooLarge", f"JSON of {size} bytes: expected at most {_MAX_JSON}", 0)
    try:
        load_json(stream.read(size).decode("utf-8"), "file")
    except UnicodeDecodeError as error:
        raise Malformed("MalformedJson", "is not UTF-8", error.start) from error
    except BadInput as error:
        raise Malformed("MalformedJson", f"{error.position} {error.problem}: expected {error.expected}") from error
    return Format.JSON


def _check_policy(form: Format, checksum: str, notes: Notes) -> None:
    policy = notes.policy
    if policy.sha256 is not None and policy.sha256.lower() != checksum:
        notes.refuse("ChecksumMismatch", f"sha256 is {checksum}: expected {policy.sha256.lower()}")
    if (form in PICKLE_BEARING or notes.pickles or notes.imports) and not policy.allow_pickle:
        message = f"{form} can run code when it is loaded: expected safetensors, ONNX or GGUF, or allowPickle"
        notes.refuse("PickleNotAllowed", message)
    if form is Format.UNKNOWN and policy.format is not Format.RAW:
        expected = ", ".join(each for each in Format if each not in (Format.UNKNOWN, Format.RAW))
        notes.refuse("UnknownFormat", f"the content is of no known format: expected {expected}")
    if form is Format.ZIP:
        notes.refuse("UnknownFormat", "a zip archive that is not of PyTorch, Keras or numpy: expected one of these")
    if policy.format not in (None, form) and not (policy.format is Format.RAW and form is Format.UNKNOWN):
        notes.refuse("FormatMismatch", f"the content is {form}: expected {policy.format}, as declared")


def _check_age(written: datetime, now: datetime | None, notes: Notes) -> None:
    if notes.policy.max_age is None:
        return
    if now is None:
        notes.refuse("AgeUnknown", "the age was not looked at: expected the time of now")
    elif now - written > notes.policy.max_age:
        notes.refuse("TooOld", f"written at {format_time(written)}: expected at most {notes.policy.max_age} ago")
    elif written - now > _CLOCKS_DIFFER:
        notes.refuse("FromTheFuture", f"written at {format_time(written)}: expected before {format_time(now)}")
