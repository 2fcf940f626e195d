"""`ops-commander report` and `history` on a real API server: a rollout, the plan behind it, and a whole namespace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ops_commander.cli.main import main
from ops_commander.core.plans import naming
from tests.integration.controlplane import ApiServer
from tests.unit.core.reports.cases import DEPLOY_RUN, completed, rolled_back

FILES = {"execution_report.md", "innovation_report.md", "audit.jsonl", "weights.svg", "objectives.svg"}
PROGRESS, INCIDENT = "execution_progress_update.md", "post_incident_report.md"
RUN = ("--deploy-run-id", DEPLOY_RUN)


def keep(server: ApiServer, namespace: str, item: BaseModel, name: str, **annotations: str) -> None:
    """The object as its operator would have left it."""
    body: dict[str, Any] = item.model_dump(mode="json", by_alias=True, exclude_none=True)
    status = body.pop("status")
    known = body["metadata"].get("annotations") or {}
    body["metadata"] = {"name": name, "annotations": {**known, **annotations}}
    server.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(body))
    patch = ("patch", body["kind"], name, "-n", namespace, "--subresource=status", "--type=merge")
    server.kubectl(*patch, "-p", json.dumps({"status": status}))


@pytest.fixture
def cluster(api_server: ApiServer, namespace: str) -> tuple[str, ...]:
    """Flags that reach a namespace with a completed rollout, its plan, and one that was reverted."""
    plan = completed().plan
    assert plan is not None
    keep(api_server, namespace, plan, "meeting")
    keep(api_server, namespace, completed().rollout, "ranker", **{naming.BY_PLAN: "meeting"})
    keep(api_server, namespace, rolled_back().rollout, "search")
    return ("-n", namespace, "--kubeconfig", str(api_server.kubeconfig))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_rollout_is_reported_with_the_plan_behind_it(cluster: tuple[str, ...], tmp_path: Path) -> None:
    assert main(["report", "--rollout", "ranker", *cluster, *RUN, "-o", str(tmp_path)]) == 0

    assert names_in(tmp_path) == FILES | {PROGRESS}
    text = (tmp_path / "execution_report.md").read_text()
    assert "47.5ms @ run_87245b5f0c7b" in text and "- [x] **A1**: Deploy V1.0 to production" in text
    assert "**Ops Commander Final Verdict:** GO — all production metrics verified through MLflow and Grafana" in text


def test_a_plan_is_reported_with_its_rollouts(cluster: tuple[str, ...], tmp_path: Path) -> None:
    assert main(["report", "--plan", "meeting", *cluster, "-o", str(tmp_path)]) == 0

    assert names_in(tmp_path) == {PROGRESS, "ranker"}
    assert names_in(tmp_path / "ranker") == FILES | {PROGRESS}


def test_a_namespace_is_reported_by_rollout(cluster: tuple[str, ...], tmp_path: Path) -> None:
    assert main(["report", *cluster, "-o", str(tmp_path)]) == 0

    assert names_in(tmp_path) == {"ranker", "search"}
    assert names_in(tmp_path / "search") == FILES | {INCIDENT}


def test_history_is_read_from_the_cluster(cluster: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "search", *cluster, "--json"]) == 0

    results = [json.loads(line)["result"] for line in capsys.readouterr().out.splitlines()]
    assert "0.550s after the breach was visible" in results and "RolledBack" in results


@pytest.mark.parametrize(
    "command", [["report", "--rollout", "nobody"], ["report", "--plan", "nobody"], ["history", "x"]]
)
def test_what_is_not_there_is_named(
    cluster: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    output = ["-o", str(tmp_path / "out")] if command[0] == "report" else []

    assert main([*command, *cluster, *output]) == 1
    assert capsys.readouterr().err.startswith(f"ops-commander {command[0]}: ")
    assert not (tmp_path / "out").exists()
