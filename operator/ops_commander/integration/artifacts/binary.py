"""Numbers out of a stream, with an error that says where it ended."""

from __future__ import annotations

from typing import BinaryIO, Final

from ops_commander.integration.artifacts.findings import Malformed

CHUNK: Final = 1024 * 1024


class Reader:
    """A stream that can be searched, and its size."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size = stream, size
        stream.seek(0)

    def tell(self) -> int:
        return self.stream.tell()

    @property
    def left(self) -> int:
        return self.size - self.stream.tell()

    def read(self, size: int, what: str) -> bytes:
        at = self.stream.tell()
        if size > self.size - at:
            raise Malformed("Truncated", f"{what} has {size} bytes, of which {max(0, self.size - at)} are there", at)
        data = self.stream.read(size)
        if len(data) != size:
            raise Malformed("Truncated", f"{what} has {size} bytes, of which {len(data)} could be read", at)
        return data

    def skip(self, size: int, what: str) -> None:
        at = self.stream.tell()
        if size > self.size - at:
            raise Malformed("Truncated", f"{what} has {size} bytes, of which {max(0, self.size - at)} are there", at)
        self.stream.seek(size, 1)

    def number(self, size: int, what: str) -> int:
        """Unsigned, little end first."""
        return int.from_bytes(self.read(size, what), "little")
