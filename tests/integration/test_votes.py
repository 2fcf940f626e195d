"""Who may vote, as a real API server has it: the chart's roles and admission policy, and the rules of the CRD."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.render import helm
from ops_commander.adapters.cluster import Cluster
from ops_commander.adapters.kubernetes import KubernetesApi, load_configuration
from ops_commander.api.ballot import VoterRole
from ops_commander.api.v1alpha1 import API_VERSION, ModelRolloutStatus
from ops_commander.api.vote import vote_name
from ops_commander.cli.main import main
from ops_commander.core.decide import Decision, decide
from ops_commander.core.desired import NoteVote
from ops_commander.runtime import ballots, clock
from tests.integration.controlplane import ApiServer
from tests.unit.core.test_votes import EXTERNAL
from tests.unit.world import World, rollout

CHART = Path(__file__).parents[2] / "charts" / "ops-commander"
RELEASE = ("ops-commander", str(CHART), "-n", "ops-commander-system", "--set=crds.enabled=false")
ROLE = "ops-commander.ops-commander-system-voter-"
DEPLOYMENT = "ranker-2bcdfghjkl-3"
SLUGS = {"infrastructure": "InfrastructureMonitor", "quality": "QualityOfficer", "commander": "OpsCommander"}


def chart(*values: str) -> list[dict[str, Any]]:
    """The chart's roles for voters and its admission policy, rendered by a real helm."""
    command = [helm(), "template", *RELEASE, "-s", "templates/votes.yaml", *(f"--set={value}" for value in values)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def vote(role: str = "QualityOfficer", voter: str = "quality", **spec: Any) -> dict[str, Any]:
    body = {
        "rollout": "ranker",
        "deploymentId": DEPLOYMENT,
        "role": role,
        "voter": voter,
        "vote": "GO",
        "risk": "Low",
        **spec,
    }
    name = vote_name(body["deploymentId"], VoterRole(role))
    return {"apiVersion": API_VERSION, "kind": "Vote", "metadata": {"name": name}, "spec": body}


class Booth:
    """Votes of one namespace, cast by users that the admin stands in for."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace

    def run(self, user: str, *arguments: str, body: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        stdin = json.dumps(body) if body else None
        identity = () if user == "admin" else (f"--as={user}",)
        return self.server.kubectl(*arguments, *identity, "-n", self.namespace, stdin=stdin, check=False)

    def cast(self, user: str, body: dict[str, Any], *, dry_run: bool = False) -> subprocess.CompletedProcess[str]:
        return self.run(user, "create", "-f", "-", *(["--dry-run=server"] if dry_run else []), body=body)

    def taken(self, user: str, body: dict[str, Any], *, dry_run: bool = False) -> None:
        done = self.cast(user, body, dry_run=dry_run)
        assert done.returncode == 0, done.stderr

    def refused(self, user: str, body: dict[str, Any]) -> str:
        done = self.cast(user, body)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def until(self, *arguments: str, user: str, said: str = "") -> None:
        """What was bound or admitted is known to the authorizer a moment later: it learns through a watch."""
        deadline = time.monotonic() + 15
        while True:
            done = self.run(user, *arguments)
            if (said in done.stderr) if said else done.returncode == 0:
                return
            assert time.monotonic() < deadline, done.stdout + done.stderr


@pytest.fixture(scope="module")
def admission(api_server: ApiServer) -> Iterator[None]:
    """The chart's roles and policy are there, for this module alone."""
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": chart()})
    applied = api_server.kubectl("apply", "--server-side", "-f", "-", stdin=objects)
    assert "Warning" not in applied.stderr, applied.stderr
    probe = json.dumps(vote(voter="somebody-else"))
    deadline = time.monotonic() + 30
    arguments = ("create", "-f", "-", "--dry-run=server", "-n", "default")
    while "expected the user who casts" not in api_server.kubectl(*arguments, stdin=probe, check=False).stderr:
        assert time.monotonic() < deadline, "the admission policy is not in force"
    yield
    api_server.kubectl("delete", "-f", "-", "--wait=false", stdin=objects)


@pytest.fixture
def booth(api_server: ApiServer, namespace: str, admission: None) -> Booth:
    """Three users, each bound to one role, and one who may edit everything but votes."""
    found = Booth(api_server, namespace)
    for role in SLUGS:
        bind = ("create", "rolebinding", role, f"--clusterrole={ROLE}{role}", f"--user={role}")
        api_server.kubectl(*bind, "-n", namespace)
    for role in SLUGS:
        found.until("auth", "can-i", f"vote-{role}", "modelrollouts.ops-commander.dev", user=role)
    return found


def test_each_role_casts_its_own_vote(booth: Booth) -> None:
    for user, role in SLUGS.items():
        booth.taken(user, vote(role, user))

    shown = booth.run("quality", "get", "votes", "-o", "wide").stdout
    assert "Voter" in shown.title() and all(role in shown for role in SLUGS.values())


@pytest.mark.parametrize("user", SLUGS)
def test_nobody_casts_the_vote_of_another_role(booth: Booth, user: str) -> None:
    for role in set(SLUGS.values()) - {SLUGS[user]}:
        said = booth.refused(user, vote(role, user))
        assert f"{user} is not bound to the role {role} for the rollout ranker" in said


def test_nobody_votes_in_the_name_of_another(booth: Booth) -> None:
    said = booth.refused("quality", vote(voter="commander"))

    assert "spec.voter is commander: expected the user who casts the vote, quality" in said


def test_who_is_bound_to_no_role_cannot_vote(booth: Booth) -> None:
    assert "cannot create resource" in booth.refused("stranger", vote(voter="stranger"))


def test_the_right_to_create_is_not_the_right_to_vote(booth: Booth) -> None:
    api = booth.server
    everything = ("--verb=get,list,create,update,patch,delete", "--resource=votes.ops-commander.dev")
    api.kubectl("create", "role", "votes", *everything, "-n", booth.namespace)
    api.kubectl("create", "rolebinding", "votes", "--role=votes", "--user=clerk", "-n", booth.namespace)
    booth.until("auth", "can-i", "create", "votes.ops-commander.dev", user="clerk")

    assert "clerk is not bound to the role QualityOfficer" in booth.refused("clerk", vote(voter="clerk"))


def test_a_role_may_be_limited_to_one_rollout(booth: Booth) -> None:
    api = booth.server
    rules = [
        {"apiGroups": ["ops-commander.dev"], "resources": ["votes"], "verbs": ["create", "get"]},
        {
            "apiGroups": ["ops-commander.dev"],
            "resources": ["modelrollouts"],
            "resourceNames": ["ranker"],
            "verbs": ["vote-quality"],
        },
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "ranker"}}
    api.kubectl("apply", "-n", booth.namespace, "-f", "-", stdin=json.dumps({**role, "rules": rules}))
    api.kubectl("create", "rolebinding", "ranker", "--role=ranker", "--user=reviewer", "-n", booth.namespace)
    booth.until("auth", "can-i", "vote-quality", "modelrollouts.ops-commander.dev/ranker", user="reviewer")

    booth.taken("reviewer", vote(voter="reviewer"), dry_run=True)
    other = vote(voter="reviewer", rollout="search", deploymentId="search-2bcdfghjkl-3")
    assert "not bound to the role QualityOfficer for the rollout search" in booth.refused("reviewer", other)


