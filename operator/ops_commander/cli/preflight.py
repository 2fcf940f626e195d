"""`ops-commander preflight`: what a candidate may do next, found out without a cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from ops_commander.api.risk import Verdict
from ops_commander.cli import lock_diff
from ops_commander.integration import preflight, preflight_report
from ops_commander.integration.dependencies.platform import Platform
from ops_commander.integration.documents import BadInput, printable
from ops_commander.runtime import clock

HELP: Final = "check a candidate's schema, dependencies, config, checkpoints and tests"
_FORMATS: Final = {
    "text": preflight_report.as_text,
    "json": preflight_report.as_json,
    "markdown": preflight_report.as_markdown,
}
_PASSING: Final = {"shadow": (Verdict.SAFE, Verdict.SHADOW_ONLY), "safe": (Verdict.SAFE,)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit code 0: may go on; 1: rejected; 2: bad input."
    parser.add_argument("manifest", type=Path, metavar="candidate_manifest.yaml", help="the candidate")
    parser.add_argument("--format", choices=sorted(_FORMATS), default="text", help="default: text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of to stdout")
    parser.add_argument(
        "--require",
        choices=sorted(_PASSING),
        default="shadow",
        help="the least verdict for exit code 0 (default: shadow)",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="other/candidate_manifest.yaml",
        help="manifest of the version that serves: its candidate schema and lock are the baseline",
    )
    parser.add_argument("--downloads", type=Path, metavar="DIR", help="where files named by URI were fetched to")
    parser.add_argument(
        "--platform",
        type=lock_diff.platform,
        default=Platform(),
        help="for which locks are read (default: linux-x86_64-cp311)",
    )
    parser.set_defaults(handle=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    other = arguments.baseline
    settings = preflight.Settings(
        clock.now(),
        arguments.platform,
        baseline=preflight.Baseline(other, str(other)) if other else None,
        downloads=arguments.downloads,
    )
    try:
        report = preflight.run(arguments.manifest, settings)
        lock_diff.write(_FORMATS[arguments.format](report), arguments.output)
    except BadInput as error:
        print(f"ops-commander preflight: {printable(str(error), 1000)}", file=sys.stderr)
        return 2
    return 0 if report.verdict in _PASSING[arguments.require] else 1
