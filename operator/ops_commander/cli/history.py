"""`ops-commander history`: every action on a rollout as a record, with who, what, why, evidence and result."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from ops_commander.api.fields import format_time
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.cli import rollouts
from ops_commander.core.reports.audit import AuditRecord, audit_records, json_lines
from ops_commander.integration.documents import BadInput, printable

_HEADING = ("TIME", "DEPLOYMENT", "ACTOR", "WHAT", "RESULT", "WHY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="ROLLOUT", help="name of the ModelRollout")
    rollouts.add_cluster_arguments(parser)
    parser.add_argument("--json", action="store_true", help="JSON lines, evidence included")
    parser.set_defaults(handle=_history)


def _history(arguments: argparse.Namespace) -> int:
    """0 where it was printed, 1 where the cluster did not let it, 2 for what was given."""
    from ops_commander.adapters.kubernetes import ApiError, ConfigurationError

    try:
        if arguments.file:
            rollout = rollouts.from_file(arguments.file, arguments.name)[0]
        else:
            rollout = asyncio.run(_read(arguments))
    except BadInput as error:
        return _failed(error, 2)
    except (ApiError, ConfigurationError) as error:
        return _failed(error, 1)
    records = audit_records(rollout)
    sys.stdout.write(json_lines(records) if arguments.json else table(records))
    return 0


def _failed(error: Exception, code: int) -> int:
    print(f"ops-commander history: {printable(str(error), 2000)}", file=sys.stderr)
    return code


async def _read(arguments: argparse.Namespace) -> ModelRollout:
    from ops_commander.adapters.kubernetes import KubernetesApi, current_namespace, load_configuration

    namespace = arguments.namespace or current_namespace(arguments.kubeconfig)
    async with KubernetesApi(await load_configuration(arguments.kubeconfig)) as api:
        return await rollouts.rollout_of(api, namespace, arguments.name)


def table(records: Sequence[AuditRecord]) -> str:
    """Aligned columns, the oldest record first."""
    rows = [_HEADING, *map(_row, records)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADING) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _row(record: AuditRecord) -> tuple[str, ...]:
    return (
        format_time(record.time),
        printable(record.deployment_id, 63),
        printable(record.actor, 60),
        printable(record.what, 60),
        printable(record.result, 60),
        printable(record.why, 200),
    )