def test_a_role_votes_once_on_a_deployment(booth: Booth) -> None:
    booth.taken("quality", vote())

    assert "already exists" in booth.refused("quality", vote(vote="NO-GO", concern="changed my mind"))
    renamed = vote()
    renamed["metadata"]["name"] = "second-thoughts"
    assert f"expected {DEPLOYMENT}-quality-officer" in booth.refused("quality", renamed)


@pytest.mark.parametrize("user", ["quality", "admin"])
def test_what_was_cast_stays(booth: Booth, user: str) -> None:
    booth.taken("quality", vote())
    name = f"vote/{vote()['metadata']['name']}"

    changed = booth.run(user, "patch", name, "--type=merge", "-p", '{"spec": {"vote": "NO-GO", "concern": "x"}}')

    assert changed.returncode != 0
    assert ("cannot be changed" in changed.stderr) if user == "admin" else ("cannot patch" in changed.stderr)
    assert booth.run("quality", "get", name, "-o", "jsonpath={.spec.vote}").stdout == "GO"


def test_voters_delete_no_vote_even_where_a_role_lets_them(booth: Booth) -> None:
    api, name = booth.server, f"vote/{vote()['metadata']['name']}"
    booth.taken("quality", vote())
    assert "cannot delete" in booth.run("quality", "delete", name).stderr

    delete = ("--verb=delete", "--resource=votes.ops-commander.dev")
    api.kubectl("create", "role", "sweep", *delete, "-n", booth.namespace)
    for user in ("quality", "commander", "janitor"):
        api.kubectl("create", "rolebinding", f"sweep-{user}", "--role=sweep", f"--user={user}", "-n", booth.namespace)
        booth.until("auth", "can-i", "delete", "votes.ops-commander.dev", user=user)

    assert "quality has cast this vote" in booth.run("quality", "delete", name).stderr
    assert "commander is a voter of the rollout ranker" in booth.run("commander", "delete", name).stderr
    for user in ("janitor", "admin"):
        swept = booth.run(user, "delete", name, "--dry-run=server")
        assert swept.returncode == 0, swept.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param({"deploymentId": "search-2bcdfghjkl-3"}, "none of the rollout ranker", id="of another rollout"),
        pytest.param({"deploymentId": "ranker-latest-3"}, "none of the rollout ranker", id="no deployment id"),
        pytest.param({"vote": "NO-GO"}, "a NO-GO needs its key concern", id="NO-GO without a concern"),
        pytest.param({"vote": "MAYBE"}, "Unsupported value", id="neither GO nor NO-GO"),
        pytest.param({"risk": "None"}, "Unsupported value", id="no level of risk"),
        pytest.param({"evidence": [{"kind": "slo", "sha256": "abc"}]}, "sha256", id="no checksum"),
    ],
)
def test_malformed_votes(booth: Booth, spec: dict[str, Any], said: str) -> None:
    assert said in booth.refused("quality", vote(**spec))


