"""The cache folder: where things are kept, how a built thing is found again, and the lock that keeps two runs apart."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.cluster.commands import BootstrapError
from hack.cluster.progress import say, step

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
TOOLS = REPOSITORY / "hack" / "tools"

SCARCE_DISK_GB = 15.0
_LOCK_TIMEOUT = 3600.0


def cache() -> Path:
    """Return the cache folder, made if it is not there."""
    root = os.environ.get("OPS_COMMANDER_CACHE")
    folder = Path(root).resolve() if root else Path.home() / ".cache" / "ops-commander"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def identity() -> str:
    """Return six hexadecimal digits of the cache's path: caches side by side share no namespace, address or folder."""
    return hashlib.sha256(str(cache()).encode()).hexdigest()[:6]


def bin_folder() -> Path:
    """Return the folder of the programs, to be put on PATH."""
    folder = cache() / "bin"
    folder.mkdir(exist_ok=True)
    return folder


def log_file(name: str) -> Path:
    """Return the log of one kind of step, emptied when it has grown large."""
    log = cache() / "logs" / f"{name}.log"
    if log.exists() and log.stat().st_size > 4_000_000:
        log.unlink()
    return log


def digest(parts: Iterable[str | bytes | Path]) -> str:
    """Hash strings and the contents of files; a folder counts with all the files below it."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            files = sorted(path for path in part.rglob("*") if path.is_file()) if part.is_dir() else [part]
            for file in files:
                total.update(str(file.relative_to(part.parent)).encode() + b"\0" + file.read_bytes() + b"\0")
        else:
            total.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return total.hexdigest()


def remove_tree(path: Path) -> None:
    """Delete a folder, however many files it has; refuse anything outside the cache."""
    if not path.is_relative_to(cache()) or path == cache():
        raise BootstrapError(f"refusing to delete {path}: not inside the cache {cache()}")
    # rm copes with root file systems (device nodes, unreadable modes) better than shutil does
    if path.is_symlink() or path.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=True)


class Artifact:
    """A thing that is built once for given inputs and then found in the cache under a name that holds their hash."""

    def __init__(self, name: str, version: str, inputs: Iterable[str | bytes | Path]) -> None:
        self.name = name
        self.version = version
        self.key = f"{name}@{version}-{digest(inputs)[:12]}"

    @property
    def path(self) -> Path:
        return cache() / "artifacts" / self.key

    @property
    def present(self) -> bool:
        return self.path.is_dir()

    def ensure(self, build: Callable[[Path], None]) -> Path:
        """Return the folder, built if need be. A run that dies half-way leaves only a temporary folder behind."""
        if self.present:
            return self.path
        partial = self.path.with_name(f".partial-{self.name}")
        remove_tree(partial)
        partial.mkdir(parents=True)
        with step(f"{self.name} {self.version}"):
            build(partial)
        partial.rename(self.path)
        self._forget_older()
        return self.path

    def _forget_older(self) -> None:
        for sibling in self.path.parent.glob(f"{self.name}@*"):
            if sibling != self.path:
                say(f"dropping the outdated {sibling.name}")
                remove_tree(sibling)


def publish(source: Path, link: Path) -> None:
    """Make `link` a symbolic link to a built thing, replaced in one step."""
    if link.is_symlink() and link.readlink() == source:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(source)
    fresh.replace(link)


def free_gigabytes() -> float:
    """Return the free space of the cache's file system."""
    return shutil.disk_usage(cache()).free / 1e9


@contextmanager
def exclusive(command: str) -> Iterator[None]:
    """Hold the lock of the cache; wait for another run that has it, and say so."""
    path = cache() / "lock"
    with path.open("a+") as handle:
        deadline = time.monotonic() + _LOCK_TIMEOUT
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip()
                if not told:
                    say(f"waiting for another run that holds {path}: {holder}")
                    told = True
                if time.monotonic() > deadline:
                    raise BootstrapError(f"gave up after {_LOCK_TIMEOUT:.0f} s waiting for: {holder}") from None
                time.sleep(0.5)
        handle.seek(0)
        handle.truncate()
        handle.write(f"{command} (process {os.getpid()}, {Path(sys.executable).name})\n")
        handle.flush()
        yield
