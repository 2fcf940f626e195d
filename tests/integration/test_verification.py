"""Files of candidates in a real MLflow: fetched within limits, checked in a process of their own, pinned, compared anew."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import yaml

from ops_commander.adapters.mlflow_artifacts import (
    MLflowArtifacts,
)
from ops_commander.api.risk import Verdict
from ops_commander.api.verification import VerificationStatus, VerifiedComponent
from ops_commander.integration.verification import RequestedModel, VerificationRequest
from ops_commander.runtime.verifier import Verifier
from tests.integration.controlplane import ControlPlaneError
from tests.integration.mlflow_server import MLflowServer
from tests.unit.integration.artifacts.builders import safetensors, tensor

WEIGHTS = safetensors({"w": tensor("F32", [2], 0, 8)}, b"\0" * 8)
LOCK = b"numpy==1.26.3\nrequests==2.31.0\ntorch==2.4.0+cu121\nnvidia-cublas-cu12==12.1.3.1\n"
REPORTS = ("preflight.json", "preflight.md", "api_schema_diff.json", "lock_diff.json")


def schema(**tensors: str) -> bytes:
    """Model metadata of the Open Inference Protocol: one input, and outputs by name."""
    outputs = [{"name": name, "datatype": dtype, "shape": [-1, 1]} for name, dtype in tensors.items()]
    metadata = {
        "name": "ranker",
        "platform": "sklearn",
        "inputs": [{"name": "features", "datatype": "FP64", "shape": [-1, 64]}],
        "outputs": outputs,
    }
    return json.dumps(metadata).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLflowServer]:
    try:
        with MLflowServer.start(tmp_path_factory.mktemp("mlflow")) as server:
            yield server
    except ControlPlaneError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
async def artifacts(mlflow: MLflowServer) -> AsyncIterator[MLflowArtifacts]:
    found = MLflowArtifacts(mlflow.url)
    yield found
    await found.close()


@dataclass
class Version:
    """A version in MLflow that is safe, each part of which can be changed before it is put there."""

    mlflow: MLflowServer
    name: str = field(default_factory=lambda: f"ranker-{uuid.uuid4().hex[:8]}")
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    run: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        self.run = self.mlflow.new_run()
        self.version = self.mlflow.register(self.name, self.run)
        self.files = {
            "api/old.json": schema(score="FP64", label="BYTES"),
            "api/new.json": schema(score="FP64", label="BYTES"),
            "prod.lock": LOCK,
            "cand.lock": LOCK,
            "config.json": b'{"layers": 2}',
            "model.safetensors": WEIGHTS,
            "report.md": b"good",
        }
        self.manifest = {
            "model": {"name": self.name, "version": self.version, "runId": self.run},
            "schema": {"baseline": "api/old.json", "candidate": "api/new.json"},
            "lockfile": {"production": "prod.lock", "candidate": "cand.lock"},
            "config": {"path": "config.json", "sha256": sha256(b'{"layers": 2}')},
            "checkpoints": [{"path": "model.safetensors", "sha256": sha256(WEIGHTS), "maxAge": "24h"}],
            "tests": [{"name": "unit", "passed": True, "evidence": "report.md", "sha256": sha256(b"good")}],
            "evidence": [{"path": "report.md", "runId": self.run, "sha256": sha256(b"good")}],
            "measured": {
                "latency": {"upperMs": 4, "baselineP95Ms": 400, "runId": self.run},
                "output": {"upper": 0.001, "runId": self.run},
            },
        }

    def checkpoint(self, name: str, data: bytes, **values: Any) -> None:
        self.files[name] = data
        self.manifest["checkpoints"] = [{"path": name, "sha256": sha256(data), **values}]

    def put(self) -> Version:
        for name, data in {**self.files, "candidate_manifest.yaml": self.text}.items():
            self.mlflow.put(self.run, self.folder + name, data)
        return self

    @property
    def text(self) -> bytes:
        return yaml.safe_dump(self.manifest).encode()

    def request(self, **changes: Any) -> VerificationRequest:
        given: dict[str, Any] = {
            "mlflow_url": self.mlflow.url,
            "model": RequestedModel(name=self.name, version=self.version, run_id=self.run),
            "revision": "abc123",
            "manifest": f"{self.folder}candidate_manifest.yaml",
            "evidence_path": "ops-commander/demo-1",
        }
        return VerificationRequest(**{**given, **changes})


@pytest.fixture
def version(mlflow: MLflowServer) -> Version:
    return Version(mlflow)


async def verified(request: VerificationRequest) -> VerificationStatus:
    return await Verifier(timeout=timedelta(minutes=2)).verify(request)


def component(status: VerificationStatus, name: str) -> VerifiedComponent:
    return next(each for each in status.components if each.name == name)


async def test_a_good_candidate_is_verified_and_its_files_are_pinned(
    version: Version, artifacts: MLflowArtifacts
) -> None:
    version.put()

    status = await verified(version.request(asked="d1"))

    assert (status.verdict, status.reason) == (Verdict.SAFE, "Verified"), status
    assert (status.revision, status.asked, status.model_version) == ("abc123", "d1", version.version)
    assert status.run_id == version.run
    assert status.manifest_sha256 == sha256(version.text)
    assert {file.path: file.sha256 for file in status.files} == {
        "candidate_manifest.yaml": sha256(version.text),
        **{name: sha256(data) for name, data in version.files.items()},
    }
    assert (status.schema_drift, status.dependency_mismatch) == (0, 0)
    assert (status.latency_upper_ms, status.baseline_p95_ms, status.output_upper) == (4, 400, 0.001)
    assert [file.path for file in status.evidence] == [f"ops-commander/demo-1/{name}" for name in REPORTS]
    for file in status.evidence:
        assert (await artifacts.digest(file.run_id, file.path, max_bytes=10**6))[0] == file.sha256
