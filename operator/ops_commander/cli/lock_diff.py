"""`ops-commander lock-diff`: what a candidate is installed with, against the production lock."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from ops_commander.integration.dependencies import report
from ops_commander.integration.dependencies.diff import FAIL_ON, diff_files
from ops_commander.integration.dependencies.platform import Platform, parse_platform
from ops_commander.integration.documents import BadInput, printable

HELP: Final = "compare a candidate's dependencies with the production lock"
_FORMATS: Final = {"text": report.as_text, "json": report.as_json, "markdown": report.as_markdown}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit code 0: aligned; 1: a veto, or D above --fail-on; 2: bad input."
    parser.add_argument("--baseline", type=Path, required=True, metavar="LOCK", help="the production lock")
    parser.add_argument("--candidate", type=Path, required=True, metavar="LOCK", help="the candidate's lock")
    parser.add_argument("--format", choices=sorted(_FORMATS), default="text", help="default: text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to stdout")
    parser.add_argument("--fail-on", type=share, default=FAIL_ON, metavar="D", help="the highest D that is aligned")
    parser.add_argument(
        "--platform", type=platform, default=Platform(), help="for which locks are read (default: linux-x86_64-cp311)"
    )
    parser.set_defaults(handle=_handle)


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is out of range: expected 0 to 1")
    return value


def platform(text: str) -> Platform:
    try:
        return parse_platform(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _handle(arguments: argparse.Namespace) -> int:
    try:
        diff = diff_files(arguments.baseline, arguments.candidate, arguments.platform, arguments.fail_on)
        write(_FORMATS[arguments.format](diff), arguments.output)
    except BadInput as error:
        print(f"ops-commander lock-diff: {printable(str(error), 1000)}", file=sys.stderr)
        return 2
    return 0 if diff.aligned else 1


def write(text: str, output: Path | None) -> None:
    """To a file or stdout. Raises BadInput where the file cannot be written."""
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(output, "", error.strerror or str(error), "a file that can be written") from error
