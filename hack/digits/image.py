"""The digits models and the image of their server: trained and built once, kept in the cache.

python3 -m hack.digits.image    build the image, and load it where there is a cluster
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hack.cluster import state
from hack.cluster.commands import BootstrapError, run
from hack.cluster.progress import say
from hack.cluster.workspace import REPOSITORY, Artifact, cache, exclusive, log_file, remove_tree

IMAGE = "localhost/digits-server:dev"
HERE = REPOSITORY / "hack" / "digits"
LOCK = HERE / "requirements.lock"
_TIMEOUT = 900.0


def _index() -> dict[str, str]:
    """What pip is told of an index holds for uv too."""
    argv = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
    return {"UV_DEFAULT_INDEX": told} if told and "UV_DEFAULT_INDEX" not in os.environ else {}


def _train(partial: Path) -> None:
    """In an environment of the server's own packages, which goes again."""
    log, environment, venv = log_file("digits"), _index(), partial / "venv"
    uv: Path = REPOSITORY / ".venv" / "bin" / "uv"
    run([uv, "venv", "--quiet", "--python", sys.executable, venv], log=log, timeout=60, env=environment)
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python"]
    run([*install, "--no-deps", "--require-hashes", "--requirement", LOCK], log=log, timeout=_TIMEOUT, env=environment)
    run([venv / "bin" / "python", HERE / "train.py", partial / "models"], log=log, timeout=_TIMEOUT)
    shutil.rmtree(venv)


def models() -> Path:
    """The folder with v1, v2 and requests.jsonl, as train.py writes it."""
    python = f"python {sys.version_info.major}.{sys.version_info.minor}"
    return Artifact("digits", "2", [HERE / "train.py", LOCK, python]).ensure(_train) / "models"


def requests() -> list[str]:
    """Bodies of inference requests, one for each of some held-out images."""
    return (models() / "requests.jsonl").read_text().splitlines()


def _context() -> Path:
    """What the image is built from, in one folder."""
    folder = cache() / "digits-context"
    remove_tree(folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / "server", folder / "server", ignore=ignored)
    shutil.copytree(models(), folder / "models", ignore=shutil.ignore_patterns("evaluation", "reports", "*.jsonl"))
    for path in (HERE / "Dockerfile", LOCK):
        shutil.copy(path, folder)
    return folder


@functools.cache
def ensure_image() -> None:
    """Build the image unless nothing has changed, and load it where there is a cluster; once a process."""
    with exclusive("digits"):
        context = _context()
    load = ["--load"] if state.load(state.DEFAULT_NAME) else []
    argv = [sys.executable, "-m", "hack.cluster", "build-image", "--tag", IMAGE, "--context", str(context), *load]
    if subprocess.run(argv, cwd=REPOSITORY, timeout=_TIMEOUT * 2, check=False).returncode:
        raise BootstrapError(f"could not build {IMAGE}")


def main() -> int:
    try:
        ensure_image()
    except BootstrapError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
