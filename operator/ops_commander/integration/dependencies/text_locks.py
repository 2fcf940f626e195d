"""requirements.txt and `pip freeze`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ops_commander.integration.dependencies.model import Format, Lock, Package
from ops_commander.integration.dependencies.platform import Platform
from ops_commander.integration.documents import BadInput, Text, inside, read_text

MAX_FILES: Final = 20
MAX_LINE: Final = 256 * 1024
_INCLUDE: Final = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s+|=)?(.+)")
_EDITABLE: Final = re.compile(r"(?:-e|--editable)(?:\s+|=)(.+)")
_INDEX: Final = re.compile(r"(?:-i|-f|--(?:extra-)?index-url|--find-links)(?:\s+|=)(\S+)")
_IGNORED: Final = re.compile(
    r"--(?:no-index|pre|prefer-binary|require-hashes|trusted-host|no-binary|only-binary|use-feature|use-pep517)(?:[\s=].*)?"
)
_HASH: Final = re.compile(r"\s--hash[=\s]([A-Za-z0-9]+):([0-9a-fA-F]+)")
_OPTION: Final = re.compile(r"\s--(?:config-settings?|global-option|build-option)[=\s].*$")
_COMMIT: Final = re.compile(r"@([0-9a-f]{7,64})(?:#|$)")
_EGG: Final = re.compile(r"[#&]egg=([A-Za-z0-9._-]+)")
_VIA: Final = re.compile(r"#\s*(?:via\s+)?(\S.*)")
_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.]*://|\.{0,2}/)\S*|\.{1,2}")
_ASKED: Final = re.compile(r"(?:^|\s)-r\s|pyproject\.toml|setup\.(?:cfg|py)|\S\.(?:in|txt)(?:\s|$)")
_PINS: Final = ("==", "===")


@dataclass
class Found:
    """What was read so far, of one file and those that it includes."""

    platform: Platform
    packages: dict[str, Package] = field(default_factory=dict)
    constraints: dict[str, Package] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: int = 0

    def result(self) -> dict[str, Package]:
        """Packages, with the pins of constraints where they have none."""
        found = {}
        for name, package in self.packages.items():
            pin = self.constraints.get(name)
            found[name] = package if pin is None or package.version else replace(pin, direct=package.direct)
        return found


def read_requirements(text: Text, platform: Platform, folder: Path | None) -> Lock:
    """`-r` and `-c` are followed within `folder`, and nowhere else."""
    found = Found(platform)
    read_lines(found, text.text, text.file, folder)
    packages = found.result()
    return Lock(text.file, text.sha256, Format.REQUIREMENTS, packages, notes=tuple(found.notes))


def read_lines(found: Found, text: str, file: str, folder: Path | None, *, constraint: bool = False) -> None:
    for number, line, via in _logical_lines(text):
        place = f"line {number}"
        if len(line) > MAX_LINE:
            raise BadInput(file, place, f"has {len(line)} characters", f"at most {MAX_LINE}")
        if include := _INCLUDE.fullmatch(line):
            is_constraint = line.startswith(("-c", "--constraint"))
            _include(found, file, place, include[1].strip(), folder, constraint or is_constraint)
        else:
            read_line(found, file, place, line, via, constraint=constraint)


def _logical_lines(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Lines joined at `\\`, without comments; with the comments of the line and of those below it (`# via …`)."""
    parts: list[str] = []
    held: tuple[int, str, list[str]] | None = None
    start = 1
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start if parts else number
        body, comment = _split_comment(raw)
        if held and comment and (not body or parts):
            held[2].append(comment)
        if body.endswith("\\"):
            parts.append(body[:-1].strip())
            continue
        line = " ".join([*parts, body]).strip()
        parts = []
        if line:
            if held:
                yield held
            held = (start, line, [comment] if comment else [])
    if held:
        yield held
    if line := " ".join(parts).strip():
        yield start, line, []


def _split_comment(raw: str) -> tuple[str, str]:
    found = re.search(r"(?:^|\s)#", raw)
    return (raw[: found.start()].strip(), raw[found.start() :].strip()) if found else (raw.strip(), "")


def _include(found: Found, file: str, place: str, target: str, folder: Path | None, constraint: bool) -> None:
    found.files += 1
    if folder is None or found.files > MAX_FILES:
        raise BadInput(file, place, f"includes {target}", f"at most {MAX_FILES} files, in the folder of the lock")
    path = inside(folder, target, file, place)
    text = read_text(path, name=f"{file} → {target}")
    read_lines(found, text.text, text.file, folder, constraint=constraint)


