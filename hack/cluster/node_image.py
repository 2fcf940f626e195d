"""The node of the packages mode: a root file system like that of kind's node image.

kind's own image build needs a registry; this one takes the same scripts from kind's Go module at build time.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from hack.cluster import debian, packages
from hack.cluster.commands import output, run, succeeds
from hack.cluster.workspace import HERE, Artifact, log_file

_NODE_FILES = HERE / "node"
_SERVICES = ("containerd", "kubelet", "undo-mount-hacks")
# units that a container should not start, as in kind's own image build
_WANTS = (
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
)


def _copy_kind_files(root: Path) -> None:
    source = packages.module_folder("kind", "sigs.k8s.io/kind") / "images" / "base" / "files"
    for name in ("etc", "kind", "usr"):
        shutil.copytree(source / name, root / name, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for folder in [root / "kind", *(root / "kind").rglob("*"), *(root / "etc/systemd").rglob("*")]:
        if folder.is_dir():
            folder.chmod(0o755)
    for script in [*(root / "usr/local/bin").iterdir(), *(root / "kind/bin").iterdir()]:
        script.chmod(0o755)
    (root / "kind/version").write_text(packages.KUBERNETES)
    (root / "kind/product_name").write_text("kind\n")


def _install_programs(root: Path) -> None:
    for name in ("kubeadm", "kubelet"):
        shutil.copy(packages.go_program(name), root / "usr/bin" / name)
    shutil.copy(packages.kubectl_and_helm() / "kubectl", root / "usr/bin/kubectl")
    for name in ("containerd", "containerd-shim-runc-v2", "ctr"):
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{name}")
    (root / "usr/local/sbin").mkdir(exist_ok=True)
    (root / "usr/local/sbin/runc").symlink_to("/usr/sbin/runc")
    shutil.copy(_NODE_FILES / "runc-trim", root / "usr/local/sbin/runc-trim")
    (root / "opt/cni").mkdir(parents=True)
    (root / "opt/cni/bin").symlink_to("/usr/lib/cni")


def _configure(root: Path) -> None:
    places = {
        "containerd.toml": "etc/containerd/config.toml",
        "containerd-limits.conf": "etc/systemd/system/containerd.service.d/10-limits.conf",
        "bridge.conflist": "etc/cni/net.d/10-bridge.conflist",
    }
    for name, place in places.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_NODE_FILES / name, root / place)
    (root / "etc/containerd/cri-base.json").write_text(output(["chroot", root, "ctr", "oci", "spec"]))
    (root / "etc/kubernetes/manifests").mkdir(parents=True)
    for pattern in _WANTS:
        for unit in root.glob(pattern):
            unit.unlink()
    wanted = root / "etc/systemd/system/multi-user.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    for service in _SERVICES:
        (wanted / f"{service}.service").symlink_to(f"/etc/systemd/system/{service}.service")
    for masked in ("systemd-udevd.service", "getty.target", "console-getty.service", "systemd-binfmt.service"):
        (root / "etc/systemd/system" / masked).symlink_to("/dev/null")
    init = root / "sbin/init"
    init.unlink(missing_ok=True)
    init.symlink_to("/lib/systemd/systemd")


def _compose(partial: Path) -> None:
    root = partial / "root"
    run(["cp", "-a", "--reflink=auto", debian.node(), root], log=log_file("node-root"), timeout=300)
    _copy_kind_files(root)
    _install_programs(root)
    _configure(root)


def node_root() -> Artifact:
    """Return the node's root file system."""
    inputs: list[str | bytes | Path] = [debian.node().parent.name, _NODE_FILES, Path(__file__), packages.KIND]
    inputs += [packages.GO_PROGRAMS[name].artifact().key for name in ("kubeadm", "kubelet")]
    artifact = Artifact("node-root", packages.KUBERNETES, inputs)
    artifact.ensure(_compose)
    return artifact


def node_tag() -> str:
    """Return the name of the node's image."""
    return f"localhost/ops-commander-node:{node_root().key.split('@')[1]}"


def _forget_older_images(docker: dict[str, str]) -> None:
    repository, _, tag = node_tag().partition(":")
    for listed in output(["docker", "images", "--format", "{{.Tag}}", repository], env=docker).split():
        if listed != tag:
            succeeds(["docker", "image", "rm", f"{repository}:{listed}"], env=docker)  # refused while a cluster uses it


def import_node_image(docker: dict[str, str]) -> None:
    """Make the node's root file system an image of the engine."""
    changes = ['ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]']
    changes += ["ENV container=docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    options = " ".join(f"--change '{change}'" for change in changes)
    pipeline = f"tar --numeric-owner -C {node_root().path / 'root'} -c . | docker import {options} - {node_tag()}"
    run(["bash", "-o", "pipefail", "-c", pipeline], log=log_file("node-image"), timeout=600, env=docker)
    _forget_older_images(docker)
