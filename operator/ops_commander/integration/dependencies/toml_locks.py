"""uv.lock and pylock.toml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.pylock import Package as PylockPackage
from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import canonicalize_name

from ops_commander.integration.dependencies.model import Format, Interpreter, Lock, Package, Wheel
from ops_commander.integration.dependencies.platform import Platform
from ops_commander.integration.documents import BadInput, Text

_OWN: Final = ("virtual", "editable", "directory")
Table = Mapping[str, Any]


def read_uv_lock(text: Text, data: Table, platform: Platform) -> Lock:
    """What `uv sync` installs without extras and groups: all that the project's own members reach here."""
    graph = _UvGraph(text.file, data, platform)
    packages, notes = graph.reached()
    python = Interpreter(specifier=str(data.get("requires-python", "")))
    return Lock(text.file, text.sha256, Format.UV_LOCK, packages, python, complete=True, notes=tuple(notes))


class _UvGraph:
    """Packages by name; several of one name where the lock forks by platform."""

    def __init__(self, file: str, data: Table, platform: Platform) -> None:
        self.file, self.platform = file, platform
        self.tables: dict[str, list[tuple[int, Table]]] = {}
        for index, table in enumerate(_list(file, "package", data.get("package", []))):
            name = _text(file, f"package[{index}].name", table.get("name"))
            self.tables.setdefault(canonicalize_name(name), []).append((index, table))
        members = _table(file, "manifest", data.get("manifest", {})).get("members", [])
        self.members = {canonicalize_name(str(name)) for name in members} if isinstance(members, list) else set()

    def reached(self) -> tuple[dict[str, Package], list[str]]:
        roots = [entry for entries in self.tables.values() for entry in entries if self._is_root(entry[1])]
        if not roots:
            return self._all(), ["the lock names no project: which packages are direct is not known"]
        own = {canonicalize_name(str(table["name"])) for _, table in roots}
        found: dict[str, Package] = {}
        direct = {name for _, table in roots for name in self._names(table.get("dependencies"))}
        queue = [(entry, "") for entry in roots]
        seen: set[tuple[int, str]] = set()
        while queue:
            (index, table), extra = queue.pop()
            if (index, extra) in seen:
                continue
            seen.add((index, extra))
            name = canonicalize_name(str(table["name"]))
            if name not in own:
                self._add(found, index, self._package(index, table, name in direct))
            queue += self._next(index, table, extra)
        return found, self._left_out(roots)

    def _is_root(self, table: Table) -> bool:
        source = table.get("source")
        is_own = isinstance(source, dict) and any(source.get(kind) == "." for kind in _OWN)
        return is_own or canonicalize_name(str(table["name"])) in self.members

    def _all(self) -> dict[str, Package]:
        found: dict[str, Package] = {}
        for entries in self.tables.values():
            for index, table in entries:
                if self._holds_here(index, table):
                    self._add(found, index, self._package(index, table, None))
        return found

    def _add(self, found: dict[str, Package], index: int, package: Package) -> None:
        other = found.setdefault(package.name, package)
        if other.version != package.version:
            problem = f"{package.name} is {other.version} and {package.version} on {self.platform}"
            raise BadInput(self.file, f"package[{index}]", problem, "one version")

    def _holds_here(self, index: int, table: Table) -> bool:
        markers = table.get("resolution-markers") or []
        place = f"package[{index}].resolution-markers"
        found = [marker(self.file, place, text) for text in _texts(self.file, place, markers)]
        return not found or any(self.platform.holds(each) for each in found)

    def _names(self, dependencies: Any) -> Iterator[str]:
        for entry in dependencies if isinstance(dependencies, list) else []:
            if isinstance(entry, dict):
                yield canonicalize_name(str(entry.get("name", "")))

    def _next(self, index: int, table: Table, extra: str) -> Iterator[tuple[tuple[int, Table], str]]:
        place = f"package[{index}].dependencies"
        if extra:
            place = f"package[{index}].optional-dependencies.{extra}"
            optional = _table(
                self.file, f"package[{index}].optional-dependencies", table.get("optional-dependencies", {})
            )
            wanted = optional.get(extra, [])
        else:
            wanted = table.get("dependencies", [])
        for entry in _list(self.file, place, wanted):
            if not self.platform.holds(marker(self.file, place, entry.get("marker"))):
                continue
            target = self._target(place, entry)
            yield target, ""
            for name in _texts(self.file, place, entry.get("extra", [])):
                yield target, name

    def _target(self, place: str, entry: Table) -> tuple[int, Table]:
        name = canonicalize_name(_text(self.file, place, entry.get("name")))
        entries = self.tables.get(name, [])
        if "version" in entry:
            entries = [each for each in entries if each[1].get("version") == entry["version"]]
        if len(entries) > 1:
            entries = [each for each in entries if self._holds_here(*each)] or entries
        if not entries:
            raise BadInput(self.file, place, f"{name} {entry.get('version', '')} is no package of it", "a whole lock")
        return entries[0]

    def _package(self, index: int, table: Table, direct: bool | None) -> Package:
        place = f"package[{index}]"
        source = _table(self.file, f"{place}.source", table.get("source", {}))
        version = table.get("version")
        return Package(
            name=canonicalize_name(str(table["name"])),
            version=None if version is None else _text(self.file, f"{place}.version", version),
            direct=direct,
            source=_uv_source(source),
            files=tuple(self._files(place, table)),
            hashes=frozenset(_hash_texts(table.get("sdist"))) if "url" in source or "path" in source else frozenset(),
        )

    def _files(self, place: str, table: Table) -> Iterator[Wheel]:
        entries = list(_list(self.file, f"{place}.wheels", table.get("wheels", [])))
        if isinstance(table.get("sdist"), dict):
            entries.append(table["sdist"])
        for entry in entries:
            url = str(entry.get("filename") or entry.get("url") or entry.get("path") or "")
            algorithm, _, value = str(entry.get("hash", "")).partition(":")
            yield Wheel(_file_name(url), {algorithm: value.lower()} if value else {})

    def _left_out(self, roots: list[tuple[int, Table]]) -> list[str]:
        extras = sorted({name for _, table in roots for name in table.get("optional-dependencies", {})})
        groups = sorted({name for _, table in roots for name in table.get("dev-dependencies", {})})
        notes = [f"extra {name} is not compared" for name in extras]
        return notes + [f"group {name} is not compared" for name in groups]


