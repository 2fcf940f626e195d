"""`ops-commander`: the operator, and what people do with rollouts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ops_commander import __version__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ops-commander", description="Progressive delivery of ML models.")
    parser.add_argument("--version", action="version", version=f"ops-commander {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    from ops_commander.cli import backtest, policy, record, replay, run, verbs

    run.add_arguments(commands.add_parser("run", help="run the operator"))
    verbs.add_commands(commands)
    policy.add_arguments(commands.add_parser("policy", help="print a RolloutPolicy with the shipped objectives"))

    record.add_arguments(commands.add_parser("record", help="write down what a deployment's decisions were made of"))
    replay.add_arguments(commands.add_parser("replay", help="decide a recorded deployment once more, and compare"))
    backtest.add_arguments(commands.add_parser("backtest", help="what a policy would have decided on past metrics"))

    crd = commands.add_parser("crd", help="write CRDs, schemas and reference from the API models")
    crd.add_argument("--root", type=Path, default=Path(), help="root of the repository (default: here)")
    crd.add_argument("--check", action="store_true", help="only say what has drifted; exit 1 if anything has")
    crd.set_defaults(handle=_crd)
    return parser


def _crd(arguments: argparse.Namespace) -> int:
    from ops_commander.cli import crd

    return crd.generate(arguments.root, arguments.check)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0 for done, 1 for failed, 2 for bad arguments."""
    arguments = _parser().parse_args(argv)
    code: int = arguments.handle(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
