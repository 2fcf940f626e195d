"""Preflight: each component with its verdict, vetoes outside of the sum, and exit codes for pipelines."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops_commander.api.risk import Verdict
from ops_commander.api.verification import Waiver
from ops_commander.cli import preflight as command
from ops_commander.integration import preflight
from ops_commander.integration.artifacts.describe import config_checksum
from ops_commander.integration.documents import BadInput
from ops_commander.integration.preflight_report import Component, PreflightReport, as_markdown, as_text
from tests.unit.integration.artifacts.builders import Payload, onnx, onnx_tensor, pickled, safetensors, tensor

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SETTINGS = preflight.Settings(NOW)
WEIGHTS = safetensors({"w": tensor("F32", [2], 0, 8)}, b"\0" * 8)
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"score": {"type": "number"}, "label": {"type": "string"}},
    "required": ["score"],
}
MEASURED = {
    "latency": {"upperMs": 4, "baselineP95Ms": 400, "runId": "run_2"},
    "output": {"upper": 0.001, "runId": "run_3"},
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Candidate:
    """A folder with a candidate that is safe, each part of which can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "candidate_manifest.yaml"
        self.put("old.json", json.dumps(SCHEMA).encode())
        self.put("new.json", json.dumps(SCHEMA).encode())
        self.put("prod.lock", b"numpy==1.26.3\nrequests==2.31.0\ntransformers==4.40.0")
        self.put("cand.lock", b"numpy==1.26.3\nrequests==2.31.0\ntransformers==4.40.0")
        self.put("config.json", b'{"layers": 2}')
        self.put("model.safetensors", WEIGHTS)
        self.put("report.md", b"good")
        self.manifest: dict[str, Any] = {
            "model": {"name": "ranker", "version": "7", "runId": "run_1"},
            "schema": {"baseline": "old.json", "candidate": "new.json"},
            "lockfile": {"production": "prod.lock", "candidate": "cand.lock"},
            "config": {"path": "config.json", "sha256": sha256(b'{"layers": 2}')},
            "checkpoints": [{"path": "model.safetensors", "sha256": sha256(WEIGHTS), "maxAge": "24h"}],
            "tests": [{"name": "unit", "passed": True, "evidence": "report.md", "sha256": sha256(b"good")}],
            "evidence": [{"path": "report.md", "runId": "run_1", "sha256": sha256(b"good"), "maxAge": "24h"}],
            "measured": MEASURED,
        }

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.write_bytes(data)
        os.utime(path, (NOW.timestamp() - 60, NOW.timestamp() - 60))

    def set(self, section: str, **values: Any) -> None:
        target = self.manifest[section]
        (target[0] if isinstance(target, list) else target).update(values)

    def checkpoint(self, name: str, data: bytes, **values: Any) -> None:
        self.put(name, data)
        self.manifest["checkpoints"] = [{"path": name, "sha256": sha256(data), **values}]

    def write(self) -> Path:
        self.file.write_text(yaml.safe_dump(self.manifest))
        return self.file

    def run(self, settings: preflight.Settings = SETTINGS) -> PreflightReport:
        return preflight.run(self.write(), settings)


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    return Candidate(tmp_path)


def component(report: PreflightReport, name: str) -> Component:
    return next(each for each in report.components if each.name == name)


def test_a_candidate_that_is_the_same_is_safe(candidate: Candidate) -> None:
    report = candidate.run()

    assert [each.name for each in report.components] == [
        "schema",
        "lockfile",
        "config",
        "checkpoints[0]",
        "tests",
        "evidence",
        "risk",
    ]
    assert {each.verdict for each in report.components} == {Verdict.SAFE}, as_text(report)
    assert (report.verdict, report.risk.band, report.checked_at) == (Verdict.SAFE, "Low", NOW)


def test_what_was_not_measured_sends_it_to_shadow_at_best(candidate: Candidate) -> None:
    del candidate.manifest["measured"]

    report = candidate.run()

    assert (report.verdict, report.risk.value) == (Verdict.SHADOW_ONLY, 0.3)
    assert [part.name for part in report.risk.parts if part.missing] == ["LatencyChange", "OutputDeviation"]


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        pytest.param(None, Verdict.SHADOW_ONLY, id="what only shadow can measure is open"),
        pytest.param({"latency": 200.0, "output": 0.5}, Verdict.REJECT, id="measured, and as bad"),
    ],
)
def test_sums_that_are_high_reject_without_a_veto(
    candidate: Candidate, measured: dict[str, float] | None, verdict: Verdict
) -> None:
    del candidate.manifest["measured"]
    if measured:
        candidate.manifest["measured"] = {
            "latency": {"upperMs": measured["latency"], "baselineP95Ms": 100.0, "runId": "r"},
            "output": {"upper": measured["output"], "runId": "r"},
        }
    candidate.put("cand.lock", b"numpy==2.0.0\nrequests==2.31.0\ntransformers==4.40.0")

    report = candidate.run()

    assert (component(report, "lockfile").verdict, component(report, "lockfile").vetoes) == (Verdict.SHADOW_ONLY, [])
    assert (report.risk.value, component(report, "risk").verdict, report.verdict) == (0.6, verdict, verdict)


