"""Reports that are handed over: what is verified of them, and what a bad one is told."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.integration.documents import BadInput
from ops_commander.integration.handoffs import evidence
from ops_commander.integration.handoffs.evidence import Terms, prove
from ops_commander.integration.handoffs.reports import KINDS

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
IDENTITY = "ranker-2bcdfghjkl-3"
TERMS = Terms(NOW, timedelta(hours=24), IDENTITY)

BODIES: dict[str, dict[str, Any]] = {
    "EnvironmentStabilityReport": {"environment": "eu-west", "window": "24h", "stable": True},
    "LatencyReport": {"requests": 9000, "percentiles": [{"name": "p95", "candidate": 463, "target": 500}]},
    "ResourceReport": {"usage": [{"name": "memory", "used": 3, "limit": 4, "unit": "GiB"}]},
    "ComplianceReport": {"candidate": 0.91, "baseline": 0.8, "samples": 500},
    "SLOReport": {"slos": [{"id": "S2", "objective": "P95", "target": "< 500 ms", "observed": 463, "met": True}]},
    "RollbackReadinessReport": {"stableRevision": "abc", "replicas": 4, "readyReplicas": 4, "drillSeconds": 12.5},
    "RunIds": {"grafanaRunId": "g1", "deployRunId": "d1", "mlflowRunId": "m1"},
}


def report(kind: str = "LatencyReport", **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ops-commander.dev/handoff/v1",
        "kind": kind,
        "runId": "run_8724",
        "createdAt": "2026-03-04T11:00:00Z",
        **BODIES.get(kind, {}),
        **changes,
    }


def written(folder: Path, body: dict[str, Any] | str, name: str = "report.yaml") -> str:
    path = folder / name
    path.write_text(body if isinstance(body, str) else yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    return str(path)


def refusal(given_: str, terms: Terms = TERMS) -> str:
    with pytest.raises(BadInput) as refused:
        prove(given_, terms)
    return str(refused.value)


def test_every_kind_has_an_example_here() -> None:
    assert set(BODIES) == set(KINDS)


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("name", ["report.yaml", "report.json"])
def test_a_good_report_becomes_evidence(tmp_path: Path, kind: str, name: str) -> None:
    text = json.dumps(report(kind)) if name.endswith("json") else yaml.safe_dump(report(kind))
    path = written(tmp_path, text, name)
    proved = prove(path, TERMS)

    (item,) = proved.evidence
    assert (item.kind, item.path, item.run_id) == (kind, path, "run_8724")
    assert item.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert item.created_at == datetime(2026, 3, 4, 11, tzinfo=UTC)
    assert proved.against == ()


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("EnvironmentStabilityReport", {"stable": False, "incidents": 2}, "eu-west was not stable: 2 incident(s)"),
        ("LatencyReport", {"percentiles": [{"name": "p95", "candidate": 500, "target": 500}]}, "p95 is 500 ms"),
        ("ResourceReport", {"usage": [{"name": "gpu", "used": 79, "limit": 80}]}, "gpu: 79 of 80 used, at most 90%"),
        ("ComplianceReport", {"candidate": 0.75}, "Compliance@1 fell from 0.8 to 0.75"),
        ("ComplianceReport", {"rules": [{"name": "pii", "passed": False}]}, "rule pii is broken"),
        (
            "SLOReport",
            {
                "slos": [
                    {"id": "S3", "objective": "errors", "target": "< 1 %", "observed": 2, "unit": " %", "met": False}
                ]
            },
            "S3 errors is 2 %: expected < 1 %",
        ),
        ("RollbackReadinessReport", {"readyReplicas": 3}, "stable has 3 of 4 pod(s) Ready"),
        ("RollbackReadinessReport", {"drillSeconds": 372}, "the latest rollback took 372 s: expected at most 120"),
    ],
)
def test_what_speaks_against_going_on_is_told(tmp_path: Path, kind: str, changes: dict[str, Any], said: str) -> None:
    proved = prove(written(tmp_path, report(kind, **changes)), TERMS)

    assert any(said in each for each in proved.against)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runId": None}, "(.runId): is 'None': expected input should be a valid string"),
        ({"createdAt": "2026-03-03T11:00:00Z"}, "(.createdAt): is 25h old: expected at most 24h"),
        ({"createdAt": "2026-03-04T10:00:00Z", "maxAge": "1h"}, "is 2h old: expected at most 1h"),
        ({"createdAt": "2026-03-04T13:00:00Z"}, "still to come: expected a time in the past"),
        ({"createdAt": "2026-03-04 11:00:00"}, "expected a time zone"),
        ({"deploymentId": "ranker-2bcdfghjkl-2"}, f"is for ranker-2bcdfghjkl-2: expected {IDENTITY}"),
        ({"kind": "Horoscope"}, "is no kind of report: expected kind: one of EnvironmentStabilityReport"),
        ({"percentiles": []}, "(.percentiles): "),
        ({"percentiles": [{"name": "p95", "candidate": float("nan")}]}, "(.percentiles[0].candidate): "),
        ({"verdict": "fine"}, "(.verdict): is not a field: expected one of the fields of this kind of report"),
    ],
)
def test_a_bad_report_is_named_with_place_value_and_what_was_expected(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = written(tmp_path, report(**changes))
    message = refusal(path)

    assert message.startswith(f"{path}: line ") and said in message


def test_missing_fields_are_named(tmp_path: Path) -> None:
    body = report()
    del body["runId"]

    assert "(.runId): is missing: expected a value" in refusal(written(tmp_path, body))


def test_artifacts_beside_a_report_must_be_the_very_ones(tmp_path: Path) -> None:
    (tmp_path / "metrics.log").write_bytes(b"p95 463\n")
    checksum = hashlib.sha256(b"p95 463\n").hexdigest()
    good = report(artifacts=[{"path": "metrics.log", "sha256": checksum}, {"uri": "s3://a/b", "sha256": "0" * 64}])
    _, first, second = prove(written(tmp_path, good), TERMS).evidence
    assert (first.path, first.sha256, first.run_id) == ("metrics.log", checksum, "run_8724")
    assert second.uri == "s3://a/b" and "not fetched" in (second.summary or "")

    (tmp_path / "metrics.log").write_bytes(b"p95 463 \n")
    assert f"expected {checksum}" in refusal(written(tmp_path, good))
    (tmp_path / "metrics.log").unlink()
    assert "(.artifacts[0].path)" in refusal(written(tmp_path, good))


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd"])
def test_artifacts_stay_in_the_folder_of_the_report(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    body = report(artifacts=[{"path": path, "sha256": "0" * 64}])

    assert "leaves the folder" in refusal(written(folder, body))


def test_any_other_file_is_evidence_of_the_run_that_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "4 passed\n", "integration_run.log")
    os.utime(path, (NOW.timestamp() - 60, NOW.timestamp() - 60))
    (item,) = prove(f"{path}@run_7", TERMS).evidence

    assert (item.kind, item.run_id, item.created_at) == ("file", "run_7", NOW - timedelta(seconds=60))
    assert "names no run: expected FILE@RUN_ID" in refusal(path)
    assert "is 10h1m old" in refusal(f"{path}@run_7", Terms(NOW + timedelta(hours=10), timedelta(hours=9)))


def test_the_run_that_is_given_must_be_that_of_the_report(tmp_path: Path) -> None:
    path = written(tmp_path, report())

    assert prove(f"{path}@run_8724", TERMS).evidence
    assert "is of run run_8724: expected run run_1" in refusal(f"{path}@run_1")


def test_what_is_absent_or_no_file_is_said(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "absent.yaml"))
    assert "No such file" in refusal(f"{tmp_path / 'absent.log'}@run_1")
    assert "is a directory: expected a file" in refusal(f"{tmp_path}@run_1").lower()
    assert "expected FILE or FILE@RUN_ID" in refusal("absent@")


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\0" * (3 << 20))

    assert evidence.sha256_of(path) == hashlib.sha256(b"\0" * (3 << 20)).hexdigest()


@given(st.binary(max_size=400))
def test_no_bytes_bring_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(b"apiVersion: ops-commander.dev/handoff/v1\n" + data)

    with pytest.raises(BadInput):
        prove(str(path), TERMS)
