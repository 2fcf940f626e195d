"""Zip archives: those of PyTorch, TorchScript, Keras and numpy, each entry by its content."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO, Final, cast

from ops_commander.integration.artifacts import keras, numpy_files, pickles
from ops_commander.integration.artifacts.findings import Format, Malformed, Notes
from ops_commander.integration.artifacts.packed import packing_of

_END: Final = b"PK\x05\x06"
_END_64: Final = b"PK\x06\x06"
_MAX_DIRECTORY: Final = 64 * 1024 * 1024
_BOMB_FLOOR: Final = 64 * 1024 * 1024
_PICKLE_NAMES: Final = (".pkl", ".pickle", ".p", ".pt", ".pth", ".bin", ".joblib")
_HEAD: Final = 4096


def is_zip(head: bytes) -> bool:
    return head.startswith((b"PK\x03\x04", _END))


def tail_is_zip(tail: bytes) -> bool:
    """Whether an end of a central directory is in the last bytes, which is all that readers of zips look for."""
    at = tail.rfind(_END)
    return at >= 0 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)


def check(stream: BinaryIO, size: int, notes: Notes) -> Format:
    """Raises Malformed where the archive cannot be listed. A broken entry is a finding, and the others are read."""
    _check_directory(stream, size, notes)
    try:
        with zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
            _check_entries(stream, infos, archive.start_dir, notes)
            form = _format_of(infos)
            for info in infos:
                _entry(archive, info, form, notes)
            return form if form is not Format.NPZ or not notes.pickles else Format.PICKLE
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, struct.error) as error:
        raise Malformed("MalformedArchive", f"{error}: expected a zip archive") from error


def _check_directory(stream: BinaryIO, size: int, notes: Notes) -> None:
    """zipfile reads the directory at once; so its size is looked at first."""
    start = max(0, size - 65_557)
    stream.seek(start)
    tail = stream.read(65_557)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise Malformed("Truncated", "a zip archive without an end: expected its directory", size)
    entries, length = struct.unpack("<HI", tail[at + 10 : at + 16])
    if (wide := tail.rfind(_END_64)) >= 0 and len(tail) - wide >= 56:
        entries, length = struct.unpack("<QQ", tail[wide + 32 : wide + 48])
    if length > _MAX_DIRECTORY or entries > notes.limits.entries:
        raise Malformed("Bomb", f"{entries} entries, listed in {length} bytes: expected fewer", start + at)
    if not tail_is_zip(tail):
        notes.refuse("TrailingData", "bytes follow the end of the archive: expected none", start + at)


def _check_entries(stream: BinaryIO, infos: list[zipfile.ZipInfo], directory: int, notes: Notes) -> None:
    if len(infos) > notes.limits.entries:
        raise Malformed("Bomb", f"{len(infos)} entries: expected at most {notes.limits.entries}")
    names: set[str] = set()
    end = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        if info.filename in names:
            notes.refuse(
                "DuplicateEntry", f"{info.filename} comes twice: readers differ in which they take", info.header_offset
            )
        names.add(info.filename)
        if not end and info.header_offset:
            notes.refuse("Polyglot", "bytes stand before the first entry: expected none", 0)
        if info.header_offset < end:
            notes.refuse("Overlap", f"{info.filename} lies within the entry before", info.header_offset)
        end = info.header_offset + 30 + info.compress_size
        _check_name(info, notes)
        _check_size(info, notes)
        _check_local(stream, info, notes)
    if end > directory:
        notes.refuse("Overlap", "the last entry reaches into the directory", directory)


def _check_name(info: zipfile.ZipInfo, notes: Notes) -> None:
    name = info.orig_filename
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    if not name or "\0" in name or posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        notes.refuse(
            "UnsafeName", f"entry {name[:200]!r} leaves the folder: expected a relative path", info.header_offset
        )
    if info.external_attr >> 28 == 0xA:
        notes.refuse("Link", f"entry {name[:200]!r} is a symbolic link: expected a file", info.header_offset)
    if name.endswith("/") and info.file_size:
        notes.refuse("UnsafeName", f"entry {name[:200]!r} is a folder with content", info.header_offset)


def _check_size(info: zipfile.ZipInfo, notes: Notes) -> None:
    if info.flag_bits & 0x1:
        notes.refuse("Encrypted", f"{info.filename} is encrypted: expected plain data", info.header_offset)
    if _is_bomb(info, notes):
        message = f"{info.filename} is {info.file_size} bytes out of {info.compress_size}: expected no more than"
        notes.refuse("Bomb", f"{message} {notes.limits.ratio} times", info.header_offset)
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        notes.refuse("SizeMismatch", f"{info.filename} is stored with two sizes", info.header_offset)


def _is_bomb(info: zipfile.ZipInfo, notes: Notes) -> bool:
    return info.file_size > _BOMB_FLOOR and info.file_size > notes.limits.ratio * max(1, info.compress_size)


def _check_local(stream: BinaryIO, info: zipfile.ZipInfo, notes: Notes) -> None:
    """Some readers go by the directory, some by the header before the data: both must say the same."""
    stream.seek(info.header_offset)
    raw = stream.read(30)
    if len(raw) < 30 or raw[:4] != b"PK\x03\x04":
        notes.refuse("MalformedArchive", f"{info.filename} has no header where the directory says", info.header_offset)
        return
    flags, method = struct.unpack("<HH", raw[6:10])
    name = stream.read(int.from_bytes(raw[26:28], "little"))
    expected = info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")
    if name != expected or method != info.compress_type or (flags ^ info.flag_bits) & 0x1:
        message = f"{info.filename}: its header says {name[:100]!r}, method {method}: expected what the directory says"
        notes.refuse("HeaderMismatch", message, info.header_offset)


def _format_of(infos: list[zipfile.ZipInfo]) -> Format:
    names = {info.filename for info in infos}
    roots = {name.split("/")[0] for name in names if name.endswith("/data.pkl") and name.count("/") == 1}
    if roots:
        code = any(f"{root}/constants.pkl" in names for root in roots)
        code = code or any(name.split("/")[0] in roots and name.split("/")[1:2] == ["code"] for name in names)
        return Format.TORCHSCRIPT if code else Format.PYTORCH
    if {"config.json", "metadata.json"} <= names:
        return Format.KERAS
    return Format.NPZ if names and all(name.endswith(".npy") for name in names) else Format.ZIP


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, form: Format, notes: Notes) -> None:
    if info.is_dir() and not info.file_size:
        return
    try:
        with archive.open(info) as stream:
            _content(cast(BinaryIO, stream), info, form, notes)
    except Malformed as error:
        notes.malformed(error, info.filename)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError, zlib.error) as error:
        message = f"{info.filename} cannot be read ({error}): expected an entry that every reader reads alike"
        notes.refuse("UnreadableEntry", message, info.header_offset)


def _content(stream: BinaryIO, info: zipfile.ZipInfo, form: Format, notes: Notes) -> None:
    if info.compress_type != zipfile.ZIP_STORED:
        _count_unpacked(info, notes)
    head = stream.read(_HEAD)
    joined = _Joined(head, stream)
    name = info.filename
    if name.lower().endswith(_PICKLE_NAMES) or (pickles.looks_like_pickle(head) and begins_a_pickle(head)):
        notes.pickles += 1
        pickles.scan(joined, notes, name)
    elif head.startswith(numpy_files.MAGIC):
        found = numpy_files.check(joined, info.file_size, notes, name)
        notes.pickles += found is Format.PICKLE
    elif form is Format.KERAS and name.endswith(".json"):
        keras.check_json(name, _limited(joined, name), notes)
    elif is_zip(head) or (packing_of(head) and form is Format.ZIP):
        notes.refuse("NestedArchive", f"{name} is an archive in an archive: expected files", info.header_offset)
    elif form is Format.NPZ:
        notes.refuse("MalformedHeader", f"{name} is no npy file", info.header_offset)


def _count_unpacked(info: zipfile.ZipInfo, notes: Notes) -> None:
    """What comes out of all entries together bounds the time that they take."""
    notes.unpacked += info.file_size
    if _is_bomb(info, notes) or notes.unpacked > notes.limits.unpacked:
        message = f"{info.filename} was not looked into: {notes.unpacked} bytes come out up to it: expected fewer"
        raise Malformed("Bomb", message, info.header_offset)


def begins_a_pickle(head: bytes) -> bool:
    """Whether the first opcodes make sense: numbers that begin like a pickle are rarely one."""
    tape = pickles.Tape(io.BytesIO(head))
    return pickles.reads_on(tape, 64)


def _limited(stream: pickles.Stream, name: str) -> bytes:
    limit = keras.MAX_CONFIG
    data = b""
    while len(data) <= limit and (more := stream.read(limit + 1 - len(data))):
        data += more
    if len(data) > limit:
        raise Malformed("TooLarge", f"{name} has more than {limit} bytes: expected fewer")
    return data


class _Joined:
    """A stream whose head was read already."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._stream.read(size)

    def readline(self, size: int, /) -> bytes:
        if not self._head:
            return self._stream.readline(size)
        at = self._head.find(b"\n")
        if at >= 0 or len(self._head) >= size:
            return self.read(min(at + 1 if at >= 0 else size, size))
        data = self.read(len(self._head))
        return data + self._stream.readline(size - len(data))
