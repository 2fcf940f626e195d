"""What is remembered of a cluster between runs: its source of images, its place on the network, what it was made of."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hack.cluster.workspace import cache

DEFAULT_NAME = os.environ.get("OPS_COMMANDER_CLUSTER") or "ops-commander"


@dataclass
class State:
    """The record of one cluster; it is written when the cluster stands, so half a cluster has none."""

    name: str
    source: str
    slot: int
    fingerprint: str
    add_ons: str = ""
    loaded: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        path = folder(self.name) / "state.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self), indent=2) + "\n")
        fresh.replace(path)


def folder(name: str) -> Path:
    """Return the folder of a cluster in the cache."""
    return cache() / "clusters" / name


def kubeconfig(name: str) -> Path:
    """Return the path of a cluster's kubeconfig."""
    return folder(name) / "kubeconfig"


def load(name: str) -> State | None:
    """Return the record of a cluster, or None if there is none that can be read."""
    try:
        return State(**json.loads((folder(name) / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def names() -> list[str]:
    """Return the clusters that have a folder, complete or not."""
    clusters = cache() / "clusters"
    return sorted(path.name for path in clusters.iterdir() if path.is_dir()) if clusters.is_dir() else []


def free_slot(name: str) -> int:
    """Return the cluster's place on the engine's network: its own if it has one, else the first that is free."""
    own = load(name)
    if own:
        return own.slot
    taken = {state.slot for state in map(load, names()) if state}
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)
