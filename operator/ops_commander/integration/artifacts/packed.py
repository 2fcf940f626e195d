"""gzip, zlib, bz2 and xz, unpacked a piece at a time and only so far."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import Any, BinaryIO, Final, Protocol

from ops_commander.integration.artifacts.findings import Malformed, Notes

_CHUNK: Final = 256 * 1024
_FLOOR: Final = 64 * 1024 * 1024
_MEMORY: Final = 256 * 1024 * 1024


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def packing_of(head: bytes) -> str:
    """The name of the packing, or nothing. `unsupported` is one that the standard library cannot undo."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head[:2] in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        return "zlib"
    if head.startswith(b"BZh"):
        return "bz2"
    if head.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return "xz"
    return "unsupported" if head.startswith((b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd")) else ""


def unpack(stream: BinaryIO, packing: str, size: int, notes: Notes) -> io.BufferedReader:
    """What comes out, as a stream. It raises Malformed when more comes out than the limits allow."""
    return io.BufferedReader(_Unpacked(stream, _decompressor(packing), size, notes), _CHUNK)


def _decompressor(packing: str) -> _Decompressor:
    if packing == "bz2":
        return bz2.BZ2Decompressor()
    if packing == "xz":
        return lzma.LZMADecompressor(memlimit=_MEMORY)
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


class _Unpacked(io.RawIOBase):
    def __init__(self, stream: BinaryIO, decompressor: _Decompressor, size: int, notes: Notes) -> None:
        super().__init__()
        self._stream, self._decompressor, self._size, self._notes = stream, decompressor, size, notes
        self._total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = b""
        while not data and not self._decompressor.eof:
            more = self._more(min(len(buffer), _CHUNK))
            if more is None:
                raise Malformed("Truncated", "the packed data ends before its end", self._stream.tell())
            data = more
        self._count(len(data))
        buffer[: len(data)] = data
        return len(data)

    def _more(self, limit: int) -> bytes | None:
        left: bytes = getattr(self._decompressor, "unconsumed_tail", b"")
        needs = getattr(self._decompressor, "needs_input", not left)
        given = left or (self._stream.read(_CHUNK) if needs else b"")
        if needs and not given and not self._decompressor.eof:
            return None
        try:
            return self._decompressor.decompress(given, limit)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise Malformed("MalformedPacking", f"the packed data: {error}", self._stream.tell()) from None

    def _count(self, size: int) -> None:
        self._total += size
        limits = self._notes.limits
        if self._total > min(limits.unpacked, max(_FLOOR, self._size * limits.ratio)):
            raise Malformed("Bomb", f"more than {self._total} bytes come out of {self._size}: expected fewer")
