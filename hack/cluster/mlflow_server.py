"""MLflow's server as programs of this machine, for tests that need the real one without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hack.cluster.commands import Argv, run
from hack.cluster.workspace import HERE, REPOSITORY, Artifact, cache, log_file, publish

_REQUIREMENTS = HERE / "mlflow" / "requirements.txt"
_INSTALL_TIMEOUT = 900.0


def _version() -> str:
    lines = _REQUIREMENTS.read_text().splitlines()
    return next(line.removeprefix("mlflow==") for line in lines if line.startswith("mlflow=="))


def _index() -> dict[str, str]:
    """What pip is told of an index holds for uv too."""
    argv = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
    return {"UV_DEFAULT_INDEX": told} if told and "UV_DEFAULT_INDEX" not in os.environ else {}


def _install(partial: Path) -> None:
    """Only the interpreter of the environment is used: programs beside it would name the folder it was made in."""
    uv, log = REPOSITORY / ".venv" / "bin" / "uv", log_file("mlflow-server")
    run([uv, "venv", "--quiet", "--python", sys.executable, partial / "venv"], log=log, timeout=120)
    target = partial / "venv" / "bin" / "python"
    argv: Argv = [uv, "pip", "install", "--quiet", "--python", target, "--no-deps", "--requirement", _REQUIREMENTS]
    run(argv, log=log, timeout=_INSTALL_TIMEOUT, env=_index())


def mlflow_python() -> Path:
    """Return the interpreter of an environment with MLflow's server, built if it is not in the cache."""
    version = f"python {sys.version_info.major}.{sys.version_info.minor}"
    folder = Artifact("mlflow-server", _version(), [_REQUIREMENTS, version]).ensure(_install)
    publish(folder, cache() / "share" / "mlflow-server")
    return folder / "venv" / "bin" / "python"
