"""`ops-commander vote go|no-go|list`: a role's vote on the deployment under way, with evidence that was verified."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ops_commander.api.ballot import Choice, RiskLevel, VoterRole
from ops_commander.api.fields import format_time, parse_duration, parse_time
from ops_commander.api.v1alpha1 import API_VERSION
from ops_commander.api.vote import MAX_EVIDENCE, vote_name
from ops_commander.integration.documents import BadInput, printable
from ops_commander.integration.handoffs.evidence import Proved, Terms, prove
from ops_commander.runtime import clock

if TYPE_CHECKING:
    from ops_commander.adapters.kubernetes import KubernetesApi

ROLES: Final = {
    "infrastructure": VoterRole.INFRASTRUCTURE_MONITOR,
    "quality": VoterRole.QUALITY_OFFICER,
    "commander": VoterRole.OPS_COMMANDER,
}
_COLUMNS: Final = ("ROLE", "VOTE", "RISK", "HOLDER", "VOTER", "CAST", "EVIDENCE", "KEY CONCERN")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the voter says."""

    role: VoterRole
    choice: Choice
    risk: RiskLevel
    concern: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Exit code 0: done; 1: refused; 2: bad input."
    commands = parser.add_subparsers(dest="verb", required=True)
    for verb, choice in (("go", Choice.GO), ("no-go", Choice.NO_GO)):
        command = commands.add_parser(verb, help=f"cast {choice} on the deployment under way")
        _add_place(command)
        command.add_argument("--role", choices=sorted(ROLES), required=True, help="the role that you speak for")
        command.add_argument("--risk", choices=[risk.lower() for risk in RiskLevel], required=True)
        command.add_argument("--concern", default="", help="the key concern; a no-go needs one")
        command.add_argument(
            "--evidence",
            action="append",
            default=[],
            metavar="FILE[@RUN_ID]",
            help="a report, or any file and the run that it comes from; may be given several times",
        )
        command.add_argument(
            "--max-age", type=_duration, default=timedelta(hours=24), help="how old evidence may be (default: 24h)"
        )
        command.set_defaults(handle=lambda arguments, choice=choice: asyncio.run(_vote(choice, arguments)))
    listing = commands.add_parser("list", help="show what each role says of the latest deployment")
    _add_place(listing)
    listing.set_defaults(handle=lambda arguments: asyncio.run(_list(arguments)))


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rollout", help="name of the ModelRollout")
    parser.add_argument("-n", "--namespace", default=None, help="default: that of the kubeconfig's context")
    parser.add_argument("--kubeconfig", default=None)


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def deployment_of(rollout: dict[str, Any]) -> str:
    """The id of the deployment under way. Raises ValueError where there is nothing to vote on."""
    status = rollout.get("status") or {}
    deployment = status.get("deployment") or {}
    if not deployment or deployment.get("outcome") is not None:
        raise ValueError(f"{rollout['metadata']['name']}: no deployment under way (phase {status.get('phase', '?')})")
    return str(deployment["id"])


def vote_for(rollout: dict[str, Any], voter: str, wish: Wish, proved: Sequence[Proved]) -> dict[str, Any]:
    """The Vote to create. Raises ValueError for a NO-GO without a concern, or too much evidence."""
    if wish.choice is Choice.NO_GO and not wish.concern.strip():
        raise ValueError("--concern is empty: expected the key concern of a no-go")
    evidence = [item for each in proved for item in each.evidence]
    if len(evidence) > MAX_EVIDENCE:
        raise ValueError(f"{len(evidence)} pieces of evidence: expected at most {MAX_EVIDENCE}")
    metadata, identity = rollout["metadata"], deployment_of(rollout)
    owner = {"apiVersion": API_VERSION, "kind": "ModelRollout", "name": metadata["name"], "uid": metadata["uid"]}
    return {
        "apiVersion": API_VERSION,
        "kind": "Vote",
        "metadata": {
            "name": vote_name(identity, wish.role),
            "namespace": metadata["namespace"],
            "ownerReferences": [owner],  # it goes when the rollout goes
        },
        "spec": {
            "rollout": metadata["name"],
            "deploymentId": identity,
            "role": wish.role.value,
            "voter": voter,
            "vote": wish.choice.value,
            "risk": wish.risk.value,
            "concern": wish.concern,
            "evidence": [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in evidence],
        },
    }