def _hash_texts(sdist: Any) -> Iterator[str]:
    if isinstance(sdist, dict) and isinstance(sdist.get("hash"), str):
        yield sdist["hash"].lower()


def _uv_source(source: Table) -> str:
    for kind in ("git", "url", "path", *_OWN):
        if kind in source:
            return f"{kind}+{source[kind]}"
    return ""


def read_pylock(text: Text, data: Table, platform: Platform) -> Lock:
    """What PEP 751 installs here without extras and groups other than the default ones."""
    try:
        lock = Pylock.from_dict(data)
    except PylockUnsupportedVersionError as error:
        raise BadInput(text.file, "lock-version", str(error), "1.x") from error
    except PylockValidationError as error:
        raise BadInput(text.file, "", str(error), "a lock as of PEP 751") from error
    packages: dict[str, Package] = {}
    for index, entry in enumerate(lock.packages):
        if not _holds(entry.marker, platform, lock.default_groups or ()):
            continue
        package = _pylock_package(entry)
        if packages.setdefault(package.name, package).version != package.version:
            problem = f"{package.name} comes twice on {platform}"
            raise BadInput(text.file, f"packages[{index}]", problem, "one version")
    notes = [f"extra {name} is not compared" for name in lock.extras or ()]
    python = Interpreter(specifier=str(lock.requires_python or ""))
    return Lock(text.file, text.sha256, Format.PYLOCK, packages, python, complete=True, notes=tuple(notes))


def _holds(marker: Marker | None, platform: Platform, groups: Any) -> bool:
    if marker is None:
        return True
    environment: dict[str, Any] = {**platform.environment(), "extras": frozenset(), "dependency_groups": set(groups)}
    try:
        return bool(marker.evaluate(environment, context="lock_file"))
    except (UndefinedComparison, UndefinedEnvironmentName, ValueError):
        return True


def _pylock_package(entry: PylockPackage) -> Package:
    files = [Wheel(file.name or _file_name(file.url or file.path or ""), file.hashes) for file in entry.wheels or ()]
    if entry.sdist:
        files.append(
            Wheel(entry.sdist.name or _file_name(entry.sdist.url or entry.sdist.path or ""), entry.sdist.hashes)
        )
    source, hashes = "", frozenset[str]()
    if entry.vcs:
        source = f"{entry.vcs.type}+{entry.vcs.url or entry.vcs.path}@{entry.vcs.commit_id}"
    elif entry.directory:
        source = f"directory+{entry.directory.path}"
    elif entry.archive:
        source = f"url+{entry.archive.url or entry.archive.path}"
        hashes = frozenset(f"{name}:{value.lower()}" for name, value in entry.archive.hashes.items())
    version = None if entry.version is None else str(entry.version)
    return Package(str(entry.name), version, source=source, files=tuple(files), hashes=hashes)


def _file_name(url: str) -> str:
    return url.split("#")[0].split("?")[0].rsplit("/", 1)[-1].replace("%2B", "+").replace("%2b", "+")


def marker(file: str, place: str, text: Any) -> Marker | None:
    if text is None or text == "":
        return None
    try:
        return Marker(_text(file, place, text))
    except InvalidMarker as error:
        raise BadInput(file, place, f"{text!r} is no marker", "a marker as of PEP 508") from error


def _text(file: str, place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadInput(file, place, f"is {type(value).__name__}", "a text")
    return value


def _texts(file: str, place: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise BadInput(file, place, f"is {type(value).__name__}", "a list of texts")
    return [_text(file, place, each) for each in value]


def _table(file: str, place: str, value: Any) -> Table:
    if not isinstance(value, dict):
        raise BadInput(file, place, f"is {type(value).__name__}", "a table")
    return value


def _list(file: str, place: str, value: Any) -> list[Table]:
    if not isinstance(value, list):
        raise BadInput(file, place, f"is {type(value).__name__}", "a list of tables")
    return [_table(file, f"{place}[{index}]", each) for index, each in enumerate(value)]
