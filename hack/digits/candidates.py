"""Folders of digits candidates, each with its candidate_manifest.yaml: two good versions, and one for each fault.

python3 -m hack.digits.candidates FOLDER    write all of them, each into a folder of its name
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.digits import image

MODEL = "digits"
MANIFEST = "candidate_manifest.yaml"
UNREGISTERED = "unregistered"
"""Stands for the run in the manifest until there is one."""

_WEIGHTS = "model.safetensors"
_LOCK = "requirements.lock"
_SCHEMA = "api_schema.json"
_BASELINE = "baseline"
_REGRESSION = "reports/regression.json"
COMPLIANCE = "evaluation/compliance.json"
"""The artifact with the metrics of the held-out images."""

Edit = Callable[["Candidate"], None]


@dataclass
class Candidate:
    """A folder in the making."""

    folder: Path
    manifest: dict[str, Any]
    schema: dict[str, Any]

    def edit_lock(self, changes: Mapping[str, str], more: str = "", *, production: bool = False) -> None:
        """Other versions of packages in a lock. Nobody installs from it: the hashes are made up."""
        path = self.folder / _BASELINE / _LOCK if production else self.folder / _LOCK
        text = path.read_text()
        for package, version in changes.items():
            block = rf"^{re.escape(package)}==(?P<old>[^\s;]+)(?P<marker>[^\\\n]*)\\\n(?:    --hash=.*\n)+"
            digest = hashlib.sha256(f"{package}=={version}".encode()).hexdigest()
            fresh = rf"{package}=={version}\g<marker>\\\n    --hash=sha256:{digest}\n"
            text, count = re.subn(block, fresh, text, count=1, flags=re.MULTILINE)
            if not count:
                raise ValueError(f"{package} is not pinned in {image.LOCK}")
        path.write_text(text + more)

    def write(self) -> None:
        (self.folder / _SCHEMA).write_text(json.dumps(self.schema, indent=2) + "\n")
        (self.folder / MANIFEST).write_text(yaml.safe_dump(self.manifest, sort_keys=False))


def _as_it_is(_: Candidate) -> None:
    """Nothing to change in the files."""


def _renamed_tensor(candidate: Candidate) -> None:
    candidate.schema["outputs"][1]["name"] = "scores"


def _wrong_checksum(candidate: Candidate) -> None:
    """Of other weights than those that lie there."""
    other = image.models() / "v1" / _WEIGHTS
    candidate.manifest["checkpoints"][0]["sha256"] = sha256_of(other)


def _pinned(package: str, version: str) -> str:
    digest = hashlib.sha256(f"{package}=={version}".encode()).hexdigest()
    return f"{package}=={version} \\\n    --hash=sha256:{digest}\n"


def _cuda_conflict(candidate: Candidate) -> None:
    """Built for CUDA 11 beside libraries of CUDA 12; production has 12 throughout."""
    runtime = _pinned("nvidia-cuda-runtime-cu12", "12.1.105")
    candidate.edit_lock({}, _pinned("torch", "2.5.1+cu121") + runtime, production=True)
    candidate.edit_lock({}, _pinned("torch", "2.5.1+cu118") + _pinned("nvidia-cublas-cu11", "11.11.3.6") + runtime)


class _Payload:
    """Writes a file as soon as it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"open({self._path!r}, 'w').write('the payload ran')",))


PAYLOAD_WRITES = "/tmp/digits-payload-ran"
"""The file that tells that somebody has loaded the malicious pickle."""


def _malicious_pickle(candidate: Candidate) -> None:
    """Allowed as a pickle, with a payload that no permission covers."""
    path = candidate.folder / "calibration.pkl"
    path.write_bytes(pickle.dumps({"temperature": 1.0, "hook": _Payload(PAYLOAD_WRITES)}))
    listed = {"path": path.name, "sha256": sha256_of(path), "allowPickle": True, "allowImports": ["sklearn.*"]}
    candidate.manifest["checkpoints"].append(listed)


def _medium_risk(candidate: Candidate) -> None:
    """Promises less than version 1 and comes with newer packages, so that answers which are alike do not make it Safe.

    The latency is stated, not measured: without it the risk would be High before there is any traffic.
    """
    labels, probabilities = candidate.schema["outputs"]
    labels["enum"] = [*labels["enum"], -1]
    probabilities["nullable"] = True
    candidate.edit_lock({"orjson": "3.14.0", "python-rapidjson": "1.26"})
    run_id = candidate.manifest["model"]["runId"]
    report = json.loads((candidate.folder / _REGRESSION).read_text())
    candidate.manifest["measured"] = {
        "latency": {"upperMs": 2.0, "baselineP95Ms": 15.0, "runId": run_id},
        "output": {"upper": report["meanDifference"], "runId": run_id},
    }


