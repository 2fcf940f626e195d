"""Protobuf's wire format, read with limits: no schema, no recursion, no copies of what is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from ops_commander.integration.schema.model import SchemaError

MAX_RECORDS: Final = 2_000_000

VARINT: Final = 0
BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}


class Source:
    """A file, and how many records of it may still be read, so that small records in large files end."""

    def __init__(self, data: bytes, records: int = MAX_RECORDS) -> None:
        self.data = data
        self._left = records

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise SchemaError(f"more than {MAX_RECORDS:,} records", f"at most {MAX_RECORDS:,}")


@dataclass(frozen=True, slots=True)
class Message:
    """A message, text or bytes within a file; where it stands is kept for errors."""

    source: Source
    start: int
    end: int

    def records(self) -> Iterator[tuple[int, int | Message]]:
        """Field numbers and values. Raises SchemaError with the offset of what is no record."""
        at, end = self.start, self.end
        while at < end:
            self.source.spend()
            begin = at
            tag, at = self._varint(at)
            number, kind = tag >> 3, tag & 7
            if number == 0:
                raise _malformed("field number 0", begin)
            if kind == VARINT:
                plain, at = self._varint(at)
                yield number, plain
                continue
            if kind == BYTES:
                length, at = self._varint(at)
            elif kind in _FIXED:
                length = _FIXED[kind]
            else:
                raise _malformed(f"wire type {kind}", begin)
            if at + length > end:
                raise _malformed(f"a length of {length:,} where {end - at:,} bytes are left", begin)
            at += length
            if kind == BYTES:
                yield number, Message(self.source, at - length, at)

    def text(self) -> str:
        """As UTF-8. Raises SchemaError for other bytes."""
        try:
            return self.source.data[self.start : self.end].decode()
        except UnicodeDecodeError as error:
            raise SchemaError("a name that is not UTF-8", "UTF-8", f"byte {self.start:,}") from error

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        data, end = self.source.data, self.end
        for shift in range(0, 70, 7):
            if at >= end:
                raise _malformed("the end within a number", at)
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (2**64 - 1), at
        raise _malformed("a number of more than 10 bytes", at)


Value: TypeAlias = int | Message


def whole(data: bytes) -> Message:
    """A file as one message."""
    return Message(Source(data), 0, len(data))


def _malformed(problem: str, offset: int) -> SchemaError:
    return SchemaError(problem, "protobuf's wire format", f"byte {offset:,}")


def text(value: Value) -> str:
    return message(value).text()


def message(value: Value) -> Message:
    if isinstance(value, int):
        raise SchemaError("a number in place of text or a message", "what the field is declared as")
    return value


def number(value: Value) -> int:
    """A signed 64 bit number."""
    if not isinstance(value, int):
        raise SchemaError("bytes in place of a number", "a number", f"byte {value.start:,}")
    return value - 2**64 if value >= 2**63 else value
