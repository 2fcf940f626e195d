"""Directives and consensus: voters with tokens of their own, and plans that run to their end whoever is killed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.demo import installed
from hack.demo.installed import kubectl
from ops_commander.api.ballot import VoterRole
from ops_commander.api.vote import vote_name
from tests.e2e.shop import Rollout, Shop, apply_refused, condition_of, ops_commander_command, status, step_names

ROLES = {
    "infrastructure": VoterRole.INFRASTRUCTURE_MONITOR,
    "quality": VoterRole.QUALITY_OFFICER,
    "commander": VoterRole.OPS_COMMANDER,
}
EXTERNAL = {"voters": dict.fromkeys(("infrastructureMonitor", "qualityOfficer", "opsCommander"), "External")}
TO_CANARY = [
    {"shadow": {"minDuration": "2s", "maxDuration": "90s"}},
    {"canary": {"weight": 20, "minDuration": "2s", "maxDuration": "90s"}},
    {"full": {"bake": "2s", "maxDuration": "90s"}},
]


# --- votes ---------------------------------------------------------------------------------------


@dataclass
class Voters:
    """A service account for each role, bound to the chart's role of it; each speaks with its own token."""

    shop: Shop
    folder: Path

    def bind(self) -> None:
        where = f"--namespace={self.shop.namespace}"
        for role in ROLES:
            kubectl("create", "serviceaccount", role, where)
            allowed = f"--clusterrole={installed.RELEASE}.{installed.OPERATOR_NAMESPACE}-voter-{role}"
            kubectl("create", "rolebinding", role, allowed, f"--serviceaccount={self.shop.namespace}:{role}", where)
            self._sign_in(role)
        for role in ROLES:
            self._await_right(role)

    def _sign_in(self, role: str) -> None:
        config = yaml.safe_load(kubectl("config", "view", "--minify", "--raw", "--output=yaml"))
        token = kubectl("create", "token", role, f"--namespace={self.shop.namespace}").strip()
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        (self.folder / role).write_text(yaml.safe_dump(config), encoding="utf-8")

    def _await_right(self, role: str) -> None:
        """The authorizer learns of a binding through a watch."""
        asked = f"vote-{role}", "modelrollouts.ops-commander.dev", f"--namespace={self.shop.namespace}"
        deadline = time.monotonic() + 15
        while kubectl("auth", "can-i", *asked, f"--as={self.name(role)}").strip() != "yes":
            assert time.monotonic() < deadline, f"{role} was not bound"

    def name(self, role: str) -> str:
        return f"system:serviceaccount:{self.shop.namespace}:{role}"

    def identity(self, role: str) -> str:
        return f"--kubeconfig={self.folder / role}"

    def says(self, role: str, verb: str, risk: str, *more: str, as_: str = "", code: int = 0) -> str:
        """`ops-commander vote` of a role, by its own subject unless another is named."""
        place = (self.shop.name, f"--namespace={self.shop.namespace}", self.identity(as_ or role))
        return ops_commander_command("vote", verb, *place, f"--role={role}", f"--risk={risk}", *more, code=code)

    def refused(self, deployment: str, role: str, by: str, voter: str = "") -> str:
        """What the API server says of a GO for a role, by the subject of another."""
        spec = {
            "rollout": self.shop.name,
            "deploymentId": deployment,
            "role": ROLES[role],
            "voter": self.name(voter or by),
            "vote": "GO",
            "risk": "Low",
        }
        metadata = {"name": vote_name(deployment, ROLES[role]), "namespace": self.shop.namespace}
        body = {"apiVersion": "ops-commander.dev/v1alpha1", "kind": "Vote", "metadata": metadata, "spec": spec}
        return apply_refused(body, self.identity(by))


@pytest.fixture
def voters(shop: Shop, tmp_path: Path) -> Voters:
    made = Voters(shop, tmp_path)
    made.bind()
    installed.apply(shop.policy(quorum=EXTERNAL))
    shop.launch()
    return made


def quorum(rollout: Rollout) -> dict[str, Any]:
    return dict(status(rollout).get("quorum") or {})


