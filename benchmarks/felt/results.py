"""Every run in one JSON file, written anew after each: what is done is not lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.felt.shares import cells
from hack.cluster.workspace import REPOSITORY

FOLDER = REPOSITORY / "benchmarks" / "results"
_SAME = ("operator_image", "poll", "rate", "at_once")
"""What runs of one file have in common."""


@dataclass
class Results:
    path: Path
    told: dict[str, Any]
    """Machine, method and settings."""
    runs: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def resumed(cls, path: Path, told: dict[str, Any]) -> Results:
        """With the runs of that file that were measured; the others are done again."""
        found = json.loads(path.read_text())
        for name in _SAME:
            if found[name] != told[name]:
                raise SystemExit(f"{path} has {name} {found[name]}, this is {told[name]}: they do not go together")
        return cls(path, told, [run for run in found["runs"] if "error" not in run])

    def add(self, run: dict[str, Any]) -> None:
        self.runs.append(run)
        self.path.parent.mkdir(exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({**self.told, "cells": cells(self.runs), "runs": self.runs}, indent=2) + "\n")
        fresh.replace(self.path)

    def missing(self, scrape: int, weights: list[int], wanted: int) -> list[int]:
        """Weights of the runs still to do at a pace, taking turns."""
        done = [run["weight"] for run in self.runs if run["interval"] == scrape]
        return [weight for number in range(wanted) for weight in weights if done.count(weight) <= number]
