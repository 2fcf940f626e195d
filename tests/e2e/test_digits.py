"""Real models on a real model server."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from hack.demo.installed import kubectl
from hack.digits import candidates
from ops_commander.cli.main import main
from tests.e2e.digits import DigitsShop, answer_of, seconds_to_ready, start_alone
from tests.e2e.shop import condition, rows, status, step_names


def test_a_real_model_is_shipped(digits: DigitsShop) -> None:
    first = digits.ship_first("v1")
    second = digits.register("v2")
    digits.apply(digits.rollout_of(second))
    digits.wait_step("shadow")
    digits.wait_step("canary")
    assert digits.route_weights() == {"digits-stable": 95, "digits-candidate": 5}
    digits.wait_step("full", 150)
    completed = digits.wait_for(
        lambda found: condition(found, "Ready") == "True" and status(found)["stableVersion"] == second.version,
        "version 2 to be stable",
        90,
    )
    assert step_names(completed) == ["shadow", "canary 5%", "full"]
    told = rows(completed)
    for name in ("error-rate", "failures", "p95-latency", "compliance"):
        assert told[name]["verdict"] == "Pass", told[name]
    assert told["compliance"]["source"] == f"{second.run_id}/evaluation/compliance.json"
    stats = digits.assert_no_switch_failed()
    assert stats["failed"]["model"] == {}
    assert stats["by_version"].keys() == {first.version, second.version}
    assert max(seconds_to_ready(digits.namespace).values()) < 30
    assert status(completed)["stableRunId"] == second.run_id


TOLERANCE = 0.02


def test_each_variant_answers_as_it_should(digits: DigitsShop) -> None:
    """What the comparison of answers is to find is there, and what it is to pass over is small."""
    variants = ("v1", "v2", "dropped-field", "float32", "rounded", "renamed-tensor", "nan")
    pods = {variant: start_alone(digits.namespace, variant) for variant in variants}
    names = [f"pod/{pod}" for pod in pods.values()]
    kubectl("wait", "--for=condition=Ready", *names, f"--namespace={digits.namespace}", "--timeout=90s", timeout=100)
    found = {variant: answer_of(digits.namespace, pod) for variant, pod in pods.items()}
    first, second = found["v1"], found["v2"]

    assert set(first) == {"predict", "predict_proba", "confidence"}
    assert first["predict_proba"]["datatype"] == second["predict_proba"]["datatype"] == "FP64"
    assert first["predict"]["data"] == second["predict"]["data"]
    differences = [
        abs(mine - theirs)
        for mine, theirs in zip(first["predict_proba"]["data"], second["predict_proba"]["data"], strict=True)
    ]
    assert 0.001 < max(differences) < TOLERANCE

    assert set(found["dropped-field"]) == {"predict", "predict_proba"}
    assert set(found["renamed-tensor"]) == {"predict", "scores", "confidence"}
    for variant, datatype in (("float32", "FP32"), ("rounded", "FP64")):
        told = found[variant]["predict_proba"]
        assert told["datatype"] == datatype
        assert all(_is_single(value) for value in told["data"])
    assert not any(_is_single(value) for value in second["predict_proba"]["data"])
    unknown = found["nan"]["predict_proba"]["data"].count(None)
    assert 0 < unknown < len(found["nan"]["predict"]["data"]) / 2


def _is_single(value: float) -> bool:
    return bool(struct.unpack("f", struct.pack("f", value))[0] == value)


@pytest.mark.parametrize(
    ("variant", "code", "verdict", "component", "veto"),
    [
        ("v1", 0, "ShadowOnly", None, None),
        ("v2", 0, "ShadowOnly", None, None),
        ("dropped-field", 0, "ShadowOnly", None, None),
        ("float32", 0, "ShadowOnly", None, None),
        ("rounded", 0, "ShadowOnly", None, None),
        ("nan", 0, "ShadowOnly", None, None),
        ("medium-risk", 0, "ShadowOnly", None, None),
        ("medium-slow", 0, "ShadowOnly", None, None),
        ("renamed-tensor", 1, "Reject", "schema", "SchemaBreaking"),
        ("wrong-checksum", 1, "Reject", "checkpoints[0]", "ChecksumMismatch"),
        ("cuda-conflict", 1, "Reject", "lockfile", "CudaMixed"),
        ("malicious-pickle", 1, "Reject", "checkpoints[1]", "DangerousImport"),
    ],
)
def test_preflight_stops_what_files_can_tell(
    tmp_path: Path, variant: str, code: int, verdict: str, component: str | None, veto: str | None
) -> None:
    """Against the files of version 1, as in the cluster."""
    baseline = candidates.write("v1", tmp_path / "baseline", "1")
    manifest = candidates.write(variant, tmp_path / variant, "2")
    output = tmp_path / "preflight.json"
    options = ["--baseline", str(baseline), "--format", "json", "--output", str(output)]
    assert main(["preflight", str(manifest), *options]) == code
    report = json.loads(output.read_text())
    assert report["verdict"] == verdict
    vetoes = {part["name"]: part["vetoes"] for part in report["components"] if part["vetoes"]}
    vetoes.pop("risk", None)
    assert list(vetoes) == ([component] if component else [])
    if component is not None:
        assert vetoes[component][0].startswith(f"{veto}: ")
    assert not Path(candidates.PAYLOAD_WRITES).exists()


def test_a_medium_risk_stays_medium_however_well_it_answers(tmp_path: Path) -> None:
    manifest = candidates.write("medium-risk", tmp_path / "medium-risk", "2")
    output = tmp_path / "preflight.json"
    assert main(["preflight", str(manifest), "--format", "json", "--output", str(output)]) == 0
    risk = json.loads(output.read_text())["risk"]
    parts = {part["name"]: part["value"] * part["weight"] for part in risk["parts"]}
    assert 0.3 <= parts["SchemaDrift"] + parts["DependencyMismatch"] < 0.6
