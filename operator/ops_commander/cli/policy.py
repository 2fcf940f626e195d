"""`ops-commander policy`: a RolloutPolicy with the shipped objectives, for one kind of server."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import yaml

from ops_commander.api.policy import (
    DEFAULT_POLICY,
    RolloutPolicySpec,
    Verification,
    integration_objectives,
    live_objectives,
    run_objectives,
    servers,
)
from ops_commander.api.quorum import Quorum
from ops_commander.api.v1alpha1 import API_VERSION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", choices=servers(), default="http", help="whose metrics (default: http)")
    without = "without what needs MLflow: runs, verified files, compared answers"
    parser.add_argument("--live-only", action="store_true", help=without)
    parser.add_argument("--name", default="default", help="name of the policy (default: default)")
    parser.add_argument("-n", "--namespace", default="", help="its namespace (default: none given)")
    parser.set_defaults(handle=_print)


def _print(arguments: argparse.Namespace) -> int:
    sys.stdout.write(text(arguments.server, arguments.name, arguments.namespace, live_only=arguments.live_only))
    return 0


def _quorum() -> dict[str, Any]:
    """In full: who votes is the first thing that people change."""
    return Quorum().model_dump(mode="json", by_alias=True)


def text(server: str, name: str, namespace: str = "", *, live_only: bool = False) -> str:
    """The policy as YAML; what has its default is left out."""
    if live_only:
        spec = RolloutPolicySpec(objectives=live_objectives(server), verification=Verification.OPTIONAL)
    else:
        objectives = [*run_objectives(), *live_objectives(server), *integration_objectives()]
        spec = DEFAULT_POLICY.model_copy(update={"objectives": objectives})
    document = {
        "apiVersion": API_VERSION,
        "kind": "RolloutPolicy",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "spec": {**spec.model_dump(mode="json", by_alias=True, exclude_defaults=True), "quorum": _quorum()},
    }
    return yaml.safe_dump(document, sort_keys=False, width=120)
