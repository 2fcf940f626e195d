"""Bringing images that were built on the host into the cluster's node."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hack.cluster import images, kind, packages, state
from hack.cluster.commands import BootstrapError, run
from hack.cluster.progress import say, step
from hack.cluster.workspace import cache, log_file


def load_images(record: state.State, names: list[str]) -> None:
    """Load images into the cluster, each unless the node has this very build of it."""
    environment = kind.docker_environment(record.source)
    for name in names:
        present = images.image_id(name, record.source)
        if not present:
            raise BootstrapError(f"there is no image {name}: build it first with build-image --tag {name}")
        if record.loaded.get(name) == present:
            say(f"{name}: already in the cluster")
            continue
        with step(f"{name} into the cluster"), tempfile.TemporaryDirectory(dir=cache()) as folder:
            archive = Path(folder) / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', name)}.tar"
            images.save_archive(name, record.source, archive)
            argv = [packages.go_program("kind"), "load", "image-archive", archive, "--name", record.name]
            run(argv, log=log_file("kind"), timeout=300, env=environment)
        record.loaded[name] = present
        record.save()
