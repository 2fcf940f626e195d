"""Files of candidates in a real MLflow: fetched within limits, checked in a process of their own, pinned, read anew."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops_commander.adapters.mlflow_artifacts import (
    ArtifactError,
    MLflowArtifacts,
    NotThere,
    TooLarge,
    Unreachable,
    Unsupported,
)
from ops_commander.api.risk import Verdict
from ops_commander.api.verification import VerificationStatus, VerifiedComponent, Waiver
from ops_commander.cli import verify as command
from ops_commander.integration.verification_request import RequestedModel, VerificationRequest
from ops_commander.runtime.verifications import NotVerifiedNow
from ops_commander.runtime.verifier import Verifier
from tests.integration.controlplane import ControlPlaneError, free_ports
from tests.integration.mlflow_server import MLflowServer
from tests.unit.integration.artifacts.builders import Payload, pickled, safetensors, tensor

MANIFEST = "candidate_manifest.yaml"
WEIGHTS = safetensors({"w": tensor("F32", [2], 0, 8)}, b"\0" * 8)
LOCK = b"numpy==1.26.3\nrequests==2.31.0\ntorch==2.4.0+cu121\nnvidia-cublas-cu12==12.1.3.1\n"
LOAD = "import pickle, sys; pickle.load(sys.stdin.buffer)"
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


# What is found.


async def answered(request: VerificationRequest, folder: Path) -> VerificationStatus:
    """As the process answers, without starting one."""
    work = folder / "work"
    work.mkdir()
    found = await command.answer(request, work)
    assert isinstance(found, VerificationStatus)
    return found


def _cuda(it: Version) -> None:
    it.files["cand.lock"] = LOCK.replace(b"cu121", b"cu118").replace(b"-cu12==12.1.3.1", b"-cu11==11.8.87")


def _pickle(it: Version) -> None:
    it.checkpoint("model.pkl", pickled(Payload(os.system, "true")), allowPickle=True, allowImports=["posix.*"])


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (lambda it: it.files.update({"model.safetensors": WEIGHTS[:-1] + b"\1"}), "checkpoints[0]", "ChecksumMismatch"),
        (lambda it: it.files.update({"config.json": b'{"layers": 3}'}), "config", "ConfigChecksum"),
        (lambda it: it.files.update({"report.md": b"better"}), "tests", "TestEvidence"),
        (_cuda, "lockfile", "CudaChanged"),
        (_pickle, "checkpoints[0]", "DangerousImport"),
        (lambda it: it.files.update({"api/new.json": schema(score="FP64")}), "schema", "SchemaBreaking"),
        (
            lambda it: it.files.update({"api/new.json": schema(points="FP64", label="BYTES")}),
            "schema",
            "SchemaBreaking",
        ),
        (lambda it: it.files.pop("model.safetensors"), "checkpoints[0]", "ArtifactMissing"),
        (lambda it: it.manifest["tests"][0].update(passed=False), "tests", "TestFailed"),
        (lambda it: it.manifest.pop("tests"), "tests", "NoTests"),
        (lambda it: it.manifest["model"].update(runId="other"), "identity", "IdentityMismatch"),
        (lambda it: it.manifest["model"].update(version="99"), "identity", "IdentityMismatch"),
        (
            lambda it: it.manifest["checkpoints"].append({"uri": "s3://bucket/w.bin", "sha256": sha256(b"")}),
            "checkpoints[1]",
            "NotVerified",
        ),
        (
            lambda it: it.manifest["evidence"].append({"path": "gone.md", "runId": "r"}),
            "evidence",
            "ArtifactMissing",
        ),
    ],
)
async def test_what_is_wrong_with_a_candidate_rejects_it_by_name(
    version: Version, tmp_path: Path, change: Any, name: str, said: str
) -> None:
    change(version)

    status = await answered(version.put().request(), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, said), status
    assert component(status, name).verdict is Verdict.REJECT
    assert component(status, name).message.startswith(f"{said}: ")
    assert any(veto.startswith(f"{said}: ") for veto in status.vetoes)
    assert len(status.evidence) == 4


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        (lambda it: it.files.pop("api/new.json"), "ArtifactMissing", "api/new.json of run"),
        (lambda it: it.files.pop("config.json"), "ArtifactMissing", "config.json of run"),
        (lambda it: it.files.update({"api/new.json": b"{"}), "ArtifactInvalid", "api/new.json: "),
        (lambda it: it.files.update({"cand.lock": b"x = 1 2"}), "ArtifactInvalid", "cand.lock: line 1"),
        (
            lambda it: it.manifest.update(chekpoints=[]),
            "ManifestInvalid",
            "candidate_manifest.yaml: line 5, column 13 (.chekpoints)",
        ),
        (
            lambda it: it.manifest["config"].update(path="../../x"),
            "ManifestInvalid",
            "candidate_manifest.yaml: line 6, column 9 (.config.path): '../../x' leaves the folder",
        ),
        (
            lambda it: it.manifest["config"].update(path="/etc/passwd"),
            "ManifestInvalid",
            "candidate_manifest.yaml: line 6, column 9 (.config.path): '/etc/passwd' leaves the folder",
        ),
    ],
)
async def test_files_that_cannot_be_read_are_a_verdict_that_names_them(
    version: Version, tmp_path: Path, change: Any, reason: str, said: str
) -> None:
    change(version)

    status = await answered(version.put().request(), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, reason), status
    assert status.message.startswith(said)
    assert ": expected " in status.message
    assert str(tmp_path) not in status.model_dump_json()
    assert status.evidence == []


async def test_scores_of_less_precision_are_for_shadow_only(version: Version, tmp_path: Path) -> None:
    version.files["api/new.json"] = schema(score="FP32", label="BYTES")

    status = await answered(version.put().request(), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.SHADOW_ONLY, "Verified"), status
    assert status.message.endswith("for shadow only: schema")
    assert "score" in component(status, "schema").message


async def test_the_payload_of_a_pickle_never_runs(version: Version, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    payload = pickled(Payload(os.system, f"touch {trap}"))
    version.checkpoint("model.pkl", payload, allowPickle=True, allowImports=["posix.*"])

    status = await verified(version.put().request())

    assert (status.verdict, status.reason) == (Verdict.REJECT, "DangerousImport")
    assert not trap.exists()
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", LOAD], input=payload)
    assert trap.exists(), "the payload would have run, if anything had loaded it"


@pytest.mark.parametrize(
    ("limits", "name", "expected"),
    [
        ({"max_file": 500}, "model.safetensors", "expected at most 500"),
        ({"max_bytes": 4000}, "model.safetensors", "of 4000 for all files together"),
    ],
)
async def test_a_file_that_is_too_large_is_not_fetched(
    version: Version, tmp_path: Path, limits: dict[str, int], name: str, expected: str
) -> None:
    version.checkpoint(name, b"\0" * 100_000)

    status = await answered(version.put().request(**limits), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, "TooLarge"), status
    assert expected in component(status, "checkpoints[0]").message
    assert not list((tmp_path / "work").rglob(name))
    assert name not in {file.path for file in status.files}


async def test_a_manifest_in_a_folder_names_files_of_its_folder(version: Version, tmp_path: Path) -> None:
    version.folder = "deploy/"

    status = await answered(version.put().request(), tmp_path)

    assert status.verdict is Verdict.SAFE, status
    assert {file.path for file in status.files} == {f"deploy/{name}" for name in [*version.files, MANIFEST]}


async def test_a_pinned_manifest_must_be_that_one(version: Version, tmp_path: Path) -> None:
    version.put()

    status = await answered(version.request(manifest_sha256="0" * 64), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, "ManifestChecksum")
    assert status.message == (
        f"candidate_manifest.yaml has sha256 {sha256(version.text)}: expected {'0' * 64}, as pinned"
    )
    (tmp_path / "work").rename(tmp_path / "before")
    pinned = await answered(version.request(manifest_sha256=sha256(version.text)), tmp_path)
    assert pinned.verdict is Verdict.SAFE


async def test_tests_may_be_jobs_instead(version: Version, tmp_path: Path) -> None:
    del version.manifest["tests"]

    status = await answered(version.put().request(tests_elsewhere=True), tmp_path)

    assert status.verdict is Verdict.SAFE
    assert component(status, "tests").message == "0 of 0 passed; Jobs test it before any traffic"


@pytest.mark.parametrize(
    ("of", "verdict", "drift"), [("this", Verdict.SHADOW_ONLY, 1.0), ("another", Verdict.REJECT, 1.0)]
)
async def test_a_waiver_is_for_one_version_and_leaves_the_drift(
    version: Version, tmp_path: Path, of: str, verdict: Verdict, drift: float
) -> None:
    version.files["api/new.json"] = schema(score="FP64")
    waiver = Waiver(version=version.version if of == "this" else "99", reason="callers moved to v2")

    status = await answered(version.put().request(waiver=waiver), tmp_path)

    assert (status.verdict, status.schema_drift) == (verdict, drift), status
    assert ("callers moved to v2" in component(status, "schema").message) is (of == "this")


# Which version, and compared with what.


async def test_an_alias_is_followed_once_and_never_again(mlflow: MLflowServer, version: Version) -> None:
    version.put()
    mlflow.post("registered-models/alias", name=version.name, alias="champion", version=version.version)
    request = version.request(model=RequestedModel(name=version.name, alias="champion"))

    status = await verified(request)
    mlflow.register(version.name, mlflow.new_run(), alias="champion")

    assert (status.verdict, status.model_version, status.run_id) == (Verdict.SAFE, version.version, version.run)
    pinned = RequestedModel(name=version.name, version=status.model_version, run_id=status.run_id)
    assert await Verifier().recheck(version.request(model=pinned), status.files) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "77"}, "ModelVersionNotFound"),
        ({"alias": "nobody"}, "ModelVersionNotFound"),
        ({"name": "no-such-model", "version": "1"}, "ModelVersionNotFound"),
        ({"run_id": "another", "version": "1"}, "IdentityMismatch"),
    ],
)
async def test_a_version_that_is_not_as_asked_for_is_rejected(
    version: Version, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    model = RequestedModel(**{"name": version.name, **change})

    status = await answered(version.put().request(model=model), tmp_path)

    assert (status.verdict, status.reason, status.files) == (Verdict.REJECT, reason, [])
    assert ": expected " in status.message


async def test_a_run_under_way_is_not_verified(mlflow: MLflowServer, version: Version, tmp_path: Path) -> None:
    run = mlflow.new_run(finished=False)
    number = mlflow.register(version.name, run)

    status = await answered(version.request(model=RequestedModel(name=version.name, version=number)), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, "ModelRunNotFinished")


async def test_the_version_that_serves_is_the_baseline_whatever_the_candidate_says(
    mlflow: MLflowServer, version: Version, tmp_path: Path
) -> None:
    stable = Version(mlflow)
    stable.files["api/new.json"] = schema(score="FP64", label="BYTES", rank="INT64")
    stable.files["cand.lock"] = LOCK.replace(b"numpy==1.26.3", b"numpy==1.26.2")
    stable.put()
    for unread in ("api/old.json", "prod.lock"):
        del version.files[unread]

    status = await answered(version.put().request(stable_run_id=stable.run), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, "SchemaBreaking"), status
    assert "rank" in status.message
    assert status.dependency_mismatch and status.dependency_mismatch > 0
    report = json.loads(mlflow.file_of(version.run, "ops-commander/demo-1/preflight.json").read_text())
    said = f"the baseline is what candidate_manifest.yaml of run {stable.run} ships"
    for name in ("schema", "lockfile"):
        assert said in next(each for each in report["components"] if each["name"] == name)["reasons"]


async def test_the_candidates_word_counts_only_where_nothing_else_is_known(
    mlflow: MLflowServer, version: Version, tmp_path: Path
) -> None:
    bare = mlflow.new_run()

    status = await answered(version.put().request(stable_run_id=bare), tmp_path)

    assert status.verdict is Verdict.SAFE
    said = f"the baseline is what the manifest names: run {bare}, whose version serves, has no candidate_manifest.yaml"
    assert said in component(status, "schema").message


async def test_a_baseline_that_cannot_be_read_is_not_passed_over(
    mlflow: MLflowServer, version: Version, tmp_path: Path
) -> None:
    stable = Version(mlflow)
    del stable.files["cand.lock"]
    stable.put()

    status = await answered(version.put().request(stable_run_id=stable.run), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, "BaselineInvalid")
    assert status.message.startswith(f"cand.lock of run {stable.run} ")


async def test_files_of_other_runs_and_versions_are_fetched_and_pinned(
    mlflow: MLflowServer, version: Version, tmp_path: Path
) -> None:
    other, third = mlflow.new_run(), mlflow.new_run()
    mlflow.put(other, "extra/w.safetensors", WEIGHTS)
    mlflow.put(third, "model/w.safetensors", WEIGHTS)
    mlflow.register(f"{version.name}-base", third)
    uris = [f"runs:/{other}/extra/w.safetensors", f"models:/{version.name}-base/1/w.safetensors"]
    version.manifest["checkpoints"] += [{"uri": uri, "sha256": sha256(WEIGHTS)} for uri in uris]

    status = await answered(version.put().request(), tmp_path)

    assert status.verdict is Verdict.SAFE, status
    pinned = {file.path for file in status.files}
    assert {f"runs:/{other}/extra/w.safetensors", f"runs:/{third}/model/w.safetensors"} <= pinned
    mlflow.put(other, "extra/w.safetensors", b"changed")
    problems = await Verifier().recheck(version.request(), status.files)
    assert len(problems) == 1
    assert problems[0].startswith(f"extra/w.safetensors of run {other} has sha256 ")


@pytest.mark.parametrize(
    "uri",
    [
        "runs:/../../etc/passwd",
        "runs:/x",
        "models:/m@champion/w",
        "models:/m/1",
        "https://elsewhere/w",
        "file:///etc/x",
    ],
)
async def test_other_places_are_never_asked(version: Version, tmp_path: Path, uri: str) -> None:
    version.manifest["checkpoints"].append({"uri": uri, "sha256": sha256(b"")})

    status = await answered(version.put().request(), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, "NotVerified"), status


async def test_reports_are_not_written_over_files_of_the_candidate(version: Version, tmp_path: Path) -> None:
    version.checkpoint("ops-commander/demo-1/preflight.json", b"{}", format="json")

    status = await answered(version.put().request(), tmp_path)

    assert (status.verdict, status.reason) == (Verdict.REJECT, "NotVerified")


# Anew, before a step.


async def test_files_that_were_changed_or_are_gone_are_found(mlflow: MLflowServer, version: Version) -> None:
    status = await verified(version.put().request())
    verifier = Verifier()
    assert await verifier.recheck(version.request(), status.files) == []

    mlflow.put(version.run, "model.safetensors", WEIGHTS[:-1] + b"\1")
    mlflow.put(version.run, "config.json", b'{"layers": 2000}')
    mlflow.file_of(version.run, "cand.lock").unlink()
    problems = await verifier.recheck(version.request(), status.files)

    said = "\n".join(problems)
    assert len(problems) == 3
    assert f"model.safetensors of run {version.run} has sha256 " in said
    assert f"config.json of run {version.run} has 16 bytes: expected at most 13" in said
    assert f"cand.lock of run {version.run} is not in MLflow" in said


async def test_a_version_that_was_deleted_is_found(mlflow: MLflowServer, version: Version) -> None:
    status = await verified(version.put().request())
    mlflow.delete("model-versions/delete", name=version.name, version=version.version)

    problems = await Verifier().recheck(version.request(), status.files)

    assert problems == [
        f"version {version.version} of model {version.name} is not in MLflow (Model Version (name={version.name}, "
        f"version={version.version}) not found): expected it to exist"
    ]


# The process.


def run_command(text: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "ops_commander.cli.main", "verify"]
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ("{}", "mlflowUrl: Field required"),
        ('{"mlflowUrl": "file:///x", "model": {"name": "m", "version": "1"}, "revision": "r"}', "mlflowUrl: "),
        ('{"mlflowUrl": "http://x", "model": {"name": "m"}, "revision": "r"}', "neither version nor alias"),
        (
            '{"mlflowUrl": "http://x", "model": {"name": "m", "alias": "a"}, "revision": "r", "recheck": []}',
            "recheck follows no alias",
        ),
        (
            '{"mlflowUrl": "http://x", "model": {"name": "m", "version": "1"}, "revision": "r", "more": 1}',
            "more: Extra inputs are not permitted",
        ),
    ],
)
def test_a_bad_request_is_exit_code_2(text: str, said: str) -> None:
    done = run_command(text)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_mlflow_that_is_away_is_exit_code_3_and_no_verdict(version: Version) -> None:
    request = version.request(mlflow_url=f"http://127.0.0.1:{free_ports(1)[0]}")

    done = run_command(request.model_dump_json(by_alias=True))

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"ops-commander verify: version {version.version} of model {version.name}: Client")
    for ask in (verified(request), Verifier().recheck(request, [])):
        with pytest.raises(NotVerifiedNow, match="cannot be verified now: ops-commander verify: version"):
            await ask


async def test_the_command_answers_by_hand(version: Version) -> None:
    done = run_command(version.put().request().model_dump_json(by_alias=True))

    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["modelVersion"]) == ("Safe", version.version)


# The adapter.


async def test_artifacts_are_written_read_and_listed(
    mlflow: MLflowServer, artifacts: MLflowArtifacts, tmp_path: Path
) -> None:
    run, data = mlflow.new_run(), os.urandom(3 * 1024 * 1024)

    assert await artifacts.upload(run, "a b/ü.bin", b"before") == sha256(b"before")
    assert await artifacts.upload(run, "a b/ü.bin", data) == sha256(data)
    found = await artifacts.download(run, "a b/ü.bin", tmp_path / "x", max_bytes=len(data))

    assert (found.sha256, found.size, found.path.read_bytes()) == (sha256(data), len(data), data)
    assert found.modified_at is not None
    assert [(each.path, each.is_dir, each.size) for each in await artifacts.list(run)] == [("a b", True, None)]
    assert [(each.path, each.size) for each in await artifacts.list(run, "a b")] == [("a b/ü.bin", len(data))]
    assert await artifacts.list(run, "nothing") == []


async def test_a_download_ends_at_its_limit_and_leaves_nothing(
    mlflow: MLflowServer, artifacts: MLflowArtifacts, tmp_path: Path
) -> None:
    run = mlflow.new_run()
    await artifacts.upload(run, "w.bin", b"\0" * 1000)

    with pytest.raises(TooLarge, match=f"w.bin of run {run} has 1000 bytes: expected at most 999"):
        await artifacts.download(run, "w.bin", tmp_path / "w", max_bytes=999)
    with pytest.raises(NotThere, match=f"gone.bin of run {run} is not in MLflow"):
        await artifacts.download(run, "gone.bin", tmp_path / "w", max_bytes=999)
    assert not (tmp_path / "w").exists()
    (tmp_path / "w").write_text("mine")
    with pytest.raises(FileExistsError):
        await artifacts.download(run, "w.bin", tmp_path / "w", max_bytes=1000)
    assert (tmp_path / "w").read_text() == "mine"


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", "a%2e%2e/b", "a\0", "a?b", "."]
)
async def test_paths_that_leave_a_run_are_refused(mlflow: MLflowServer, artifacts: MLflowArtifacts, path: str) -> None:
    run = mlflow.new_run()

    with pytest.raises(Unsupported, match="is no path of an artifact: expected names joined by /"):
        await artifacts.upload(run, path, b"x")
    with pytest.raises(Unsupported, match="is no path of an artifact"):
        await artifacts.digest(run, path, max_bytes=10)


async def test_a_store_that_the_server_does_not_proxy_is_named(
    mlflow: MLflowServer, artifacts: MLflowArtifacts
) -> None:
    location = f"file://{mlflow.folder}/elsewhere-{uuid.uuid4().hex}"
    experiment = mlflow.post("experiments/create", name=location, artifact_location=location)["experiment_id"]
    run = mlflow.new_run(experiment)

    with pytest.raises(Unsupported, match=f"run {run} keeps its artifacts at a URI of scheme 'file': expected"):
        await artifacts.upload(run, "x", b"x")


async def test_a_run_that_is_not_there_is_told_apart_from_a_server_that_is_not(
    mlflow: MLflowServer, artifacts: MLflowArtifacts, version: Version
) -> None:
    deleted = mlflow.new_run()
    mlflow.post("runs/delete", run_id=deleted)
    for run in ("none", deleted):
        with pytest.raises(NotThere, match=f"run {run} "):
            await artifacts.upload(run, "x", b"x")
    with pytest.raises(NotThere, match="alias nobody of model"):
        await artifacts.resolve(version.name, alias="nobody")
    found = await artifacts.resolve(version.name, version=version.version)
    assert (found.run_id, found.source, found.status) == (version.run, f"runs:/{version.run}/model", "READY")

    away = MLflowArtifacts(f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(Unreachable, match="run none: ClientConnectorError from MLflow"):
        await away.upload("none", "x", b"x")
    await away.close()
    assert not issubclass(Unreachable, NotThere) and issubclass(Unreachable, ArtifactError)
