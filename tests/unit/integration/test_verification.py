"""What status says of files on disk: bounded, in words that are safe to show, and never a pass by omission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops_commander.adapters.mlflow_artifacts import MLflowArtifacts, Unsupported
from ops_commander.api.risk import Verdict
from ops_commander.core.risk import Veto
from ops_commander.integration.manifest import read_manifest
from ops_commander.integration.verification import Candidate, references, rejected, verify
from ops_commander.integration.verification_request import RequestedModel, VerificationRequest
from tests.unit.integration.test_preflight import NOW, WEIGHTS, sha256
from tests.unit.integration.test_preflight import Candidate as Files

REQUEST = VerificationRequest(
    mlflow_url="http://mlflow:5000", model=RequestedModel(name="ranker", version="7"), revision="abc"
)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def candidate(files: Files, **changes: Any) -> Candidate:
    given = {"version": "7", "run_id": "run_1", "manifest": files.write(), "manifest_sha256": "a" * 64, "files": ()}
    return Candidate(**{**given, **changes})


def test_the_verdict_is_that_of_preflight(files: Files) -> None:
    status, report = verify(REQUEST, candidate(files), NOW)

    assert report is not None
    assert (status.verdict, status.reason, status.checked_at) == (Verdict.SAFE, "Verified", NOW)
    assert status.message == "7 parts were checked, composite risk 0.0010 (Low)"
    assert [each.name for each in status.components] == ["identity", *(each.name for each in report.components)]


def test_many_files_leave_out_what_is_safe_and_nothing_else(files: Files) -> None:
    good = {"path": "model.safetensors", "sha256": sha256(WEIGHTS)}
    files.manifest["checkpoints"] = [good] * 100 + [{**good, "sha256": "0" * 64}]

    status, _ = verify(REQUEST, candidate(files), NOW)

    names = [each.name for each in status.components]
    assert len(names) == 61
    assert {"identity", "schema", "lockfile", "config", "tests", "evidence", "risk", "checkpoints[100]"} <= set(names)
    assert (status.verdict, status.reason) == (Verdict.REJECT, "ChecksumMismatch")


def test_what_a_candidate_says_is_short_and_printable(files: Files) -> None:
    files.manifest["tests"] = [{"name": "\u202e" + "x" * 200, "passed": False} for _ in range(200)]

    status, _ = verify(REQUEST, candidate(files), NOW)

    assert len(status.vetoes) == 1
    assert status.message.endswith("did not pass")
    texts = [status.message, *status.vetoes, *(each.message for each in status.components)]
    assert all(len(text) <= 500 and text.isprintable() for text in texts)


def test_risk_without_a_veto_is_named_too(files: Files) -> None:
    files.manifest["measured"] = {
        "latency": {"upperMs": 200, "baselineP95Ms": 100, "runId": "r"},
        "output": {"upper": 0.5, "runId": "r"},
    }
    files.put("cand.lock", b"numpy==2.0.0\nrequests==2.31.0\ntransformers==4.40.0")

    status, _ = verify(REQUEST, candidate(files), NOW)

    assert (status.verdict, status.reason, status.vetoes) == (Verdict.REJECT, "RiskHigh", [])


def test_files_that_cost_too_much_are_rejected(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("ops_commander.integration.preflight.run", exhausted)

    status, report = verify(REQUEST, candidate(files), NOW)

    assert (status.verdict, status.reason, report) == (Verdict.REJECT, "TooCostly", None)


def test_what_could_not_be_fetched_is_never_left_out(files: Files) -> None:
    absent = {"model.safetensors": Veto("TooLarge", "too much of it"), "report.md": Veto("ArtifactMissing", "gone")}

    status, _ = verify(REQUEST, candidate(files, absent=absent), NOW)

    assert (status.verdict, status.reason) == (Verdict.REJECT, "TooLarge")
    assert status.vetoes == ["TooLarge: too much of it", "ArtifactMissing: gone"]


def test_the_first_of_several_vetoes_is_the_reason() -> None:
    status = rejected(REQUEST, NOW, [Veto("One", "first"), Veto("Two", "second"), Veto("One", "first")])

    assert (status.reason, status.message) == ("One", "first (1 more after it)")
    assert (status.model_version, status.run_id, status.vetoes) == ("7", "", ["One: first", "Two: second"])


def test_a_baseline_of_another_manifest_spares_the_own_one(files: Files) -> None:
    manifest = read_manifest(files.write())[0]

    own = [each.name for each in references(manifest, has_baseline=False)]

    assert own == ["old.json", "prod.lock", "new.json", "cand.lock", "config.json", "report.md", "model.safetensors"]
    assert [each.name for each in references(manifest, has_baseline=True)] == own[2:]


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        ("mlflow-artifacts:/0/r/artifacts", "0/r/artifacts"),
        ("mlflow-artifacts://mlflow:5000/0/r/artifacts", "0/r/artifacts"),
        ("http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/0/r", "0/r"),
        ("mlflow-artifacts://elsewhere:5000/0/r/artifacts", None),
        ("https://elsewhere/api/2.0/mlflow-artifacts/artifacts/0/r", None),
        ("mlflow-artifacts:/0/../../r", None),
        ("mlflow-artifacts:/", None),
        ("s3://bucket/0/r", None),
        ("/var/lib/mlruns", None),
        ("http://mlflow:5000/metrics", None),
    ],
)
def test_only_the_servers_own_artifacts_are_addressed(uri: str, root: str | None) -> None:
    mlflow = MLflowArtifacts("http://mlflow:5000")
    if root is None:
        with pytest.raises(Unsupported, match="expected"):
            mlflow.proxied(uri, "run r")
    else:
        assert mlflow.proxied(uri, "run r") == root