def removed_field(candidate: Candidate) -> None:
    changed = {**SCHEMA, "properties": {"score": {"type": "integer"}}, "required": ["score", "label"]}
    candidate.put("new.json", json.dumps(changed).encode())


def other_hash(candidate: Candidate) -> None:
    for name, digit in (("prod.lock", "a"), ("cand.lock", "b")):
        candidate.put(name, f"numpy==1 --hash=sha256:{digit * 64}".encode())


def malicious(candidate: Candidate) -> None:
    candidate.checkpoint("model.pkl", pickled(Payload(os.mkdir, str(candidate.folder / "mark"))), allowPickle=True)


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (removed_field, "schema", "SchemaBreaking: "),
        (other_hash, "lockfile", "HashDiffers: numpy"),
        (lambda it: it.set("config", sha256="0" * 64), "config", "ConfigChecksum: sha256 of its bytes is"),
        (lambda it: it.set("checkpoints", sha256="0" * 64), "checkpoints[0]", "ChecksumMismatch: model.safetensors"),
        (lambda it: it.set("checkpoints", maxAge="30s"), "checkpoints[0]", "TooOld: "),
        (lambda it: it.set("checkpoints", createdAt="2025-01-01T00:00:00Z"), "checkpoints[0]", "TooOld: "),
        (lambda it: it.set("checkpoints", format="onnx"), "checkpoints[0]", "FormatMismatch: "),
        (lambda it: it.set("checkpoints", path="gone"), "checkpoints[0]", "NotVerified: gone: No such file"),
        (lambda it: it.checkpoint("m.bin", pickled({})), "checkpoints[0]", "PickleNotAllowed: m.bin"),
        (malicious, "checkpoints[0]", "DangerousImport: model.pkl: imports posix.mkdir"),
        (lambda it: it.set("tests", passed=False), "tests", "TestFailed: unit did not pass"),
        (lambda it: it.set("tests", sha256="0" * 64), "tests", "TestEvidence: report.md"),
        (lambda it: it.set("tests", evidence="gone"), "tests", "TestEvidence: gone"),
        (lambda it: it.set("evidence", maxAge="1s"), "evidence", "Evidence: report.md: written at"),
        (lambda it: it.set("evidence", path="gone"), "evidence", "Evidence: gone"),
    ],
)
def test_a_veto_rejects_one_component_and_so_all(candidate: Candidate, change: Any, name: str, said: str) -> None:
    change(candidate)

    report = candidate.run()

    found = component(report, name)
    assert found.verdict is Verdict.REJECT
    assert any(veto.startswith(said) for veto in found.vetoes), found.vetoes
    assert report.verdict is Verdict.REJECT
    rejected = {each.name for each in report.components if each.verdict is Verdict.REJECT}
    assert rejected == {name, "risk"}
    assert not (candidate.folder / "mark").exists()


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [
        (
            lambda it: it.checkpoint("m.pkl", b"csklearn.linear_model\nRidge\n)\x81.", allowPickle=True),
            "checkpoints[0]",
            "SuspiciousImport: ",
        ),
        (lambda it: it.checkpoint("m.onnx", onnx(domain="my.ops")), "checkpoints[0]", "CustomOperators: "),
        (
            lambda it: it.put("cand.lock", b"numpy==1.26.3\nrequests==2.31.0\ntransformers==4.41.0"),
            "lockfile",
            "Tokenizer: transformers",
        ),
        (
            lambda it: (
                it.put("config.json", b'{"transformers_version": "4.30.2"}'),
                it.set("config", sha256=sha256(b'{"transformers_version": "4.30.2"}')),
            ),
            "lockfile",
            "Tokenizer: the weights were written with transformers 4.30.2, the candidate installs 4.40.0",
        ),
        (
            lambda it: it.manifest.update(evidence=[{"uri": "mlflow:/run/x.md", "runId": "run_9"}]),
            "evidence",
            "mlflow:/run/x.md @ run_9 was not looked at",
        ),
    ],
)
def test_what_somebody_must_look_at_is_for_shadow_only(candidate: Candidate, change: Any, name: str, said: str) -> None:
    change(candidate)

    report = candidate.run()

    found = component(report, name)
    assert (found.verdict, found.vetoes) == (Verdict.SHADOW_ONLY, [])
    assert any(reason.startswith(said) for reason in found.reasons), found.reasons
    assert report.verdict is Verdict.SHADOW_ONLY