def test_votes_cast_by_the_command_line_let_a_rollout_go_on(
    booth: Booth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, the API server, the operator's reading and its decision; only the cluster around is simulated."""
    server, namespace = booth.server, booth.namespace
    world = rollout().policy(quorum=EXTERNAL).at("shadow")
    world.run_until(lambda: "VotesAwaited" in world.reasons(), 60).run(1)
    _create_rollout(server, world, namespace)
    for user, role in (("operator", "infrastructure"), ("viewer", "quality"), ("nobody", "commander")):
        bind = ("create", "rolebinding", f"cli-{role}", f"--clusterrole={ROLE}{role}", f"--user={user}")
        server.kubectl(*bind, "-n", namespace)
        booth.until("auth", "can-i", f"vote-{role}", "modelrollouts.ops-commander.dev", user=user)
    report = tmp_path / "slo.yaml"
    report.write_text(_report(world.deployment.id), encoding="utf-8")

    def command(verb: str, user: str, *arguments: str) -> tuple[int, str, str]:
        place = ("-n", namespace, "--kubeconfig", str(server.kubeconfig_of(user)))
        code = main(["vote", verb, "ranker", *place, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    code, out, err = command("go", "viewer", "--role=quality", "--risk=low", f"--evidence={report}")
    assert code == 0, err
    assert "Quality & Safety Officer: GO (Low risk)" in out and "SLOReport" in out and "@ run_8724" in out
    assert "S2 P95 is 510 ms: expected < 500 ms" in out
    code, _, err = command("no-go", "viewer", "--role=quality", "--risk=high", "--concern=on second thoughts")
    assert code == 1 and "has voted on this deployment already" in err
    code, _, err = command("go", "viewer", "--role=commander", "--risk=low")
    assert code == 1 and "viewer is not bound to the role OpsCommander" in err
    report.write_text(_report("ranker-2bcdfghjkl-1"), encoding="utf-8")
    code, _, err = command("go", "operator", "--role=infrastructure", "--risk=low", f"--evidence={report}")
    assert code == 2 and "is for ranker-2bcdfghjkl-1" in err

    first = asyncio.run(_decided(server, world, namespace))
    assert (first.rule, first.reason) == ("running", "VotesMissing")
    assert command("go", "operator", "--role=infrastructure", "--risk=low")[0] == 0
    assert command("no-go", "nobody", "--role=commander", "--risk=high", "--concern=drift")[0] == 0
    last = asyncio.run(_decided(server, world, namespace))
    assert (last.rule, last.reason) == ("running", "QuorumReached")
    assert last.status is not None and last.status.quorum is not None
    assert last.status.quorum.line == "**Quorum:** 2/3 GO votes → **PROCEED TO CANARY 5%**"
    assert [row.voter for row in last.status.votes] == ["operator", "viewer", "nobody"]

    asyncio.run(_committed(server, namespace, last.status))
    code, out, _ = command("list", "viewer")
    assert code == 0 and "Quorum: 2/3 GO votes → PROCEED TO CANARY 5%" in out
    assert out.count("External") == 3 and "drift" in out and "not counted" not in out
    described = server.kubectl("describe", "modelrollout", "ranker", "-n", namespace).stdout
    assert all(agent in described for agent in ("Infrastructure & Performance Monitor", "Ops Commander"))
    assert "QuorumReached" in described
    shown = booth.run("admin", "get", "votes", "-o", "jsonpath={.items[*].status.reason}").stdout
    assert shown.split() == ["Counted"] * 3


def _create_rollout(server: ApiServer, world: World, namespace: str) -> None:
    metadata = {"name": world.name, "namespace": namespace}
    body = {"apiVersion": API_VERSION, "kind": "ModelRollout", "metadata": metadata}
    server.kubectl("create", "-f", "-", stdin=json.dumps({**body, "spec": world.spec_body}))
    identity, revision = world.deployment.id, world.deployment.revision
    deployment = {"id": identity, "revision": revision, "modelVersion": "2", "generation": 1}
    status = {"deployment": {**deployment, "startedAt": "2026-01-05T09:00:00Z"}, "phase": "Progressing"}
    patch = ("patch", "modelrollout", world.name, "-n", namespace, "--subresource=status", "--type=merge")
    server.kubectl(*patch, "-p", json.dumps({"status": status}))


def _report(deployment: str) -> str:
    slo = {"id": "S2", "objective": "P95", "target": "< 500 ms", "observed": 510, "unit": " ms", "met": False}
    head = {"apiVersion": "ops-commander.dev/handoff/v1", "kind": "SLOReport", "runId": "run_8724"}
    made = {"createdAt": clock.now().isoformat(), "deploymentId": deployment}
    return yaml.safe_dump({**head, **made, "slos": [slo]})


async def _decided(server: ApiServer, world: World, namespace: str) -> Decision:
    """What the operator decides on the votes that the API server has; what it notes on them is written."""
    async with KubernetesApi(await load_configuration(str(server.kubeconfig))) as api:
        cluster, snapshot = Cluster(api), replace(world.snapshot(), namespace=namespace)
        votes = await ballots.votes_on(cluster, snapshot, world.now)
        decision = decide(replace(snapshot, votes=votes), world.now)
        for action in decision.actions:
            if isinstance(action, NoteVote):
                await cluster.carry_out(namespace, world.name, "", action)
        return decision


async def _committed(server: ApiServer, namespace: str, status: ModelRolloutStatus) -> None:
    async with KubernetesApi(await load_configuration(str(server.kubeconfig))) as api:
        cluster = Cluster(api)
        body = await cluster.rollout(namespace, "ranker")
        assert body is not None
        await cluster.commit(namespace, "ranker", body["metadata"]["resourceVersion"], status)


def test_a_release_of_some_namespaces_leaves_the_others_alone() -> None:
    objects = chart("watchNamespaces={shop,search}")
    kinds = {item["kind"] for item in objects}
    assert kinds == {"Role", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    binding = next(item for item in objects if item["kind"].endswith("Binding"))
    (namespaces,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert namespaces["values"] == ["shop", "search"]
