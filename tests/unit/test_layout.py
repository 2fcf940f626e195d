"""The shape of the tree, which imports depend on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_operator_holds_the_package_only() -> None:
    """With an __init__.py or a test in it, `operator/` would shadow the standard library's module."""
    held = [path.name for path in (ROOT / "operator").iterdir() if not path.name.startswith((".", "__pycache__"))]

    assert held == ["ops_commander"]


def test_no_module_shadows_the_standard_library() -> None:
    """`kopf run operator/ops_commander/x.py`, as kopf's users try it, puts that folder first on sys.path."""
    package = ROOT / "operator" / "ops_commander"
    modules = {path.stem for path in package.iterdir()}

    assert modules & sys.stdlib_module_names == set()


def test_the_standard_library_keeps_its_operator() -> None:
    code = "import operator; assert operator.add(1, 1) == 2"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_import_contracts_are_kept() -> None:
    command = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run(
        [command, "--config", "pyproject.toml", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": "operator", "PATH": ""},
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operator_loads_nothing_that_it_does_not_use() -> None:
    """What is imported stays in memory, whether anything calls it or not."""
    code = "import sys, ops_commander.cli.run, ops_commander.runtime.app; print(*sys.modules)"
    unused = ("scipy", "mlflow", "oauthlib", "google.auth", "kubernetes.stream", "ops_commander.integration.preflight")

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "kubernetes.aio.client" in loaded
    assert set(unused) & set(loaded) == set()