@pytest.mark.parametrize(("name", "data"), [("config.json", b'{\n"layers":2 }'), ("config.yaml", b"layers: 2\n")])
def test_a_config_may_be_registered_by_its_canonical_json(candidate: Candidate, name: str, data: bytes) -> None:
    candidate.put(name, data)
    candidate.manifest["config"] = {"path": name, "sha256": config_checksum({"layers": 2})}

    assert component(candidate.run(), "config").verdict is Verdict.SAFE


def test_a_file_named_by_uri_is_taken_from_the_downloads(candidate: Candidate, tmp_path: Path) -> None:
    candidate.manifest["checkpoints"] = [{"uri": "s3://bucket/v7/w.safetensors?x=1", "sha256": sha256(WEIGHTS)}]
    assert (
        component(candidate.run(), "checkpoints[0]").vetoes[0].startswith("NotVerified: s3://bucket/v7/w.safetensors")
    )

    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / "w.safetensors").write_bytes(WEIGHTS)
    report = candidate.run(replace(SETTINGS, downloads=downloads))
    assert component(report, "checkpoints[0]").verdict is Verdict.SAFE


def test_files_that_a_model_reads_must_be_listed_too(candidate: Candidate) -> None:
    candidate.put("w.bin", b"\1" * 8)
    candidate.checkpoint("m.onnx", onnx(onnx_tensor(location="w.bin")))
    assert component(candidate.run(), "checkpoints[0]").vetoes == [
        "NotVerified: m.onnx reads its weights from w.bin: expected it as a checkpoint too"
    ]

    candidate.manifest["checkpoints"].append({"path": "w.bin", "sha256": sha256(b"\1" * 8), "format": "raw"})
    assert {each.verdict for each in candidate.run().components} == {Verdict.SAFE}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it.put("new.json", b"{"), "new.json"),
        (lambda it: it.put("cand.lock", b"x = 1 2"), "cand.lock: line 1"),
        (lambda it: it.set("schema", candidate="gone.json"), "gone.json: No such file"),
        (lambda it: it.set("lockfile", production="../x"), "(.lockfile.production): '../x' leaves the folder"),
        (
            lambda it: it.set("checkpoints", path="/etc/passwd"),
            "(.checkpoints[0].path): '/etc/passwd' leaves the folder",
        ),
        (lambda it: it.set("config", path="gone"), "gone: No such file"),
    ],
)
def test_bad_input_is_named(candidate: Candidate, change: Any, said: str) -> None:
    change(candidate)

    with pytest.raises(BadInput) as error:
        candidate.run()

    assert said in str(error.value)
    assert ": expected " in str(error.value)


def test_text_of_the_candidate_cannot_break_a_report(candidate: Candidate) -> None:
    candidate.manifest["model"]["name"] = "a|b <script>"
    candidate.manifest["tests"] = [{"name": "x | y", "passed": False}]

    assert "a\\|b &lt;script>" in as_markdown(candidate.run())
    assert "x \\| y did not pass" in as_markdown(candidate.run())


def test_the_manifest_of_what_serves_is_the_baseline(candidate: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "serving"
    folder.mkdir()
    serving = Candidate(folder)
    serving.put("new.json", json.dumps({**SCHEMA, "required": ["score", "label"]}).encode())
    serving.put("cand.lock", b"numpy==1.26.2\nrequests==2.31.0\ntransformers==4.40.0")
    other = preflight.Baseline(serving.write(), "serving")
    for unread in ("old.json", "prod.lock"):
        (candidate.folder / unread).unlink()

    report = candidate.run(replace(SETTINGS, baseline=other))

    assert component(report, "schema").vetoes[0].startswith("SchemaBreaking: response /label: became-optional")
    assert (report.schema_diff.baseline.file, report.lock_diff.baseline.file) == (
        "new.json of serving",
        "cand.lock of serving",
    )
    assert report.lock_diff.mismatch > 0
    for name in ("schema", "lockfile"):
        assert "the baseline is what serving ships" in component(report, name).reasons


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it.put("new.json", b"{"), "new.json of serving: "),
        (lambda it: (it.folder / "cand.lock").unlink(), "cand.lock of serving: No such file"),
        (lambda it: it.set("schema", candidate="../../x"), "serving: line 1"),
    ],
)
def test_a_baseline_that_cannot_be_read_is_named(candidate: Candidate, tmp_path: Path, change: Any, said: str) -> None:
    folder = tmp_path / "serving"
    folder.mkdir()
    serving = Candidate(folder)
    change(serving)

    with pytest.raises(BadInput) as error:
        candidate.run(replace(SETTINGS, baseline=preflight.Baseline(serving.write(), "serving")))

    assert str(error.value).startswith(said.split(" line")[0])


