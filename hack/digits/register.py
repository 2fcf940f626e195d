"""A digits candidate as a model version of MLflow: a finished run with its folder as artifacts, and its metrics.

python3 -m hack.digits.register URL VARIANT [--model NAME] [--alias ALIAS]    print the version and the run
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster.commands import BootstrapError
from hack.cluster.progress import say
from hack.demo import runs
from hack.digits import candidates


@dataclass(frozen=True)
class Registered:
    """Where a candidate is found."""

    variant: str
    model: str
    version: str
    run_id: str


def _reason(error: OSError) -> str:
    said = error.read().decode(errors="replace")[:500] if isinstance(error, urllib.error.HTTPError) else ""
    return f"{error} {said}".strip()


def _ensure_model(url: str, model: str) -> None:
    try:
        runs.call(url, "registered-models/create", {"name": model})
    except urllib.error.HTTPError as error:
        said = json.load(error)
        if said.get("error_code") != "RESOURCE_ALREADY_EXISTS":
            raise BootstrapError(f"cannot register {model} in MLflow at {url}: {said}") from error


def _upload(url: str, run_id: str, folder: Path) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        runs.log_artifact(url, run_id, path.relative_to(folder).as_posix(), path.read_bytes())


def _metrics(folder: Path) -> list[dict[str, Any]]:
    measured = json.loads((folder / candidates.COMPLIANCE).read_text())
    return [{"key": key, "value": value, "timestamp": 0, "step": 0} for key, value in measured.items()]


def register(url: str, variant: str, *, model: str = candidates.MODEL, alias: str | None = None) -> Registered:
    """Record the candidate in the MLflow at `url`. Raises BootstrapError with MLflow's words.

    The version is made before the files go up: its number stands in the manifest.
    """
    try:
        _ensure_model(url, model)
        begun = {"experiment_id": runs.experiment(url, model), "run_name": variant}
        run = runs.call(url, "runs/create", begun)["run"]["info"]
        run_id = str(run["run_id"])
        made = {"name": model, "run_id": run_id, "source": run["artifact_uri"]}
        version = str(runs.call(url, "model-versions/create", made)["model_version"]["version"])
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / variant
            candidates.write(variant, folder, version, run_id, model)
            runs.call(url, "runs/log-batch", {"run_id": run_id, "metrics": _metrics(folder)})
            _upload(url, run_id, folder)
        runs.call(url, "runs/update", {"run_id": run_id, "status": "FINISHED"})
        if alias:
            runs.call(url, "registered-models/alias", {"name": model, "alias": alias, "version": version})
    except OSError as error:
        raise BootstrapError(f"cannot register {variant} in MLflow at {url}: {_reason(error)}") from error
    return Registered(variant, model, version, run_id)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m hack.digits.register", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("variant", choices=list(candidates.VARIANTS))
    parser.add_argument("--model", default=candidates.MODEL)
    parser.add_argument("--alias")
    options = parser.parse_args()
    try:
        made = register(options.url, options.variant, model=options.model, alias=options.alias)
    except BootstrapError as error:
        say(f"error: {error}")
        return 1
    print(f"{made.model} version {made.version} of run {made.run_id}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