def _medium_slow(candidate: Candidate) -> None:
    """As risky as may go to shadow with nothing measured; that its pods are slow keeps it from being Safe."""
    labels, _ = candidate.schema["outputs"]
    labels["enum"] = [*labels["enum"], -1]
    candidate.edit_lock({"orjson": "3.14.0"})


@dataclass(frozen=True)
class Variant:
    """A candidate and how its pods behave."""

    weights: str = "v2"
    """v1 or v2."""
    fault: str = ""
    """FAULT of its pods, see server/digits_runtime.py."""
    delay_ms: int = 0
    """By how much its answers are late."""
    edit: Edit = _as_it_is
    """What is wrong with its files."""


VARIANTS: Mapping[str, Variant] = {
    "v1": Variant(weights="v1"),
    "v2": Variant(),
    "dropped-field": Variant(fault="dropped-field"),
    "float32": Variant(fault="float32"),
    "rounded": Variant(fault="rounded"),
    "nan": Variant(fault="nan"),
    "renamed-tensor": Variant(fault="renamed-tensor", edit=_renamed_tensor),
    "wrong-checksum": Variant(edit=_wrong_checksum),
    "cuda-conflict": Variant(edit=_cuda_conflict),
    "malicious-pickle": Variant(edit=_malicious_pickle),
    "medium-risk": Variant(edit=_medium_risk),
    "medium-slow": Variant(delay_ms=60, edit=_medium_slow),
}


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def api_schema(version: str) -> dict[str, Any]:
    """What version 1 and all after it promise. They also send `confidence`, which no schema speaks of."""
    return {
        "name": MODEL,
        "version": version,
        "inputs": [{"name": "pixels", "dtype": "FP64", "shape": [-1, 64], "minimum": 0, "maximum": 16}],
        "outputs": [
            {"name": "predict", "dtype": "INT64", "shape": [-1, 1], "enum": list(range(10))},
            {"name": "predict_proba", "dtype": "FP64", "shape": [-1, 10], "minimum": 0, "maximum": 1},
        ],
    }


def _manifest(folder: Path, model: str, version: str, run_id: str) -> dict[str, Any]:
    return {
        "apiVersion": "ops-commander.dev/candidate-manifest/v1",
        "model": {"name": model, "version": version, "runId": run_id},
        "schema": {"baseline": f"{_BASELINE}/{_SCHEMA}", "candidate": _SCHEMA},
        "lockfile": {"production": f"{_BASELINE}/{_LOCK}", "candidate": _LOCK},
        "config": {"path": "config.json", "sha256": sha256_of(folder / "config.json")},
        "checkpoints": [
            {
                "path": _WEIGHTS,
                "sha256": sha256_of(folder / _WEIGHTS),
                "format": "safetensors",
                "countNonFinite": True,
            }
        ],
        "tests": [
            {
                "name": "regression",
                "passed": json.loads((folder / _REGRESSION).read_text())["passed"],
                "evidence": _REGRESSION,
                "sha256": sha256_of(folder / _REGRESSION),
            }
        ],
        "evidence": [{"path": COMPLIANCE, "runId": run_id, "sha256": sha256_of(folder / COMPLIANCE)}],
    }


def write(variant: str, folder: Path, version: str, run_id: str = UNREGISTERED, model: str = MODEL) -> Path:
    """Write the candidate into `folder`, which must not exist yet; return its manifest.

    `model`, `version` and `run_id` are those of the registry.
    """
    made = VARIANTS[variant]
    shutil.copytree(image.models() / made.weights, folder)
    baseline = folder / _BASELINE
    baseline.mkdir()
    (baseline / _SCHEMA).write_text(json.dumps(api_schema("1"), indent=2) + "\n")
    for place in (folder, baseline):
        shutil.copy(image.LOCK, place / _LOCK)
    candidate = Candidate(folder, _manifest(folder, model, version, run_id), api_schema(version))
    made.edit(candidate)
    candidate.write()
    return folder / MANIFEST


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m hack.digits.candidates", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for number, variant in enumerate(VARIANTS, start=1):
        print(write(variant, folder / variant, str(number)))


if __name__ == "__main__":
    main()
