"""Golden reports, written anew by `.venv/bin/python -m tests.unit.core.reports.golden`. Read the diff."""

from __future__ import annotations

from pathlib import Path

from ops_commander.core.reports.files import deployment_files
from tests.unit.core.reports.cases import CASES, Case

FOLDER = Path(__file__).parents[4] / "tests/data/reports"
KEPT = ("completed", "rolled-back", "awaiting-votes", "without-run")


def files(case: Case) -> dict[str, str]:
    """By path below the case's folder."""
    found = deployment_files(case.rollout, case.now, case.plan, case.provenance)
    return {path.removeprefix("reports/"): text for path, text in found.items()}


def write() -> None:
    for name in KEPT:
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for path, text in files(CASES[name]()).items():
            (folder / path).write_text(text, encoding="utf-8")
            print(folder / path)


if __name__ == "__main__":
    write()
