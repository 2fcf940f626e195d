"""The node of the packages mode: a root file system like kind's node image, and a containerd store with all images.

kind's own image build needs a registry; this one takes the same scripts from kind's Go module. The images do not go
into the node image: they lie unpacked in a store on the host, which every new cluster gets as hard links.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from hack.cluster import debian, packages
from hack.cluster.archives import NOBODY, Image, shared_objects, write_archive
from hack.cluster.commands import output, run
from hack.cluster.workspace import HERE, Artifact, log_file

REPOSITORY = "localhost/kubernetes"
ENVOY_GATEWAY_IMAGE = f"localhost/envoy-gateway:{packages.ENVOY_GATEWAY}"
ENVOY_IMAGE = f"localhost/envoy:v{packages.ENVOY}"
PROMETHEUS_IMAGE = f"localhost/prometheus:{packages.PROMETHEUS}"

_NODE_FILES = HERE / "node"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
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
_IMPORT_SCRIPT = """
set -eu
root=$1 store=$2 archives=$3
mkdir -p "$root/mnt/store" "$root/mnt/archives" "$store"
mount --bind "$store" "$root/mnt/store"
mount --bind "$archives" "$root/mnt/archives"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount --rbind /dev "$root/dev"
ctr="chroot $root ctr --address /run/containerd.sock --namespace k8s.io"
chroot "$root" containerd --root /mnt/store --state /run/containerd --address /run/containerd.sock --log-level warn &
containerd=$!
for _ in $(seq 100); do $ctr version >/dev/null 2>&1 && break; sleep 0.1; done
for archive in "$archives"/*.tar; do
  $ctr images import --snapshotter overlayfs "/mnt/archives/$(basename "$archive")"
done
kill $containerd
wait $containerd || true
"""


def debian_node() -> Path:
    """Return the Debian system that the node is made from."""
    return debian.root_file_system("node", debian.NODE_PACKAGES)


def _static(name: str, image: str, target: str, user: str = "0:0") -> Image:
    return Image(image, (target,), user, {target: packages.go_program(name)})


def _control_plane() -> list[Image]:
    images = [
        _static(name, f"{REPOSITORY}/{name}:{packages.KUBERNETES}", f"/usr/local/bin/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    images.append(_static("etcd", f"{REPOSITORY}/etcd:{packages.ETCD}", "/usr/local/bin/etcd"))
    images.append(_static("pause", f"{REPOSITORY}/pause:{packages.PAUSE}", "/pause", "65535:65535"))
    images.append(_static("coredns", f"{REPOSITORY}/coredns:{packages.COREDNS}", "/coredns"))
    return images


def _kube_proxy() -> Image:
    """kube-proxy calls iptables: its image has the few programs and libraries of the node's Debian that this takes."""
    root = debian_node()
    xtables = root / "usr/sbin/xtables-nft-multi"
    files: dict[str, Path | bytes] = {"/usr/local/bin/kube-proxy": packages.go_program("kube-proxy")}
    for family in ("iptables", "ip6tables"):
        for action in ("", "-save", "-restore"):
            files[f"/usr/sbin/{family}{action}"] = xtables
    for name in ("usr/sbin/nft", "usr/sbin/conntrack", "usr/bin/kmod"):
        files[f"/{name}"] = root / name
    files["/usr/sbin/modprobe"] = root / "usr/bin/kmod"
    programs = ["/usr/sbin/xtables-nft-multi", "/usr/sbin/nft", "/usr/sbin/conntrack", "/usr/bin/kmod"]
    files |= shared_objects(root, programs)
    for extension in sorted((root / _LIBRARIES / "xtables").glob("*.so")):
        files[f"/{_LIBRARIES}/xtables/{extension.name}"] = extension
    return Image(f"{REPOSITORY}/kube-proxy:{packages.KUBERNETES}", ("/usr/local/bin/kube-proxy",), files=files)


def _envoy() -> Image:
    """Envoy needs glibc and the name service switch, nothing else."""
    libraries = debian_node() / _LIBRARIES
    names = "libc libm librt libdl libpthread libresolv libnss_files libnss_dns".split()
    files: dict[str, Path | bytes] = {}
    for library in (path for name in names for path in libraries.glob(f"{name}.so.*")):
        files[f"/lib/x86_64-linux-gnu/{library.name}"] = library.resolve()
    files["/lib64/ld-linux-x86-64.so.2"] = (libraries / "ld-linux-x86-64.so.2").resolve()
    files["/etc/passwd"] = b"root:x:0:0::/:/sbin/nologin\nnobody:x:65532:65532::/tmp:/sbin/nologin\n"
    files["/etc/nsswitch.conf"] = b"hosts: files dns\n"
    files["/usr/local/bin/envoy"] = packages.envoy()
    files["/tmp/.keep"] = b""
    return Image(ENVOY_IMAGE, ("/usr/local/bin/envoy",), NOBODY, files)


def _add_ons() -> list[Image]:
    # the one program is controller, certificate job and shutdown manager
    gateway = _static("envoy-gateway", ENVOY_GATEWAY_IMAGE, "/usr/local/bin/envoy-gateway", NOBODY)
    prometheus = _static("prometheus", PROMETHEUS_IMAGE, "/bin/prometheus", NOBODY)
    return [_kube_proxy(), _envoy(), gateway, prometheus]


def _fill_store(partial: Path, archives: list[Path]) -> None:
    folder = partial / "archives"
    folder.mkdir()
    for image in [*_control_plane(), *_add_ons()]:
        write_archive(image, folder)
    for archive in archives:
        (folder / archive.name).hardlink_to(archive)
    script = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    script += ["bash", "-c", _IMPORT_SCRIPT, "import", str(debian_node()), str(partial / "containerd"), str(folder)]
    run(script, log=log_file("image-store"), timeout=600)
    shutil.rmtree(folder)


def image_store(archives: list[Path]) -> Artifact:
    """Return containerd's store with every image of the cluster; `archives` are images that were built otherwise."""
    inputs: list[str | bytes | Path] = [program.artifact().key for program in packages.GO_PROGRAMS.values()]
    inputs += [packages.ENVOY, debian_node().parent.name, _IMPORT_SCRIPT, HERE / "archives.py", Path(__file__)]
    inputs += [archive.parent.name for archive in archives]
    artifact = Artifact("image-store", packages.KUBERNETES, inputs)
    artifact.ensure(lambda partial: _fill_store(partial, archives))
    return artifact


def _copy_kind_files(root: Path) -> None:
    source = packages.module_folder("kind", "sigs.k8s.io/kind") / "images" / "base" / "files"
    for folder in ("etc", "kind", "usr"):
        shutil.copytree(source / folder, root / folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
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
    run(["cp", "-a", "--reflink=auto", debian_node(), root], log=log_file("node-root"), timeout=300)
    _copy_kind_files(root)
    _install_programs(root)
    _configure(root)


def node_root() -> Artifact:
    """Return the node's root file system."""
    inputs: list[str | bytes | Path] = [debian_node().parent.name, _NODE_FILES, Path(__file__), packages.KIND]
    inputs += [packages.GO_PROGRAMS[name].artifact().key for name in ("kubeadm", "kubelet")]
    artifact = Artifact("node-root", packages.KUBERNETES, inputs)
    artifact.ensure(_compose)
    return artifact


def node_tag() -> str:
    """Return the name of the node's image."""
    return f"localhost/ops-commander-node:{node_root().key.split('@')[1]}"


def import_node_image(docker: dict[str, str]) -> None:
    """Make the node's root file system an image of the engine."""
    changes = ['ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]']
    changes += ["ENV container=docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    options = " ".join(f"--change '{change}'" for change in changes)
    pipeline = f"tar --numeric-owner -C {node_root().path / 'root'} -c . | docker import {options} - {node_tag()}"
    run(["bash", "-o", "pipefail", "-c", pipeline], log=log_file("node-image"), timeout=600, env=docker)