def wait_votes(shop: Shop, reason: str, cast: int, *, deployment: str = "") -> Rollout:
    """That many votes are in, nothing else is waited for, and the deployment is not the one that was before."""

    def holds(found: Rollout) -> bool:
        told = quorum(found)
        is_asked = bool(told.get("askedAt")) and told["deploymentId"] != deployment
        return is_asked and (status(found)["reason"], told["cast"]) == (reason, cast)

    return shop.wait_for(holds, f"{reason} with {cast} votes", 60)


def test_two_of_three_let_it_go_on_one_alone_holds_and_a_breach_asks_nobody(shop: Shop, voters: Voters) -> None:
    shop.apply(shop.version(2, steps=TO_CANARY))
    asked = wait_votes(shop, "VotesMissing", 0)
    second = str(status(asked)["deployment"]["id"])

    said = voters.refused(second, "infrastructure", by="quality")
    assert f"{voters.name('quality')} is not bound to the role InfrastructureMonitor for the rollout ranker" in said
    said = voters.refused(second, "quality", by="quality", voter="commander")
    assert f"expected the user who casts the vote, {voters.name('quality')}" in said
    said = voters.says("commander", "go", "low", as_="infrastructure", code=1)
    assert "is not bound to the role OpsCommander" in said
    assert not kubectl("get", "votes", f"--namespace={shop.namespace}", "--output=name")

    voters.says("infrastructure", "go", "low")
    voters.says("commander", "go", "medium", "--concern=the market of next week")
    missing = wait_votes(shop, "VotesMissing", 2)
    assert (quorum(missing)["go"], status(missing)["step"]["name"], status(missing)["weight"]) == (2, "shadow", 0)
    held = condition_of(missing, "QuorumReached")
    assert held is not None and (held["status"], held["reason"]) == ("False", "VotesMissing")
    assert "Quality & Safety Officer" in held["message"]
    described = kubectl("describe", "mro/ranker", f"--namespace={shop.namespace}")
    assert "VotesMissing" in described and "has not voted yet" in described
    assert shop.route_weights() == {"ranker-stable": 100, "ranker-candidate": 0}

    voters.says("quality", "no-go", "high", "--concern=scores of rare items drift")
    shop.wait_step("canary")
    completed = shop.wait_for(lambda found: status(found).get("stableVersion") == "2", "completion", 90)
    assert quorum(completed)["line"] == "**Quorum:** 2/3 GO votes → **PROCEED TO CANARY 20%**"
    told = quorum(completed)["message"]
    assert told.index("NO-GO (High risk)") < told.index("Ops Commander GO"), told
    assert "scores of rare items drift" in told
    assert {row["voter"] for row in status(completed)["votes"]} == {voters.name(role) for role in ROLES}
    assert step_names(completed) == ["shadow", "canary 20%", "full"]

    # Votes on version 2 are none on version 3.
    shop.apply(shop.version(3, steps=TO_CANARY))
    third = str(status(wait_votes(shop, "VotesMissing", 0, deployment=second))["deployment"]["id"])
    voters.says("commander", "go", "low")
    voters.says("quality", "no-go", "medium", "--concern=drift")
    voters.says("infrastructure", "no-go", "high", "--concern=a node is leaving")
    few = wait_votes(shop, "TooFewGo", 3)
    assert (status(few)["deployment"]["id"], quorum(few)["go"], status(few)["step"]["state"]) == (third, 1, "Running")
    assert status(few)["deployment"].get("outcome") is None and status(few).get("rollback") is None
    listed = ops_commander_command("vote", "list", "ranker", f"--namespace={shop.namespace}")
    assert "a node is leaving" in listed and listed.count("NO-GO") >= 2
    assert len(shop.pods(status(few)["candidateRevision"])) >= 1, "what waits for votes keeps its pods"

    shop.inject(status(few)["candidateRevision"], error_rate=0.9)
    reverted = shop.wait_phase("RolledBack", 40)
    rollback = status(reverted)["rollback"]
    assert (rollback["deploymentId"], rollback["reason"]) == (third, "ObjectiveBreached")
    assert rollback["trafficSeconds"] < 5
    assert rollback["objective"] in ("error-rate", "error-ratio")
    assert shop.load_stats()["by_version"].keys() == {"1", "2"}
    shop.assert_no_switch_failed()
