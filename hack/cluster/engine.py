"""The container engine of the packages mode: our own dockerd, in a network namespace of its own.

The namespace keeps the rules that docker and Kubernetes write off the host. The host reaches what is published there
over a veth pair; every cluster has an address of its own on it, so that their node ports do not clash.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from hack.cluster.commands import BootstrapError, output, succeeds, tail, wait_until
from hack.cluster.progress import say, step
from hack.cluster.workspace import HERE, cache, identity, log_file, remove_tree

NAMESPACE = f"ops-commander-{identity()}"
CONTROL_GROUP = NAMESPACE
_VETH = f"opscmd-{identity()}"
_NETWORK = f"10.213.{int(identity()[:2], 16)}"
_PREFIX = 24
_FIRST_CLUSTER = 2
_MAX_CLUSTERS = 16
_RUNTIME = Path("/run") / NAMESPACE
_SOCKET = _RUNTIME / "docker.sock"


def docker_environment() -> dict[str, str]:
    """Return the environment with which docker and kind talk to our engine."""
    return {"DOCKER_HOST": f"unix://{_SOCKET}", "KIND_EXPERIMENTAL_PROVIDER": "docker"}


def cluster_address(slot: int) -> str:
    """Return the address in the namespace at which a cluster publishes its ports."""
    if not 0 <= slot < _MAX_CLUSTERS:
        raise BootstrapError(f"at most {_MAX_CLUSTERS} clusters at once")
    return f"{_NETWORK}.{_FIRST_CLUSTER + slot}"


def _data_root() -> Path:
    return cache() / "engine" / "docker"


def _record() -> Path:
    return cache() / "engine" / "dockerd.json"


def _namespace_path() -> Path:
    return Path("/run/netns") / NAMESPACE


def _network_ready() -> bool:
    if not _namespace_path().exists():
        return False
    last = cluster_address(_MAX_CLUSTERS - 1)
    try:
        inside = output(["ip", "-n", NAMESPACE, "-4", "addr", "show", "dev", "eth0", "up"])
        outside = output(["ip", "-4", "addr", "show", "dev", _VETH, "up"])
    except BootstrapError:
        return False
    return f" {last}/" in inside and f" {_NETWORK}.1/" in outside


def _remove_network() -> None:
    if succeeds(["ip", "link", "show", _VETH]):
        output(["ip", "link", "delete", _VETH])
    if _namespace_path().exists() and not succeeds(["ip", "netns", "delete", NAMESPACE]):
        # a run that died between making the file and mounting the namespace on it
        succeeds(["umount", "--lazy", str(_namespace_path())])
        _namespace_path().unlink(missing_ok=True)


def _make_network() -> None:
    if f" {_NETWORK}." in output(["ip", "-4", "addr", "show"]):
        raise BootstrapError(f"the network {_NETWORK}.0/{_PREFIX} is in use on this host")
    output(["ip", "netns", "add", NAMESPACE])
    output(["ip", "link", "add", _VETH, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE])
    output(["ip", "addr", "add", f"{_NETWORK}.1/{_PREFIX}", "dev", _VETH])
    output(["ip", "link", "set", _VETH, "up"])
    for slot in range(_MAX_CLUSTERS):
        output(["ip", "-n", NAMESPACE, "addr", "add", f"{cluster_address(slot)}/{_PREFIX}", "dev", "eth0"])
    output(["ip", "-n", NAMESPACE, "link", "set", "eth0", "up"])
    output(["ip", "-n", NAMESPACE, "link", "set", "lo", "up"])
    output(["ip", "-n", NAMESPACE, "route", "add", "default", "via", f"{_NETWORK}.1"])
    forward = ["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"]
    output(["nsenter", f"--net={_namespace_path()}", *forward])


def _start_time(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; with it a reused process id is told from ours."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _daemon() -> int | None:
    """Return the process id of our dockerd if it runs: recorded by us, begun when we noted it, on our data root."""
    try:
        record = json.loads(_record().read_text())
    except (OSError, ValueError):
        return None
    pid = int(record["pid"])
    ours = _start_time(pid) == record["started"] and str(_data_root()) in _command_line(pid)
    return pid if ours else None


def running() -> bool:
    """Tell whether our engine answers."""
    if _daemon() is None or not _network_ready():
        return False
    return succeeds(["docker", "version"], env=docker_environment())


def _dockerd_arguments() -> list[str]:
    wrapper = _record().with_name("runc-trim")
    shutil.copy(HERE / "node" / "runc-trim", wrapper)
    return [
        # not `ip netns exec`: that one mounts a fresh /sys, under which dockerd finds no control groups
        *("nsenter", f"--net={_namespace_path()}", "dockerd"),
        *(f"--host=unix://{_SOCKET}", f"--data-root={_data_root()}"),
        *(f"--exec-root={_RUNTIME / 'docker'}", f"--pidfile={_RUNTIME / 'docker.pid'}"),
        *("--storage-driver=overlay2", f"--cgroup-parent=/{CONTROL_GROUP}", "--exec-opt=native.cgroupdriver=cgroupfs"),
        *(f"--add-runtime=trim={wrapper}", "--default-runtime=trim"),
    ]


def _start_daemon() -> None:
    log = log_file("dockerd")
    log.parent.mkdir(parents=True, exist_ok=True)
    _data_root().mkdir(parents=True, exist_ok=True)
    _RUNTIME.mkdir(parents=True, exist_ok=True)
    (_RUNTIME / "docker.pid").unlink(missing_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            _dockerd_arguments(), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    _record().write_text(json.dumps({"pid": process.pid, "started": _start_time(process.pid)}))

    def answers() -> bool:
        if process.poll() is not None:
            raise BootstrapError(f"dockerd ended with {process.returncode}\n{tail(log)}\n  whole log: {log}")
        return succeeds(["docker", "version"], env=docker_environment(), timeout=5)

    wait_until(f"dockerd to answer on {_SOCKET} (log: {log})", answers, timeout=60)


def ensure() -> None:
    """Make the engine run; what a broken run left is cleared away first."""
    if running():
        return
    with step("container engine"):
        stop()
        _make_network()
        _start_daemon()


def _grouped_processes() -> list[int]:
    """Return the processes in our control groups: what runs in containers of our engine."""
    found: set[int] = set()
    for hierarchy in Path("/sys/fs/cgroup").glob(f"*/{CONTROL_GROUP}"):
        for members in [*hierarchy.rglob("cgroup.procs")]:
            try:
                found.update(int(line) for line in members.read_text().split())
            except OSError:
                continue  # the group went away meanwhile
    return sorted(found)


def _helper_processes() -> list[int]:
    """Return containerd and its shims: they name our run-time folder on their command line."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    programs = ("dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2")
    found = []
    for pid in pids:
        line = _command_line(pid)
        if Path(line.partition(" ")[0]).name in programs and str(_RUNTIME / "docker") in line:
            found.append(pid)
    return found


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _stop_daemon() -> None:
    pid = _daemon()
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while _daemon() is not None and time.monotonic() < deadline:
            time.sleep(0.2)
        if _daemon() is not None:
            say("dockerd does not end by itself: killing it")
            _signal(pid, signal.SIGKILL)
    for leftover in [*_helper_processes(), *_grouped_processes()]:
        _signal(leftover, signal.SIGKILL)
    wait_until("the engine's processes to end", lambda: not (_helper_processes() or _grouped_processes()), timeout=20)
    _record().unlink(missing_ok=True)


def _unmount_below(folder: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((mount for mount in mounts if Path(mount).is_relative_to(folder)), key=len, reverse=True):
        succeeds(["umount", "--lazy", point])


def _remove_control_groups() -> None:
    for hierarchy in Path("/sys/fs/cgroup").glob(f"*/{CONTROL_GROUP}"):
        folders = [path for path in hierarchy.rglob("*") if path.is_dir()]
        for folder in [*sorted(folders, key=lambda path: len(path.parts), reverse=True), hierarchy]:
            try:
                folder.rmdir()
            except OSError:
                continue  # still in use; harmless, the next start uses it again


def stop() -> None:
    """End the engine and take away its namespace, mounts and control groups; its data stay."""
    _stop_daemon()
    _unmount_below(_RUNTIME)
    _unmount_below(_data_root())
    _remove_control_groups()
    _remove_network()
    if _RUNTIME.exists():
        shutil.rmtree(_RUNTIME, ignore_errors=True)


def purge() -> None:
    """Delete the data of the engine, which must have been stopped."""
    if _daemon() is not None:
        raise BootstrapError("the engine still runs")
    remove_tree(cache() / "engine")
