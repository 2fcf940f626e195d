"""What the kernel says of this machine and of single processes; a network of its own for what is started."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_TICKS = os.sysconf("SC_CLK_TCK")


def isolate_network() -> bool:
    """Leave the host's network for one with nothing but `lo`; False where that takes more rights than we have.

    Children stay in it. No port clashes with anything else, and nothing gets out.
    """
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return True


def described() -> dict[str, object]:
    """Cores, processor and kernel, for the report."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def load_average() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]


@dataclass(frozen=True, slots=True)
class Usage:
    """A process at a moment: CPU seconds since it began, memory in MiB."""

    at: float
    cpu: float
    rss: float
    peak: float

    def cores_since(self, before: Usage) -> float:
        return (self.cpu - before.cpu) / max(self.at - before.at, 1e-6)


def usage(pid: int) -> Usage:
    """Raises OSError where the process is gone."""
    folder = Path("/proc") / str(pid)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    memory = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(time.monotonic(), cpu, _mebibytes(memory["VmRSS"]), _mebibytes(memory["VmHWM"]))


def _mebibytes(text: str) -> float:
    return int(text.split()[0]) / 1024


def pss(pid: int) -> float:
    """MiB, with what is shared with other processes counted in part."""
    lines = (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()
    return next(_mebibytes(line.split(":", 1)[1]) for line in lines if line.startswith("Pss:"))


def held(pid: int) -> dict[str, int]:
    """Open files and threads."""
    folder = Path("/proc") / str(pid)
    return {"files": len(list((folder / "fd").iterdir())), "threads": len(list((folder / "task").iterdir()))}