def described(vote: dict[str, Any], proved: Sequence[Proved]) -> str:
    """What was cast, in lines."""
    spec = vote["spec"]
    role = VoterRole(spec["role"])
    lines = [f"{role.agent}: {spec['vote']} ({spec['risk']} risk) on {spec['deploymentId']}, cast by {spec['voter']}"]
    if spec["concern"]:
        lines.append(f"  concern   {printable(spec['concern'])}")
    for item in spec["evidence"]:
        where = item.get("path") or item.get("uri")
        made = item.get("createdAt", "")
        lines.append(
            f"  evidence  {item['kind']} {printable(where)} @ {item['runId']} sha256 {item['sha256'][:12]} {made}"
        )
    lines += [f"  against   {printable(said)}" for each in proved for said in each.against]
    return "\n".join(lines)


async def _vote(choice: Choice, arguments: argparse.Namespace) -> int:
    from ops_commander.adapters.kubernetes import (
        ApiError,
        ConfigurationError,
        Conflict,
        KubernetesApi,
        current_namespace,
        load_configuration,
    )

    wish = Wish(ROLES[arguments.role], choice, RiskLevel(arguments.risk.capitalize()), arguments.concern)
    try:
        namespace = arguments.namespace or current_namespace(arguments.kubeconfig)
        async with KubernetesApi(await load_configuration(arguments.kubeconfig)) as api:
            rollout = await api.get("ModelRollout", namespace, arguments.rollout)
            terms = Terms(clock.now(), arguments.max_age, deployment_of(rollout))
            proved = [prove(given, terms) for given in arguments.evidence]
            vote = vote_for(rollout, await _whoami(api), wish, proved)
            await api.create("Vote", namespace, vote)
    except BadInput as error:
        return _failed(f"{error}", 2)
    except Conflict:
        return _failed(f"the {wish.role.agent} has voted on this deployment already: a vote is cast once", 1)
    except (ApiError, ConfigurationError, ValueError) as error:
        return _failed(f"{error}", 1)
    print(described(vote, proved))
    return 0


def _failed(message: str, code: int) -> int:
    print(f"ops-commander vote: {printable(message, 1000)}", file=sys.stderr)
    return code


async def _whoami(api: KubernetesApi) -> str:
    """The user that the API server takes us for."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = await api.create("SelfSubjectReview", None, review)
    return str(answer["status"]["userInfo"]["username"])


async def _list(arguments: argparse.Namespace) -> int:
    from ops_commander.adapters.kubernetes import (
        ApiError,
        ConfigurationError,
        KubernetesApi,
        current_namespace,
        load_configuration,
    )

    try:
        namespace = arguments.namespace or current_namespace(arguments.kubeconfig)
        async with KubernetesApi(await load_configuration(arguments.kubeconfig)) as api:
            rollout = await api.get("ModelRollout", namespace, arguments.rollout)
            votes = await api.list("Vote", namespace)
    except (ApiError, ConfigurationError) as error:
        return _failed(f"{error}", 1)
    print("\n".join(listed(rollout, [vote for vote in votes if vote["spec"]["rollout"] == arguments.rollout])))
    return 0


def listed(rollout: dict[str, Any], votes: Sequence[dict[str, Any]]) -> list[str]:
    """What each role says, the quorum line, and the votes that do not count for the latest deployment."""
    status = rollout.get("status") or {}
    quorum, rows = status.get("quorum"), status.get("votes") or []
    if quorum is None:
        lines = [f"{rollout['metadata']['name']}: no votes are asked for, or no deployment has been under way"]
    else:
        lines = [quorum["deploymentId"], *_table([_COLUMNS, *map(_row, rows)]), quorum["line"].replace("*", "")]
    counted = {row.get("uid") for row in rows}
    others = [vote for vote in votes if vote["metadata"]["uid"] not in counted]
    if others:
        lines.append("not counted:")
        lines += [f"  {vote['metadata']['name']} {vote['spec']['vote']}: {_why(vote)}" for vote in others]
    return lines


def _why(vote: dict[str, Any]) -> str:
    said = vote.get("status") or {}
    return printable(f"{said['reason']}, {said.get('message', '')}" if said else "not looked at")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    cast = row.get("castAt")
    return (
        str(row["role"]),
        row.get("vote") or "—",
        row.get("risk") or "—",
        str(row["holder"]),
        row.get("voter") or "—",
        format_time(parse_time(cast)) if cast else "—",
        str(len(row.get("evidence") or [])),
        printable(row.get("concern") or "", 120),
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
