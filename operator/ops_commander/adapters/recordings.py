"""Files of recordings: JSON Lines, packed where the name ends with .gz."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from ops_commander.core.recordings.recording import MOST_CHARACTERS, Encoder, Recording, RecordingProblem, Tick, decoded

STANDARD_OUTPUT = Path("-")


@contextmanager
def read(path: Path) -> Iterator[tuple[Recording, Iterator[Tick]]]:
    """The header, and the ticks one by one while the block lasts. Raises RecordingProblem, the iterator too."""
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise RecordingProblem(f"{path} cannot be read: {error.strerror}") from None
        file = stack.enter_context(gzip.GzipFile(fileobj=raw)) if path.suffix == ".gz" else raw
        yield decoded(_lines(file, path), str(path))


def _lines(file: IO[bytes] | gzip.GzipFile, path: Path) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            line = file.readline(MOST_CHARACTERS + 1)
        except EOFError:
            raise RecordingProblem(f"{path}:{number}: the file is cut off: expected the rest of it") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise RecordingProblem(f"{path}:{number}: expected gzip, as the name says: {error}") from None
        except OSError as error:
            raise RecordingProblem(f"{path}:{number} cannot be read: {error.strerror}") from None
        if not line:
            return
        if len(line) > MOST_CHARACTERS:
            raise RecordingProblem(f"{path}:{number}: expected a line of at most {MOST_CHARACTERS // 2**20} MiB")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            at = error.start + 1
            raise RecordingProblem(f"{path}:{number}: byte {at} is {line[error.start]:#04x}: expected UTF-8") from None


@contextmanager
def written(path: Path, recording: Recording) -> Iterator[Callable[[Tick], None]]:
    """A function that writes a tick. The file is there under its name once the block has ended well."""
    if path == STANDARD_OUTPUT:
        with _encoded(recording, sys.stdout.write) as write:
            yield write
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        with (
            partial.open("wb") as raw,
            _packed(raw, path) as file,
            _encoded(recording, lambda text: file.write(text.encode())) as write,
        ):
            yield write
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _packed(raw: IO[bytes], path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The same recording always gives the same bytes: no time, no name of a file."""
    if path.suffix != ".gz":
        yield raw
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        yield file


@contextmanager
def _encoded(recording: Recording, write: Callable[[str], object]) -> Iterator[Callable[[Tick], None]]:
    encoder = Encoder(recording)
    write(encoder.header())

    def keep(tick: Tick) -> None:
        write(encoder.tick(tick))

    yield keep
    write(encoder.end())
