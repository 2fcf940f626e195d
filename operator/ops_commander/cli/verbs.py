"""`ops-commander abort|promote|retry`: orders of a person to one deployment, as annotations that name it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from ops_commander.core import names

_ANNOTATIONS = {"abort": names.ABORT, "promote": names.PROMOTE, "retry": names.RETRY}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name of the ModelRollout")
    parser.add_argument("-n", "--namespace", default=None, help="default: that of the kubeconfig's context")
    parser.add_argument("--kubeconfig", default=None)
    parser.set_defaults(handle=lambda arguments: asyncio.run(_order(arguments.command, arguments)))


def order_for(verb: str, body: dict[str, Any]) -> str:
    """The annotation's value. Raises ValueError where there is nothing for the verb to act on."""
    status = body.get("status") or {}
    deployment = status.get("deployment") or {}
    outcome, name = deployment.get("outcome"), body["metadata"]["name"]
    if verb == "retry":
        if outcome != "RolledBack":
            raise ValueError(f"{name}: no reverted deployment to retry (phase {status.get('phase', '?')})")
        return str(deployment["id"])
    if not deployment or outcome is not None:
        raise ValueError(f"{name}: no deployment under way (phase {status.get('phase', '?')})")
    identity = str(deployment["id"])
    return f"{identity}/{status['step']['index']}" if verb == "promote" else identity


async def _order(verb: str, arguments: argparse.Namespace) -> int:
    from ops_commander.adapters.kubernetes import ApiError, ConfigurationError

    try:
        value = await _annotate(verb, arguments)
    except (ApiError, ConfigurationError, ValueError) as error:
        print(f"ops-commander {verb}: {error}", file=sys.stderr)
        return 1
    print(f"{verb} ordered for {value}")
    return 0


async def _annotate(verb: str, arguments: argparse.Namespace) -> str:
    from ops_commander.adapters.kubernetes import KubernetesApi, current_namespace, load_configuration

    namespace = arguments.namespace or current_namespace(arguments.kubeconfig)
    async with KubernetesApi(await load_configuration(arguments.kubeconfig)) as api:
        body = await api.get("ModelRollout", namespace, arguments.name)
        value = order_for(verb, body)
        await api.merge(
            "ModelRollout", namespace, arguments.name, {"metadata": {"annotations": {_ANNOTATIONS[verb]: value}}}
        )
    return value
