"""`pip inspect` and `pip install --report`: what is installed, or would be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.utils import canonicalize_name

from ops_commander.integration.dependencies.model import Format, Interpreter, Lock, Package
from ops_commander.integration.documents import BadInput, Text

_OPTIONAL = ("archive_info", "vcs_info", "dir_info", "url")


def read_inspect(text: Text, data: Mapping[str, Any]) -> Lock:
    """Each distribution with what its metadata asks for; `requested` says which are direct."""
    key = "installed" if "installed" in data else "install"
    entries = data[key]
    if not isinstance(entries, list):
        raise BadInput(text.file, key, f"is {type(entries).__name__}", "a list of distributions")
    packages: dict[str, Package] = {}
    for index, entry in enumerate(entries):
        package = _package(text.file, f"{key}[{index}]", entry)
        if package.name in packages and packages[package.name].version != package.version:
            raise BadInput(text.file, f"{key}[{index}]", f"{package.name} is installed twice", "one version")
        packages[package.name] = package
    environment = data.get("environment")
    python = _interpreter(environment if isinstance(environment, dict) else {})
    return Lock(text.file, text.sha256, Format.PIP_INSPECT, packages, python, complete=True)


def _package(file: str, place: str, entry: Any) -> Package:
    metadata = entry.get("metadata") if isinstance(entry, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise BadInput(file, f"{place}.metadata.name", "is missing", "the name of a distribution")
    version = metadata.get("version")
    if not isinstance(version, str):
        raise BadInput(file, f"{place}.metadata.version", "is missing", "a version")
    requires = metadata.get("requires_dist")
    source = entry.get("direct_url") if "direct_url" in entry else entry.get("download_info")
    is_direct_url = "direct_url" in entry or entry.get("is_direct") is True
    return Package(
        name=canonicalize_name(metadata["name"]),
        version=version,
        direct=entry["requested"] if isinstance(entry.get("requested"), bool) else None,
        source=_source(source) if is_direct_url and isinstance(source, dict) else "",
        hashes=frozenset(_hashes(source)) if isinstance(source, dict) else frozenset(),
        requires=tuple(each for each in requires if isinstance(each, str)) if isinstance(requires, list) else (),
    )


def _source(source: Mapping[str, Any]) -> str:
    vcs = source.get("vcs_info")
    if isinstance(vcs, dict):
        return f"{vcs.get('vcs', 'git')}+{source.get('url', '')}@{vcs.get('commit_id', '')}"
    directory = "dir_info" in source
    return f"{'directory' if directory else 'url'}+{source.get('url', '')}"


def _hashes(source: Mapping[str, Any]) -> list[str]:
    archive = source.get("archive_info")
    if not isinstance(archive, dict):
        return []
    hashes = archive.get("hashes")
    if isinstance(hashes, dict):
        return [f"{name}:{value}".lower() for name, value in hashes.items() if isinstance(value, str)]
    return [str(archive["hash"]).replace("=", ":").lower()] if isinstance(archive.get("hash"), str) else []


def _interpreter(environment: Mapping[str, Any]) -> Interpreter:
    version = environment.get("python_full_version") or environment.get("python_version")
    return Interpreter(
        version=version if isinstance(version, str) else None,
        machine=str(environment.get("platform_machine", "")),
        system=str(environment.get("platform_system", "")),
    )
