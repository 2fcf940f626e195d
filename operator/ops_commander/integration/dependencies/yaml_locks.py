"""conda.yaml, and MLflow's python_env.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from ops_commander.integration.dependencies.model import Format, Interpreter, Lock, Package
from ops_commander.integration.dependencies.platform import Platform
from ops_commander.integration.dependencies.text_locks import Found, read_lines
from ops_commander.integration.documents import BadInput, Document, Place, Text, load_yaml

_MAX_ENTRY: Final = 1000
_CONDA: Final = re.compile(
    r"(?:[\w./:-]+::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*)"
    r"(?:\s*(?P<operator>===?|=|>=|<=|!=|~=|>|<)\s*(?P<version>[^\s=]+)(?:=(?P<build>[^\s=]+))?"
    r"|\s+(?P<spaced>[0-9][^\s=]*)(?:\s+(?P<spaced_build>\S+))?)?\s*"
)
_SAME: Final = {"pytorch": "torch", "pytorch-cpu": "torch", "pytorch-gpu": "torch", "py-xgboost": "xgboost"}
"""Names on conda of what PyPI calls otherwise."""
_SYSTEM: Final = frozenset(
    [
        "python",
        "pip",
        "setuptools",
        "wheel",
        "openssl",
        "ca-certificates",
        "sqlite",
        "zlib",
        "libgcc-ng",
        "libstdcxx-ng",
    ]
)


def read_conda(text: Text, platform: Platform, folder: Path | None) -> Lock:
    """Packages of conda and of its `pip:` list in one; pip's wins where both have a name."""
    document = load_yaml(text.text, text.file, as_text=True)
    data = _mapping(text.file, document)
    found = Found(platform)
    interpreter = Interpreter()
    own: dict[str, Package] = {}
    for index, entry in enumerate(_entries(text.file, document, data, "dependencies")):
        place: Place = ("dependencies", index)
        if isinstance(entry, dict):
            _pip(text.file, document, found, entry, place, folder)
            continue
        package = _conda_package(text.file, document.position(place), entry)
        if package.name == "python":
            interpreter = Interpreter(package.version, package.specifier)
        else:
            own[package.name] = package
    packages = {**own, **found.result()}
    return Lock(text.file, text.sha256, Format.CONDA, packages, interpreter, notes=tuple(found.notes))


def read_python_env(text: Text, platform: Platform, folder: Path | None) -> Lock:
    """`python`, `build_dependencies` and `dependencies`; these are lines of a requirements.txt."""
    document = load_yaml(text.text, text.file, as_text=True)
    data = _mapping(text.file, document)
    found = Found(platform)
    for key in ("build_dependencies", "dependencies"):
        for index, entry in enumerate(_entries(text.file, document, data, key)):
            _line(text.file, document, found, entry, (key, index), folder)
    build = {canonicalize_name(re.split(r"[^\w.-]", str(each))[0]) for each in data.get("build_dependencies") or []}
    packages = {
        name: replace(package, direct=False) if name in build else package for name, package in found.result().items()
    }
    version = data.get("python")
    if version is not None and not isinstance(version, str):
        raise BadInput(text.file, document.position(("python",)), "is no text", "a version such as 3.11.4")
    python = Interpreter(version)
    return Lock(text.file, text.sha256, Format.PYTHON_ENV, packages, python, notes=tuple(found.notes))


def _mapping(file: str, document: Document) -> Mapping[str, Any]:
    if not isinstance(document.value, dict):
        raise BadInput(file, document.position(()), "is no mapping", "the keys of conda.yaml or python_env.yaml")
    return document.value


def _entries(file: str, document: Document, data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key) or []
    if not isinstance(value, list):
        raise BadInput(file, document.position((key,)), f"is {type(value).__name__}", "a list")
    return value


def _pip(
    file: str, document: Document, found: Found, entry: Mapping[str, Any], place: Place, folder: Path | None
) -> None:
    lines = entry.get("pip")
    if set(entry) != {"pip"} or not isinstance(lines, list):
        raise BadInput(file, document.position(place), f"is a mapping of {sorted(entry)}", "pip: and a list")
    for index, line in enumerate(lines):
        _line(file, document, found, line, (*place, "pip", index), folder)


def _line(file: str, document: Document, found: Found, line: Any, place: Place, folder: Path | None) -> None:
    if not isinstance(line, str):
        raise BadInput(file, document.position(place), f"is {type(line).__name__}", "a requirement as text")
    try:
        read_lines(found, line, file, folder)
    except BadInput as error:
        if error.file != file:
            raise
        raise BadInput(file, document.position(place), error.problem, error.expected) from error


def _conda_package(file: str, position: str, entry: Any) -> Package:
    match = _CONDA.fullmatch(entry) if isinstance(entry, str) and len(entry) <= _MAX_ENTRY else None
    if match is None:
        raise BadInput(file, position, f"{str(entry)[:100]!r} is no conda package", "a form such as numpy=1.26.4")
    canonical: str = canonicalize_name(match["name"])
    name = _SAME.get(canonical, canonical)
    operator, version = match["operator"] or "=", match["version"] or match["spaced"]
    build = match["build"] or match["spaced_build"] or ""
    pinned = version if _is_pin(operator, version or "", build) else None
    specifier = f"{operator}{version}" if version else ""
    direct = False if name in _SYSTEM else None
    return Package(name, pinned, specifier, direct, build=build, manager="conda")


def _is_pin(operator: str, version: str, build: str) -> bool:
    """`=1.26` is any 1.26; `==1.26`, `=1.26.4` and `=1.26=py311_0` are one version."""
    if operator not in ("=", "==", "===") or not version or any(sign in version for sign in "*,|<>!"):
        return False
    return operator != "=" or bool(build) or version.count(".") >= 2
