"""The images that the cluster runs in the packages mode, lying unpacked in a store for containerd.

They do not go into the node image: every new cluster gets the store as hard links, which takes a second or two
instead of the half minute of importing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from hack.cluster import debian, packages
from hack.cluster.archives import NOBODY, Image, shared_objects, write_archive
from hack.cluster.commands import run
from hack.cluster.workspace import HERE, Artifact, log_file

REPOSITORY = "localhost/kubernetes"
ENVOY_GATEWAY_IMAGE = f"localhost/envoy-gateway:{packages.ENVOY_GATEWAY}"
ENVOY_IMAGE = f"localhost/envoy:v{packages.ENVOY}"
PROMETHEUS_IMAGE = f"localhost/prometheus:{packages.PROMETHEUS}"

_LIBRARIES = "usr/lib/x86_64-linux-gnu"
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
    root = debian.node()
    xtables = root / "usr/sbin/xtables-nft-multi"
    files: dict[str, Path | bytes] = {"/usr/local/bin/kube-proxy": packages.go_program("kube-proxy")}
    for family in ("iptables", "ip6tables"):
        for action in ("", "-save", "-restore"):
            files[f"/usr/sbin/{family}{action}"] = xtables
    for name in ("usr/sbin/nft", "usr/sbin/conntrack", "usr/bin/kmod"):
        files[f"/{name}"] = root / name
    files["/usr/sbin/modprobe"] = root / "usr/bin/kmod"
    for extension in sorted((root / _LIBRARIES / "xtables").glob("*.so")):
        files[f"/{_LIBRARIES}/xtables/{extension.name}"] = extension
    # the extensions have needs of their own: `statistic`, for Services of more than one endpoint, takes libm
    extensions = [place for place in files if place.endswith(".so")]
    programs = ["/usr/sbin/xtables-nft-multi", "/usr/sbin/nft", "/usr/sbin/conntrack", "/usr/bin/kmod"]
    files |= shared_objects(root, [*programs, *extensions])
    return Image(f"{REPOSITORY}/kube-proxy:{packages.KUBERNETES}", ("/usr/local/bin/kube-proxy",), files=files)


def _envoy() -> Image:
    """Envoy needs glibc and the name service switch, nothing else."""
    libraries = debian.node() / _LIBRARIES
    names = ("libc", "libm", "librt", "libdl", "libpthread", "libresolv", "libnss_files", "libnss_dns")
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
    script += ["bash", "-c", _IMPORT_SCRIPT, "import", str(debian.node()), str(partial / "containerd"), str(folder)]
    run(script, log=log_file("image-store"), timeout=600)
    shutil.rmtree(folder)


def image_store(archives: list[Path]) -> Artifact:
    """Return containerd's store with every image of the cluster; `archives` are images that were built otherwise."""
    inputs: list[str | bytes | Path] = [program.artifact().key for program in packages.GO_PROGRAMS.values()]
    inputs += [packages.ENVOY, debian.node().parent.name, _IMPORT_SCRIPT, HERE / "archives.py", Path(__file__)]
    inputs += [archive.parent.name for archive in archives]
    artifact = Artifact("image-store", packages.KUBERNETES, inputs)
    artifact.ensure(lambda partial: _fill_store(partial, archives))
    return artifact
