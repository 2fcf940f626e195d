"""Images built from Dockerfiles: by buildah on a base made from packages, or by docker on the Dockerfile's own base."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hack.cluster import debian, source
from hack.cluster.archives import Image, write_archive
from hack.cluster.commands import BootstrapError, output, run
from hack.cluster.progress import say, step
from hack.cluster.workspace import (
    HERE,
    SCARCE_DISK_GB,
    Artifact,
    cache,
    digest,
    free_gigabytes,
    identity,
    log_file,
    remove_tree,
)

PYTHON_IMAGE = "localhost/python:3.11"
_BUILD_TIMEOUT = 1800.0
_BUNDLES = ("etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt")


@dataclass(frozen=True)
class Build:
    """What to build: a Dockerfile, its context and its arguments, under a name."""

    tag: str
    dockerfile: Path
    context: Path
    arguments: tuple[str, ...] = ()


def _ignore_patterns(build: Build) -> list[str]:
    for path in (build.dockerfile.with_name(f"{build.dockerfile.name}.dockerignore"), build.context / ".dockerignore"):
        if path.is_file():
            lines = (line.strip().rstrip("/") for line in path.read_text().splitlines())
            return [line for line in lines if line and not line.startswith("#")]
    return []


def _matches(name: str, pattern: str) -> bool:
    """Match like .dockerignore does, nearly: a pattern also covers everything below what it names."""
    pattern = pattern.lstrip("/")
    if pattern.startswith("**/"):
        return any(_matches("/".join(name.split("/")[start:]), pattern[3:]) for start in range(name.count("/") + 1))
    depth = pattern.count("/") + 1
    return fnmatch.fnmatchcase("/".join(name.split("/")[:depth]), pattern)


def _ignored(name: str, patterns: list[str]) -> bool:
    ignored = False
    for pattern in patterns:
        if _matches(name, pattern.removeprefix("!")):
            ignored = not pattern.startswith("!")
    return ignored


def _context_files(build: Build) -> list[Path]:
    patterns = ["**/.git", *_ignore_patterns(build)]
    reincluded = any(pattern.startswith("!") for pattern in patterns)
    found: list[Path] = []
    for folder, folders, names in os.walk(build.context):
        here = Path(folder).relative_to(build.context).as_posix()
        prefix = "" if here == "." else f"{here}/"
        if not reincluded:
            folders[:] = [name for name in folders if not _ignored(prefix + name, patterns)]
        folders[:] = sorted(name for name in folders if name not in (".git", ".venv", "__pycache__"))
        found += [build.context / (prefix + name) for name in sorted(names) if not _ignored(prefix + name, patterns)]
    return found


def _fingerprint(build: Build, base: str) -> str:
    parts: list[str | bytes | Path] = [build.dockerfile.read_bytes(), base, *build.arguments]
    for path in _context_files(build):
        mode = path.lstat().st_mode & 0o111
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        parts += [f"{path.relative_to(build.context)} {mode}", content]
    return digest(parts)


def _python_base() -> Artifact:
    """Return Debian's Python as an image: the base of the project's images where no registry can be reached."""
    root = debian.python()
    artifact = Artifact("python-image", "3.11", [root.parent.name, HERE / "archives.py"])

    def build(partial: Path) -> None:
        for path in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            path.unlink()
        if not (root / "usr/bin/python").exists():
            (root / "usr/bin/python").symlink_to("python3")
        write_archive(Image(PYTHON_IMAGE, ("python3",), root=root), partial)

    artifact.ensure(build)
    return artifact


def _runtime_folder() -> Path:
    return Path(f"/run/ops-commander-{identity()}-buildah")


def _buildah(*arguments: str) -> list[str]:
    roots = [f"--root={cache() / 'buildah' / 'storage'}", f"--runroot={_runtime_folder()}"]
    return ["buildah", *roots, *arguments]


def _forget_stale_layers() -> None:
    """Drop the layers of earlier builds when the disk is short; until then they make builds quick."""
    if free_gigabytes() < SCARCE_DISK_GB:
        run(_buildah("rmi", "--prune", "--force"), log=log_file("buildah"), timeout=300)


def purge() -> None:
    """Delete everything that buildah has built."""
    remove_tree(cache() / "buildah")
    remove_tree(cache() / "built")
    shutil.rmtree(_runtime_folder(), ignore_errors=True)


def _buildah_image(name: str) -> str:
    """Return the id of an image in buildah's storage, or nothing."""
    listing = json.loads(output(_buildah("images", "--json")) or "[]") or []
    return next((str(image["id"]) for image in listing if name in (image.get("names") or [])), "")


