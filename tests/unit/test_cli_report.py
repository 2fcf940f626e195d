"""`ops-commander report` and `history` without a cluster: ModelRollouts from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.cli.main import main
from tests.unit import recorded
from tests.unit.core.reports.cases import DEPLOY_RUN, as_stored, completed, rolled_back
from tests.unit.recorded import Recorded
from tests.unit.world import Health, rollout

FILES = {"execution_report.md", "innovation_report.md", "audit.jsonl", "weights.svg", "objectives.svg"}
INCIDENT = "post_incident_report.md"


def body_of(rollout_: ModelRollout) -> dict[str, Any]:
    return rollout_.model_dump(mode="json", by_alias=True, exclude_none=True)


def saved(path: Path, *rollouts: ModelRollout | dict[str, Any]) -> Path:
    """As `kubectl get -o yaml` prints one or several."""
    bodies = [item if isinstance(item, dict) else body_of(item) for item in rollouts]
    content = bodies[0] if len(bodies) == 1 else {"apiVersion": "v1", "kind": "List", "items": bodies}
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def named(name: str, rollout_: ModelRollout) -> ModelRollout:
    return rollout_.model_copy(update={"metadata": {**rollout_.metadata, "name": name}})


def test_one_rollout_is_reported_in_the_folder_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = saved(tmp_path / "rollout.yaml", rolled_back().rollout), tmp_path / "reports"

    assert main(["report", "--from", str(file), "-o", str(out), "--deploy-run-id", DEPLOY_RUN]) == 0
    assert {path.name for path in out.iterdir()} == FILES | {INCIDENT}
    assert "947.6ms @ run_87245b5f0c7b" in (out / INCIDENT).read_text()
    assert str(out / "execution_report.md") in capsys.readouterr().out.splitlines()


def test_json_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "rollout.json"
    file.write_text(json.dumps(body_of(completed().rollout)))

    assert main(["report", "--from", str(file), "-o", str(tmp_path / "out")]) == 0


def test_several_rollouts_get_a_folder_each_and_one_can_be_chosen(tmp_path: Path) -> None:
    both = (named("one", completed().rollout), named("two", rolled_back().rollout))
    file, out = saved(tmp_path / "all.yaml", *both), tmp_path / "out"

    assert main(["report", "--from", str(file), "-o", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"one", "two"}
    assert {path.name for path in (out / "two").iterdir()} == FILES | {INCIDENT}
    assert main(["report", "--from", str(file), "--rollout", "one", "-o", str(tmp_path / "one")]) == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES


def test_the_incident_of_an_earlier_deployment_does_not_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["report", "--from", str(saved(tmp_path / "a", rolled_back().rollout)), "-o", str(out)]) == 0
    assert main(["report", "--from", str(saved(tmp_path / "b", completed().rollout)), "-o", str(out)]) == 0

    assert {path.name for path in out.iterdir()} == FILES
    assert f"removed {out / INCIDENT}" in capsys.readouterr().out


def world_and_recording(tmp_path: Path) -> tuple[Recorded, Path]:
    world = recorded.at(rollout(), "canary 5%")
    world.health["2"] = Health(latency=0.62)
    world.ended()
    return world, world.save(tmp_path / "deployment.jsonl.gz")


def test_a_recording_brings_the_first_bad_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world, recording = world_and_recording(tmp_path)
    file, out = saved(tmp_path / "rollout.yaml", as_stored(world)), tmp_path / "out"
    flags = ["report", "--from", str(file), "-o", str(out), "--recording", str(recording)]

    assert main([*flags, "--deploy-run-id", DEPLOY_RUN]) == 0
    assert "First sample past the target: 2026-01-05T09:0" in (out / INCIDENT).read_text()
    assert "<path" in (out / "objectives.svg").read_text()
    assert "warning" not in capsys.readouterr().err


def test_a_recording_of_another_deployment_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, recording = world_and_recording(tmp_path)
    other = completed().rollout
    assert other.status.deployment is not None
    deployment = other.status.deployment.model_copy(update={"id": "ranker-other-9"})
    changed = other.model_copy(update={"status": other.status.model_copy(update={"deployment": deployment})})
    file = saved(tmp_path / "rollout.yaml", changed)

    assert main(["report", "--from", str(file), "-o", str(tmp_path / "out"), "--recording", str(recording)]) == 2
    assert "is of deployment ranker-27jgnvh5xp-2: expected the latest, ranker-other-9" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "Deployment"}, "is of kind 'Deployment': expected ModelRollout"),
        ({"metadata": {"name": "../../etc/x"}}, ".metadata.name: is '../../etc/x': expected the name of an object"),
        ({"metadata": {}}, ".metadata.name: is None"),
        ({"metadata": {"name": "x", "annotations": {"a": 1}}}, ".metadata.annotations: is no map of texts"),
        ({"spec": {}}, ".spec"),
        ({"status": {"step": {"index": "x"}}}, ".status.step.index: is 'x'"),
        (
            {"status": {"history": [{"deploymentId": "a", "revision": "b", "modelVersion": "c", "outcome": "Completed",
             "startedAt": "2026-01-05T09:00:00", "endedAt": "2026-01-05T09:00:00Z"}]}},
            ".status.history[0].startedAt: has no time zone: expected a time such as",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    file = saved(tmp_path / "rollout.yaml", {**body_of(completed().rollout), **change})

    for command in (["report", "-o", str(tmp_path / "out")], ["history", str(change.get("name", "ranker"))]):
        assert main([*command, "--from", str(file)]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "line 1"),
        ("items: []", "holds no objects"),
        ("- 1", "is of kind 'list'"),
        ("\xff", "is of kind 'str'"),
        ("items: 3", "holds no objects"),
    ],
)
def test_a_file_that_holds_no_rollout_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")

    assert main(["report", "--from", str(file), "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_names_that_come_twice_or_not_at_all_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "all.yaml", completed().rollout, rolled_back().rollout)
    assert main(["report", "--from", str(file), "-o", str(tmp_path)]) == 2
    assert "has several ModelRollouts ranker" in capsys.readouterr().err

    assert main(["history", "nobody", "--from", str(file)]) == 2
    assert "has no ModelRollout nobody: expected one of ranker" in capsys.readouterr().err


def test_a_plan_comes_from_the_cluster_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "a.yaml", completed().rollout)

    assert main(["report", "--from", str(file), "--plan", "meeting", "-o", str(tmp_path / "out")]) == 2
    assert "--plan: is given beside --from" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("a file")
    file = saved(tmp_path / "a.yaml", completed().rollout)

    assert main(["report", "--from", str(file), "-o", str(tmp_path / "out")]) == 1
    assert "ops-commander report: " in capsys.readouterr().err


# --- history ------------------------------------------------------------------------------------------


def test_history_is_a_table_of_all_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "a.yaml", rolled_back().rollout)

    assert main(["history", "ranker", "--from", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["TIME", "DEPLOYMENT", "ACTOR", "WHAT", "RESULT", "WHY"]
    assert [line[:24] for line in lines[1:]] == sorted(line[:24] for line in lines[1:])
    assert any("all traffic back to stable" in line for line in lines)


def test_history_as_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = saved(tmp_path / "a.yaml", rolled_back().rollout)

    assert main(["history", "ranker", "--from", str(file), "--json"]) == 0
    bodies = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {tuple(body) for body in bodies} == {("deploymentId", "time", "actor", "what", "why", "evidence", "result")}
