"""Files from outside, read with limits: what is too large, too deep, ambiguous or malformed is named, never guessed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

MAX_TEXT: Final = 16 * 1024 * 1024
MAX_YAML: Final = 512 * 1024
MAX_DEPTH: Final = 50
MAX_NODES: Final = 200_000

Place = tuple[str | int, ...]


class BadInput(ValueError):
    """A file that cannot be used: which one, where in it, what is wrong, and what was expected."""

    def __init__(self, file: str | Path, position: str, problem: str, expected: str) -> None:
        self.file, self.position, self.problem, self.expected = str(file), position, problem, expected
        place = f"{file}: {position}" if position else str(file)
        super().__init__(f"{place}: {problem}: expected {expected}")


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text, with the sha256 of its bytes."""

    file: str
    text: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed YAML, and the line and column of each value."""

    value: Any
    positions: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def position(self, place: Place) -> str:
        """`line 3, column 5 (.config.sha256)`, or that of the nearest value around it."""
        known = place
        while known and known not in self.positions:
            known = known[:-1]
        line, column = self.positions.get(known, (1, 1))
        return f"line {line}, column {column} ({dotted(place)})"


def dotted(place: Iterable[str | int]) -> str:
    """`.checkpoints[0].sha256`; `.` for the document itself."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place) or "."


def read_bytes(path: Path, limit: int = MAX_TEXT, name: str | None = None) -> bytes:
    """A regular file's bytes. Raises BadInput where it is none, too large, or cannot be read."""
    file = name or str(path)
    try:
        # Without O_NONBLOCK a FIFO would wait for ever for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise BadInput(file, "", "is no regular file", "a file")
            data = stream.read(limit + 1)
    except OSError as error:
        raise BadInput(file, "", error.strerror or str(error), "a file that can be read") from error
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(file, "", str(error), "a path") from error
    if len(data) > limit:
        raise BadInput(file, "", f"has more than {limit} bytes", f"at most {limit}")
    return data


def read_text(path: Path, limit: int = MAX_TEXT, name: str | None = None) -> Text:
    """A file's text in UTF-8, a byte order mark taken off."""
    file = name or str(path)
    data = read_bytes(path, limit, name)
    return Text(file, decode(file, data), hashlib.sha256(data).hexdigest())


def decode(file: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(file, f"byte {error.start}", "is not UTF-8", "text in UTF-8") from error
    if "\0" in text:
        raise BadInput(file, f"character {text.index(chr(0))}", "is a NUL", "text in UTF-8")
    return text


def inside(folder: Path, target: str, file: str, place: str) -> Path:
    """A path below a folder, links followed. Raises BadInput where it leaves it."""
    try:
        path = (folder / target).resolve()
        is_inside = path.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(file, place, f"{target!r}: {error}", "a path in the folder of the file") from error
    if not is_inside or Path(target).is_absolute():
        raise BadInput(file, place, f"{target!r} leaves the folder", "a path in the folder of the file")
    return path


def load_json(text: str, file: str) -> Any:
    """JSON in which no key comes twice and every number is finite."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise BadInput(file, f"line {error.lineno}, column {error.colno}", error.msg, "JSON") from error
    except RecursionError as error:
        raise BadInput(file, "", "is nested too deeply", "JSON that is flat enough to read") from error
    except ValueError as error:
        raise BadInput(file, "", str(error), "JSON with keys that come once and finite numbers") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:100]!r} comes twice")
        found[key] = value
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value: keys sorted, no spaces, UTF-8. Raises ValueError for what JSON cannot say."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError(f"no JSON value: {error}") from error


def load_yaml(text: str, file: str, *, as_text: bool = False) -> Document:
    """One YAML document of plain data. With `as_text` scalars stay as written: `python: 3.10` is no number."""
    if len(text) > MAX_YAML:
        raise BadInput(file, "", f"has {len(text)} characters", f"at most {MAX_YAML} of YAML")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        builder = _Builder(file, loader, as_text)
        return Document(None if node is None else builder.build(node, ()), builder.positions)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise BadInput(file, place, problem or "is malformed", "one YAML document") from error
    except yaml.YAMLError as error:
        raise BadInput(file, "", " ".join(str(error).split()), "one YAML document") from error
    except RecursionError as error:
        raise BadInput(file, "", "is nested too deeply", f"at most {MAX_DEPTH} levels") from error


_PLAIN: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "timestamp"))

_NESTED: Final = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Builder:
    """Nodes to values. Aliases are expanded and counted, so that a bomb ends at `MAX_NODES`."""

    def __init__(self, file: str, loader: yaml.SafeLoader, as_text: bool) -> None:
        self.file, self.loader, self.as_text = file, loader, as_text
        self.positions: dict[Place, tuple[int, int]] = {}
        self.nodes = 0

    def build(self, node: yaml.Node, place: Place) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(place) > MAX_DEPTH:
            raise self._bad(node, place, "is too large or too deep", f"{MAX_NODES} values in {MAX_DEPTH} levels")
        self.positions[place] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _NESTED:
            raise self._bad(node, place, f"has the tag {node.tag}", "plain data without tags")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*place, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                raise self._bad(key_node, place, "has a key that is no plain text", "names as keys")
            key = str(key_node.value)
            if key in found:
                raise self._bad(key_node, (*place, key), f"key {key[:100]!r} comes twice", "each key once")
            found[key] = self.build(value_node, (*place, key))
        return found

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        if node.tag not in _PLAIN:
            raise self._bad(node, place, f"has the tag {node.tag}", "plain data without tags")
        if self.as_text:
            return None if node.tag.endswith(":null") else str(node.value)
        try:
            return self.loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise self._bad(node, place, f"{str(node.value)[:100]!r} cannot be read", "a plain value") from error

    def _bad(self, node: yaml.Node, place: Place, problem: str, expected: str) -> BadInput:
        mark = node.start_mark
        return BadInput(
            self.file, f"line {mark.line + 1}, column {mark.column + 1} ({dotted(place)})", problem, expected
        )


def printable(text: str, limit: int = 300) -> str:
    """Text from a file, safe for a terminal or a table: no control characters, not too long."""
    clean = "".join(sign if sign.isprintable() else "�" for sign in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def cell(text: str) -> str:
    """The same, for a cell of a Markdown table."""
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