def read_line(found: Found, file: str, place: str, line: str, via: list[str], *, constraint: bool = False) -> None:
    if index := _INDEX.fullmatch(line):
        note = "an index or folder of packages is named: versions may come from elsewhere than in production"
        found.notes += [note] if note not in found.notes and index else []
        return
    if _IGNORED.fullmatch(line):
        return
    package = _package(found.platform, file, place, line, via)
    if package is None:
        return
    known = found.constraints if constraint else found.packages
    known[package.name] = _joined(known.get(package.name), package, file, place)


def _joined(known: Package | None, package: Package, file: str, place: str) -> Package:
    if known is None or known.version is None:
        return package
    if package.version is None:
        return known
    if (known.parsed or known.version) != (package.parsed or package.version):
        problem = f"{package.name} is {known.version} and {package.version}"
        raise BadInput(file, place, problem, "one version of a package")
    return known


def _package(platform: Platform, file: str, place: str, line: str, via: list[str]) -> Package | None:
    hashes = frozenset(f"{name.lower()}:{value.lower()}" for name, value in _HASH.findall(line))
    bare = _OPTION.sub("", _HASH.sub("", line)).strip()
    direct = _direct(via)
    if editable := _EDITABLE.fullmatch(bare):
        if editable[1].strip() in (".", "./"):
            return None
        return _from_url(file, place, editable[1].strip(), direct)
    if _URL.fullmatch(bare):
        return _from_url(file, place, bare, direct)
    try:
        requirement = Requirement(bare)
    except ValueError as error:
        problem = f"{bare[:100]!r} is no requirement ({str(error).splitlines()[0]})"
        raise BadInput(file, place, problem, "a form such as numpy==1.26.4") from error
    if not platform.holds(requirement.marker):
        return None
    name = canonicalize_name(requirement.name)
    if requirement.url:
        return replace(
            _from_url(file, place, requirement.url, direct, name), hashes=hashes or _hash_of(requirement.url)
        )
    return Package(name, pin_of(requirement.specifier), str(requirement.specifier), direct, hashes=hashes)


def pin_of(specifier: SpecifierSet) -> str | None:
    """The version of `==1.2.3`; None for ranges and `==1.2.*`."""
    for each in specifier:
        if each.operator in _PINS and not each.version.endswith(".*"):
            return each.version
    return None


def _direct(via: list[str]) -> bool | None:
    """pip-compile and uv say where a package comes from: `# via -r requirements.in` or `# via pandas`."""
    text = " ".join(found[1] for comment in via if (found := _VIA.match(comment)))
    if not any("via" in comment for comment in via):
        return None
    return _ASKED.search(text) is not None


def _from_url(file: str, place: str, url: str, direct: bool | None, name: str = "") -> Package:
    url = url.strip().strip("'\"")
    archive = url.split("#")[0].split("?")[0].rsplit("/", 1)[-1].replace("%2B", "+").replace("%2b", "+")
    version = None
    if archive.endswith(".whl") and archive.count("-") >= 4:
        wheel_name, wheel_version = archive.split("-")[:2]
        name, version = name or canonicalize_name(wheel_name), _version(wheel_version)
    if not name and (egg := _EGG.search(url)):
        name = canonicalize_name(egg[1])
    if not name and "://" not in url:
        name = canonicalize_name(url.rstrip("/").rsplit("/", 1)[-1])
    if not name.strip(".-"):
        raise BadInput(file, place, f"{url[:100]!r} names no package", "a form such as name @ url, or url#egg=name")
    commit = _COMMIT.search(url) if "git+" in url else None
    source = url.split("#")[0] if commit or "git+" not in url else url
    return Package(name, version, "", direct, source=_without_credentials(source), hashes=_hash_of(url))


def _without_credentials(url: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://", url)


def _hash_of(url: str) -> frozenset[str]:
    found = re.search(r"[#&](sha256|sha384|sha512)=([0-9a-fA-F]+)", url)
    return frozenset([f"{found[1]}:{found[2].lower()}"]) if found else frozenset()


def _version(text: str) -> str | None:
    try:
        return str(Version(text))
    except ValueError:
        return None