@pytest.mark.parametrize(("version", "vetoed"), [("7", False), ("8", True), ("7.0", True)])
def test_a_waiver_is_no_veto_for_its_version_and_no_smaller_drift(
    candidate: Candidate, version: str, vetoed: bool
) -> None:
    candidate.put("new.json", json.dumps({**SCHEMA, "properties": {"label": {"type": "string"}}}).encode())

    report = candidate.run(replace(SETTINGS, waiver=Waiver(version=version, reason="callers use v2")))

    found = component(report, "schema")
    assert report.schema_diff.schema_drift == 1
    assert bool(found.vetoes) is vetoed
    assert ("breaking changes are waived for version 7: callers use v2" in found.reasons) is not vetoed
    assert report.verdict is (Verdict.REJECT if vetoed else Verdict.SHADOW_ONLY)


def test_tests_may_be_elsewhere_and_those_that_are_named_must_pass(candidate: Candidate) -> None:
    elsewhere = replace(SETTINGS, tests_elsewhere=True)
    candidate.set("tests", passed=False)
    assert component(candidate.run(elsewhere), "tests").vetoes == ["TestFailed: unit did not pass"]

    del candidate.manifest["tests"]
    assert component(candidate.run(elsewhere), "tests").verdict is Verdict.SAFE
    assert component(candidate.run(), "tests").vetoes == [
        "NoTests: the manifest names no test: expected at least one, that passed"
    ]


def execute(*flags: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = parser.parse_args(flags)
    code: int = arguments.handle(arguments)
    return code


@pytest.mark.parametrize("format_", ["text", "json", "markdown"])
@pytest.mark.parametrize(
    ("change", "flags", "code"),
    [
        (lambda it: None, (), 0),
        (lambda it: it.manifest.pop("measured"), (), 0),
        (lambda it: it.manifest.pop("measured"), ("--require=safe",), 1),
        (lambda it: it.set("tests", passed=False), (), 1),
        (lambda it: it.manifest.pop("tests"), (), 1),
        (lambda it: it.manifest.pop("config"), (), 2),
    ],
)
def test_exit_codes(
    candidate: Candidate,
    capsys: pytest.CaptureFixture[str],
    change: Any,
    flags: tuple[str, ...],
    code: int,
    format_: str,
) -> None:
    candidate.manifest["checkpoints"][0].pop("maxAge")
    candidate.manifest["evidence"][0].pop("maxAge")
    change(candidate)

    assert execute(str(candidate.write()), f"--format={format_}", *flags) == code

    said = capsys.readouterr()
    assert bool(said.err) is (code == 2)
    if code < 2 and format_ == "json":
        assert json.loads(said.out)["model"] == {"name": "ranker", "version": "7", "runId": "run_1"}


def test_the_command_takes_another_manifest_as_baseline(
    candidate: Candidate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate.manifest["checkpoints"][0].pop("maxAge")
    candidate.manifest["evidence"][0].pop("maxAge")
    folder = tmp_path / "serving"
    folder.mkdir()
    serving = Candidate(folder)
    serving.put("new.json", json.dumps({**SCHEMA, "required": ["score", "label"]}).encode())

    assert execute(str(candidate.write())) == 0
    assert execute(str(candidate.write()), f"--baseline={serving.write()}") == 1
    assert f"the baseline is what {serving.file} ships" in capsys.readouterr().out
    assert execute(str(candidate.write()), f"--baseline={folder / 'gone.yaml'}") == 2


def test_output_goes_to_a_file(candidate: Candidate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "report.json"

    execute(str(candidate.write()), "--format=json", f"--output={output}")

    assert capsys.readouterr().out == ""
    assert json.loads(output.read_text())["manifest"] == str(candidate.file)
    assert execute(str(candidate.write()), f"--output={tmp_path / 'no' / 'x'}") == 2
