"""`ops-commander`: the operator, and what people do with rollouts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from ops_commander import __version__

COMMANDS: Final = {
    "run": ("run", "run the operator"),
    "abort": ("verbs", "revert the deployment under way"),
    "promote": ("verbs", "leave the present step now"),
    "retry": ("verbs", "try the reverted deployment's revision again"),
    "vote": ("vote", "cast a role's vote on the deployment under way, or list the votes"),
    "policy": ("policy", "print a RolloutPolicy with the shipped objectives"),
    "record": ("record", "write down what a deployment's decisions were made of"),
    "replay": ("replay", "decide a recorded deployment once more, and compare"),
    "backtest": ("backtest", "what a policy would have decided on past metrics"),
    "schema-diff": ("schema_diff", "compare what two versions of a model's API take and answer"),
    "lock-diff": ("lock_diff", "compare a candidate's dependencies with the production lock"),
    "preflight": ("preflight", "check a candidate's schema, dependencies, config, checkpoints and tests"),
    "compare": ("compare", "answer nothing, compare what stable and candidate answer to mirrored requests"),
    "plan": ("plan", "validate, render, apply, follow or cancel a Planning Team's pending_actions.json"),
    "report": ("report", "write the reports of a rollout, a plan or a namespace as Markdown, SVG and JSON lines"),
    "history": ("history", "print every action on a rollout: who, what, why, and what came of it"),
    "verify": ("verify", "verify a version in MLflow; the operator runs it as a process of its own"),
    "crd": ("crd", "write CRDs, schemas and reference from the API models"),
}
"""Each with its module in this package. Only that of the command given is imported: the operator carries no others."""


def _parser(wanted: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ops-commander", description="Progressive delivery of ML models.")
    parser.add_argument("--version", action="version", version=f"ops-commander {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (module, help_) in COMMANDS.items():
        command = commands.add_parser(name, help=help_)
        if name == wanted:
            import_module(f"ops_commander.cli.{module}").add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit code is 0 for done, 1 for failed, 2 for bad arguments."""
    given = sys.argv[1:] if argv is None else argv
    wanted = next((argument for argument in given if not argument.startswith("-")), None)
    arguments = _parser(wanted).parse_args(given)
    code: int = arguments.handle(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
