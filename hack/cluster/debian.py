"""Debian root file systems from Debian packages: the base of the node and of the Python images."""

from __future__ import annotations

import os
from pathlib import Path

from hack.cluster.commands import run
from hack.cluster.workspace import Artifact, cache, log_file, remove_tree

SUITE = "bookworm"

NODE_PACKAGES = [
    *("systemd", "dbus", "containerd", "runc", "containernetworking-plugins", "iptables", "nftables", "ebtables"),
    *("ethtool", "conntrack", "iproute2", "iputils-ping", "kmod", "socat", "jq", "curl", "procps", "util-linux"),
    *("mount", "openssl", "ca-certificates", "libcap2-bin", "hostname", "findutils"),
]
PYTHON_PACKAGES = ["python3", "python3-venv", "python3-pip", "ca-certificates"]

_UNWANTED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/lib/apt/lists",
    "var/cache/apt",
)


def _debootstrap(root: Path, packages: list[str]) -> None:
    downloads = cache() / "debs"
    downloads.mkdir(exist_ok=True)
    argv = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", f"--cache-dir={downloads}"]
    mirror = os.environ.get("OPS_COMMANDER_DEBIAN_MIRROR")
    argv += [SUITE, str(root), *([mirror] if mirror else [])]
    run(argv, log=log_file("debootstrap"), timeout=1200, env={"DEBIAN_FRONTEND": "noninteractive"})
    for name in _UNWANTED:
        for content in (root / name).iterdir() if (root / name).is_dir() else ():
            remove_tree(content)


def root_file_system(name: str, packages: list[str]) -> Path:
    """Return the root of a minimal Debian with the given packages."""
    artifact = Artifact(f"debian-{name}", SUITE, [*packages, *_UNWANTED])
    return artifact.ensure(lambda partial: _debootstrap(partial / "root", packages)) / "root"


def node() -> Path:
    """Return the Debian system that the node is made from."""
    return root_file_system("node", NODE_PACKAGES)


def python() -> Path:
    """Return the Debian system with Python that the project's images are made from."""
    return root_file_system("python", PYTHON_PACKAGES)
