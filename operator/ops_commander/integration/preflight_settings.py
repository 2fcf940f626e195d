"""What a preflight is told besides its manifest, and what the candidate's files are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ops_commander.api.verification import Waiver
from ops_commander.core import risk
from ops_commander.core.risk import Veto
from ops_commander.integration import manifest as manifests
from ops_commander.integration.dependencies.platform import Platform


@dataclass(frozen=True, slots=True)
class Baseline:
    """The manifest of the version that serves: what it ships as a candidate is what callers and images now have."""

    manifest: Path
    name: str
    """What messages call it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not come from the manifest."""

    now: datetime
    platform: Platform = field(default_factory=Platform)
    name: str | None = None
    """What messages call the manifest; None: its path."""
    baseline: Baseline | None = None
    """Compared with instead of `schema.baseline` and `lockfile.production`."""
    baseline_note: str = ""
    """Why the manifest's own baseline is taken, where one of another manifest was looked for."""
    downloads: Path | None = None
    """Where files lie that the manifest names by URI, each under the last part of it."""
    fetched: Mapping[str, Path] = field(default_factory=dict)
    """Files that were fetched, by their URI."""
    absent: Mapping[str, Veto] = field(default_factory=dict)
    """Why a file is not here, by the path or URI that the manifest names."""
    waiver: Waiver | None = None
    """Breaking changes of the API are no veto for this version."""
    tests_elsewhere: bool = False
    """A manifest without tests is taken: something else tests the candidate."""
    weights: risk.Weights = field(default_factory=risk.Weights)
    bands: risk.Bands = field(default_factory=risk.Bands)


@dataclass(frozen=True, slots=True)
class Compared:
    """Files that the candidate's are compared with, each with what messages call it, and whose they are."""

    schema: tuple[Path, str]
    lock: tuple[Path, str]
    said: str


def of_other(baseline: Baseline) -> Compared:
    """Files of another manifest. Raises BadInput, whose file is called `… of` the baseline."""
    manifest, document, _ = manifests.read_manifest(baseline.manifest, baseline.name)

    def file(section: str, reference: str) -> tuple[Path, str]:
        path = manifests.resolve(baseline.manifest, document, (section, "candidate"), reference, baseline.name)
        return path, f"{reference} of {baseline.name}"

    schemas, lock = file("schema", manifest.schemas.candidate), file("lockfile", manifest.lockfile.candidate)
    return Compared(schemas, lock, f"the baseline is what {baseline.name} ships")