def _ensure_base() -> str:
    artifact = _python_base()
    marker = cache() / "buildah" / "base"
    if not (_buildah_image(PYTHON_IMAGE) and marker.is_file() and marker.read_text() == artifact.key):
        with step(f"base image {PYTHON_IMAGE}"):
            archive = next(artifact.path.glob("*.tar"))
            run(_buildah("pull", f"docker-archive:{archive}"), log=log_file("buildah"), timeout=300)
            marker.write_text(artifact.key)
    return artifact.key


def _pip_configuration() -> str:
    """Return a pip.conf with what pip on this host is told of indexes and certificates."""
    argv = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    settings: dict[str, str] = {}
    for key, value in re.findall(r"^(?:global|:env:|install)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE):
        if key in ("index-url", "extra-index-url", "trusted-host", "timeout", "default-timeout"):
            settings[key.replace("default-timeout", "timeout")] = value
    lines = [f"{key} = {value}" for key, value in settings.items()]
    return "\n".join(["[global]", f"cert = /{_BUNDLES[0]}", *lines]) + "\n"


def _certificates() -> Path:
    candidates = [os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile]
    candidates += [f"/{bundle}" for bundle in _BUNDLES]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise BootstrapError("found no bundle of CA certificates on this host")


def _build_with_buildah(build: Build, secret: Path) -> None:
    options = ["--isolation=chroot", "--network=host", "--layers", "--pull-never", "--format=docker"]
    argv = _buildah("build", *options)
    # both stay out of the image: the host's certificates are a mount, pip's settings a secret
    argv += ["--volume", f"{_certificates()}:/{_BUNDLES[0]}:ro", "--secret", f"id=pip.conf,src={secret}"]
    argv += ["--build-arg", f"PYTHON_IMAGE={PYTHON_IMAGE}"]
    for argument in build.arguments:
        argv += ["--build-arg", argument]
    argv += ["--tag", build.tag, "--file", str(build.dockerfile), str(build.context)]
    run(argv, log=log_file("image-builds"), timeout=_BUILD_TIMEOUT)


def _build_with_docker(build: Build, secret: Path) -> None:
    argv = ["docker", "build", "--secret", f"id=pip.conf,src={secret}", "--tag", build.tag]
    for argument in build.arguments:
        argv += ["--build-arg", argument]
    argv += ["--file", str(build.dockerfile), str(build.context)]
    run(argv, log=log_file("image-builds"), timeout=_BUILD_TIMEOUT, env={"DOCKER_BUILDKIT": "1"})


def _docker_image(name: str) -> str:
    try:
        return output(["docker", "image", "inspect", "--format", "{{.Id}}", name]).strip()
    except BootstrapError:
        return ""


def image_id(name: str, images: str) -> str:
    """Return the id of a built image, or nothing if there is none of that name."""
    return _buildah_image(name) if images == source.PACKAGES else _docker_image(name)


def build_image(build: Build, images: str) -> str:
    """Build an image unless its inputs are unchanged; return its id."""
    composed = images == source.PACKAGES
    base = _ensure_base() if composed else ""
    marker = cache() / "built" / images / re.sub(r"[^a-zA-Z0-9.]+", "-", build.tag)
    fingerprint = _fingerprint(build, base)
    present = image_id(build.tag, images)
    if present and marker.is_file() and marker.read_text() == f"{fingerprint} {present}":
        say(f"{build.tag}: unchanged")
        return present
    with step(f"image {build.tag}"), tempfile.NamedTemporaryFile("w", suffix=".conf") as secret:
        secret.write(_pip_configuration() if composed else "[global]\n")
        secret.flush()
        (_build_with_buildah if composed else _build_with_docker)(build, Path(secret.name))
    if composed:
        _forget_stale_layers()
    present = image_id(build.tag, images)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(f"{fingerprint} {present}")
    return present


def save_archive(name: str, images: str, path: Path) -> None:
    """Write a built image as an archive."""
    path.unlink(missing_ok=True)
    if images == source.PACKAGES:
        argv = _buildah("push", "--quiet", name, f"docker-archive:{path}:{name}")
    else:
        argv = ["docker", "save", "--output", str(path), name]
    run(argv, log=log_file("image-archives"), timeout=300)
