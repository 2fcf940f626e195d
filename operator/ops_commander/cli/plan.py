"""`ops-commander plan validate|render|apply|status|cancel`: a Planning Team's actions, and how far they are."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ops_commander.api.action_plan import LONGEST_NAME, ActionPlan, ActionPlanStatus, PlanPhase
from ops_commander.core.plans.order import order
from ops_commander.integration import pending_actions
from ops_commander.integration.documents import BadInput, printable

if TYPE_CHECKING:
    from ops_commander.adapters.kubernetes import KubernetesApi

FIELD_MANAGER: Final = "ops-commander-cli"
_ABSENT: Final = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit code 0: done; 1: failed, or the plan has; 2: bad input."
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, handle, help_ in (
        ("validate", _validate, "check a pending_actions.json; nothing is created"),
        ("render", _render, "print its ActionPlan as YAML, for GitOps"),
        ("apply", _apply, "create its ActionPlan by server-side apply; the same file again changes nothing"),
    ):
        command = verbs.add_parser(verb, help=help_)
        command.add_argument("file", type=Path, metavar="pending_actions.json")
        command.add_argument("--name", type=_name, default=None, help="name of the plan (default: by the meeting's id)")
        if verb != "validate":
            _add_namespace(command)
        command.set_defaults(handle=_told(handle))
    for verb, remote, help_ in (
        ("status", _status, "print the actions of a plan; exit code 1 where it has failed"),
        ("cancel", _cancel, "end a plan: Jobs are deleted, deployments under way reverted, nothing else starts"),
    ):
        command = verbs.add_parser(verb, help=help_)
        command.add_argument("name", type=_name, metavar="NAME")
        _add_namespace(command)
        command.set_defaults(handle=_told(remote))


def _add_namespace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", default=None, help="default: that of the kubeconfig's context")
    parser.add_argument("--kubeconfig", default=None)


def _name(text: str) -> str:
    if pending_actions.plan_name(text) != text:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at most {LONGEST_NAME} of a-z, 0-9 and single -")
    return text


def _told(handle: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The handler, its errors in one line: 2 for what was given, 1 for what came of it."""

    def run(arguments: argparse.Namespace) -> int:
        from ops_commander.adapters.kubernetes import ApiError, ConfigurationError

        try:
            return handle(arguments)
        except BadInput as error:
            print(f"ops-commander plan {arguments.verb}: {printable(str(error), 2000)}", file=sys.stderr)
            return 2
        except (ApiError, ConfigurationError) as error:
            print(f"ops-commander plan {arguments.verb}: {printable(str(error), 2000)}", file=sys.stderr)
            return 1

    return run


# --- files ----------------------------------------------------------------------------------------


def _validate(arguments: argparse.Namespace) -> int:
    handoff = pending_actions.read(arguments.file)
    spec = pending_actions.spec(handoff)
    name = arguments.name or pending_actions.plan_name(spec.meeting_id)
    count, meeting = len(spec.actions), printable(spec.meeting_id)
    print(f"{printable(str(arguments.file))}: {count} action(s) of {meeting}, plan {name}")
    for action in order(spec.actions):
        print(f"  {action.priority:<6}  {action.id:<8}  {action.kind:<10}  {printable(action.title)}")
    return 0


def _render(arguments: argparse.Namespace) -> int:
    body = _manifest(arguments, arguments.namespace)
    sys.stdout.write(yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120))
    return 0


def _manifest(arguments: argparse.Namespace, namespace: str | None) -> dict[str, Any]:
    handoff = pending_actions.read(arguments.file)
    return pending_actions.manifest(handoff, name=arguments.name, namespace=namespace)


# --- the cluster ----------------------------------------------------------------------------------


def _with_api(arguments: argparse.Namespace, work: Callable[[KubernetesApi, str], Awaitable[int]]) -> int:
    from ops_commander.adapters.kubernetes import KubernetesApi, current_namespace, load_configuration

    async def run() -> int:
        namespace = arguments.namespace or current_namespace(arguments.kubeconfig)
        async with KubernetesApi(await load_configuration(arguments.kubeconfig)) as api:
            return await work(api, namespace)

    return asyncio.run(run())


def _apply(arguments: argparse.Namespace) -> int:
    """The file is read before the cluster is asked for anything: nothing is created from one that fails."""
    body = _manifest(arguments, None)

    async def work(api: KubernetesApi, namespace: str) -> int:
        name = body["metadata"]["name"]
        before = await api.find("ActionPlan", namespace, name)
        wanted = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
        after = await api.apply(wanted, manager=FIELD_MANAGER)
        print(f"actionplan {namespace}/{name} {_change(before, after)}")
        return 0

    return _with_api(arguments, work)


def _change(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "created"
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return "unchanged" if same else "changed"


def _status(arguments: argparse.Namespace) -> int:
    async def work(api: KubernetesApi, namespace: str) -> int:
        plan = ActionPlan.model_validate(await api.get("ActionPlan", namespace, arguments.name))
        print(table(plan))
        return 1 if plan.status.phase in (PlanPhase.FAILED, PlanPhase.INVALID) else 0

    return _with_api(arguments, work)


def _cancel(arguments: argparse.Namespace) -> int:
    async def work(api: KubernetesApi, namespace: str) -> int:
        await api.merge("ActionPlan", namespace, arguments.name, {"spec": {"cancel": True}})
        print(f"cancel ordered for {namespace}/{arguments.name}")
        return 0

    return _with_api(arguments, work)


def table(plan: ActionPlan) -> str:
    """What `plan status` prints."""
    status = plan.status
    titles = {action.id: action.title for action in plan.spec.actions}
    rows = [("PRIORITY", "ID", "STATE", "EXPECTED", "TITLE", "MESSAGE")]
    for row in status.actions:
        at = row.ended_at or row.expected_completion
        when = at.strftime("%Y-%m-%d %H:%M") if at else _ABSENT
        message = printable(row.message or row.reason, 120)
        rows.append((row.priority, row.id, row.state, when, printable(titles.get(row.id, _ABSENT), 60), message))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([_headline(plan.metadata["name"], status), *lines])


def _headline(name: str, status: ActionPlanStatus) -> str:
    message = f": {printable(status.message)}" if status.message else ""
    return f"{name}  {status.phase}  {status.progress or '0/?'}{message}"
