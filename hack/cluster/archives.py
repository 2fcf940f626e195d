"""Writing container images as `docker save` archives: enough for one layer of files, with no engine involved."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from hack.cluster.commands import output

_EPOCH = "1970-01-01T00:00:00Z"
NOBODY = "65532:65532"


@dataclass(frozen=True)
class Image:
    """A single-layer image: its name, what is in it, and how it starts."""

    name: str
    entrypoint: tuple[str, ...] = ()
    user: str = "0:0"
    files: dict[str, Path | bytes] = field(default_factory=dict)
    root: Path | None = None
    environment: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def _add_folders(layer: tarfile.TarFile, target: str, made: set[str]) -> None:
    for folder in reversed(Path(target).parents):
        name = str(folder).strip("/.")
        if name and name not in made:
            made.add(name)
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            layer.addfile(entry)


def _add_file(layer: tarfile.TarFile, target: str, content: Path | bytes) -> None:
    entry = tarfile.TarInfo(target.lstrip("/"))
    if isinstance(content, bytes):
        entry.size, entry.mode = len(content), 0o644
        layer.addfile(entry, io.BytesIO(content))
        return
    status = content.stat()
    entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o111 else 0o644
    with content.open("rb") as source:
        layer.addfile(entry, source)


def _write_layer(image: Image, path: Path) -> None:
    with tarfile.open(path, "w") as layer:
        if image.root:
            layer.add(image.root, arcname=".")
        made: set[str] = set()
        for target, content in sorted(image.files.items()):
            _add_folders(layer, target, made)
            if content == b"" and target.endswith("/.keep"):
                continue  # only the folder is wanted
            _add_file(layer, target, content)


def _configuration(image: Image, layer: Path) -> bytes:
    with layer.open("rb") as source:
        checksum = hashlib.file_digest(source, "sha256").hexdigest()
    settings: dict[str, object] = {"Env": list(image.environment), "User": image.user}
    if image.entrypoint:
        settings["Entrypoint"] = list(image.entrypoint)
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": _EPOCH,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{checksum}"]},
        "history": [{"created": _EPOCH, "created_by": "hack.cluster"}],
    }
    return json.dumps(document, sort_keys=True).encode()


def write_archive(image: Image, folder: Path) -> Path:
    """Write the image into `folder` as an archive that containerd, docker and buildah import; return its path."""
    layer = folder / "layer.tar"
    _write_layer(image, layer)
    configuration = _configuration(image, layer)
    name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [image.name], "Layers": ["layer.tar"]}]).encode()
    path = folder / f"{re.sub(r'[^a-zA-Z0-9.]+', '-', image.name)}.tar"
    with tarfile.open(path, "w") as archive:
        _add_file(archive, name, configuration)
        _add_file(archive, "layer.tar", layer)
        _add_file(archive, "manifest.json", manifest)
    layer.unlink()
    return path


def shared_objects(root: Path, programs: list[str]) -> dict[str, Path | bytes]:
    """Return the shared objects that programs of a root file system need, by the place where the loader looks."""
    found: dict[str, Path | bytes] = {}
    for place in re.findall(r"(/\S+) \(0x", output(["chroot", root, "ldd", *programs])):
        real = output(["chroot", root, "readlink", "-f", place]).strip()
        found[place] = root / real.lstrip("/")
    return found
