"""`schema_diff`: what a candidate's API changes for those who call it, and whether that breaks them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ops_commander import __version__
from ops_commander.integration.schema import MAX_BYTES, ApiSchemaDiff, Direction, Failed, Verdict, compare_files, render

COMPATIBLE: Final = 0
BREAKING: Final = 1
BAD_INPUT: Final = 2
DESCRIPTION: Final = (
    "Compare two API schemas of a model: api_schema.json, Open Inference Protocol v2 metadata, MLflow signatures, "
    "JSON Schema, OpenAPI 3.x, protobuf (.proto or FileDescriptorSet) or ONNX models, told apart by content. "
    "Exit code 0: compatible, 1: breaking, 2: bad input."
)


class _Unusable(Exception):
    """A file that cannot be read or written; the text is for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("--baseline", type=Path, required=True, metavar="FILE", help="what callers were built for")
    parser.add_argument("--candidate", type=Path, required=True, metavar="FILE", help="what they would meet")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("api_schema_diff.json"),
        metavar="FILE",
        help="where the diff is written as JSON (default: ./api_schema_diff.json)",
    )
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text", help="of what is printed")
    parser.add_argument(
        "--fail-on",
        type=_severity,
        default=1.0,
        metavar="SEVERITY",
        help="severity from which a change is breaking, above 0 and up to 1 (default: 1)",
    )
    parser.add_argument(
        "--direction",
        choices=[each.value for each in Direction],
        help="of JSON Schemas, and of .proto files without services, which do not say (default: both)",
    )
    parser.add_argument(
        "--max-bytes", type=_bytes, default=MAX_BYTES, metavar="N", help=f"largest file (default: {MAX_BYTES})"
    )
    parser.set_defaults(handle=run)


def _severity(said: str) -> float:
    try:
        value = float(said)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{said!r} is no severity: expected a number above 0 and up to 1")
    return value


def _bytes(said: str) -> int:
    if not said.isdecimal() or not 0 < int(said[:20]) <= 2**40:
        raise argparse.ArgumentTypeError(f"{said!r} is no size: expected a number of bytes, such as {MAX_BYTES}")
    return int(said)


def run(arguments: argparse.Namespace) -> int:
    """Compare, write and print; the exit code says what was found."""
    try:
        diff = _compare(arguments)
        _write(arguments.output, diff.to_json(), (arguments.baseline, arguments.candidate))
    except _Unusable as error:
        print(f"schema_diff: {render.printable(str(error))}", file=sys.stderr)
        return BAD_INPUT
    _print(_rendered(diff, arguments.format))
    return BREAKING if diff.verdict is Verdict.BREAKING else COMPATIBLE


def _compare(arguments: argparse.Namespace) -> ApiSchemaDiff:
    files = (arguments.baseline, arguments.candidate)
    baseline, candidate = ((_name(path), _read(path, arguments.max_bytes)) for path in files)
    try:
        return compare_files(
            baseline,
            candidate,
            fail_on=arguments.fail_on,
            direction=Direction(arguments.direction) if arguments.direction else None,
            max_bytes=arguments.max_bytes,
        )
    except Failed as error:
        path = arguments.baseline if error.is_baseline else arguments.candidate
        raise _Unusable(f"{path}: {error.error}") from error


def _name(path: Path) -> str:
    """Without folders, which are nobody else's business, and as Unicode, which a name need not be."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def _read(path: Path, most: int) -> bytes:
    """The bytes of a file, and never more than one beyond what is allowed."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise _Unusable(f"{path}: {size:,} bytes: expected at most {most:,} (see --max-bytes)")
            data = file.read(most + 1)
    except OSError as error:
        raise _Unusable(f"{path}: {error.strerror or error}: expected a file that can be read") from error
    if len(data) > most:
        raise _Unusable(f"{path}: more than {most:,} bytes: expected at most that (see --max-bytes)")
    return data


def _write(path: Path, content: str, inputs: Sequence[Path]) -> None:
    try:
        if path.exists() and any(path.samefile(each) for each in inputs):
            raise _Unusable(f"{path}: --output is one of the two inputs: expected another file")
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise _Unusable(f"{path}: {error.strerror or error}: expected a place that can be written to") from error


def _rendered(diff: ApiSchemaDiff, form: str) -> str:
    if form == "text":
        return render.text(diff, colour=_has_colour())
    printers: dict[str, Callable[[ApiSchemaDiff], str]] = {"json": ApiSchemaDiff.to_json, "markdown": render.markdown}
    return printers[form](diff)


def _has_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _print(content: str) -> None:
    """Also to a reader that has gone, and on a terminal that lacks a letter."""
    try:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(content.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `schema_diff`."""
    parser = argparse.ArgumentParser(prog="schema_diff")
    parser.add_argument("--version", action="version", version=f"schema_diff {__version__}")
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
