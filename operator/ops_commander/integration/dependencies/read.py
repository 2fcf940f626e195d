"""Any lock, told by what it holds and not by its name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ops_commander.integration.dependencies.json_locks import read_inspect
from ops_commander.integration.dependencies.model import Lock
from ops_commander.integration.dependencies.platform import Platform
from ops_commander.integration.dependencies.text_locks import read_requirements
from ops_commander.integration.dependencies.toml_locks import read_pylock, read_uv_lock
from ops_commander.integration.dependencies.yaml_locks import read_conda, read_python_env
from ops_commander.integration.documents import BadInput, Text, load_json, read_text

EXPECTED: Final = "uv.lock, pylock.toml, requirements.txt, pip inspect JSON, conda.yaml or python_env.yaml"
_TOML: Final = re.compile(r"^(?:\[\[?[\w.\-]+\]\]?|[\w-]+ = (?:[\"'\[{0-9]|true|false))", re.MULTILINE)
_YAML: Final = re.compile(r"^(?:name|channels|dependencies|python|build_dependencies|prefix)\s*:", re.MULTILINE)


def read_lock(path: Path, platform: Platform, name: str | None = None) -> Lock:
    """A lock for one platform; `name` is what messages call it. Raises BadInput."""
    return parse_lock(read_text(path, name=name), platform, path.parent)


def parse_lock(text: Text, platform: Platform, folder: Path | None = None) -> Lock:
    """As `read_lock`, of text; what it includes is read in `folder`, or refused where there is none."""
    lock = _parsed(text, platform, folder)
    if not lock.packages and lock.python.version is None:
        raise BadInput(text.file, "", "names no package", EXPECTED)
    return lock


def _parsed(text: Text, platform: Platform, folder: Path | None) -> Lock:
    if text.text.lstrip().startswith(("{", "[{")):
        return _json(text)
    if _TOML.search(text.text):
        return _toml(text, platform)
    if _YAML.search(text.text):
        return _yaml(text, platform, folder)
    return read_requirements(text, platform, folder)


def _json(text: Text) -> Lock:
    data = load_json(text.text, text.file)
    if not isinstance(data, dict) or not ("installed" in data or "install" in data):
        raise BadInput(text.file, "", "is JSON without `installed`", EXPECTED)
    return read_inspect(text, data)


def _toml(text: Text, platform: Platform) -> Lock:
    data = _loaded(text)
    if "lock-version" in data:
        return read_pylock(text, data, platform)
    if isinstance(data.get("version"), int) and ("package" in data or "requires-python" in data):
        return read_uv_lock(text, data, platform)
    raise BadInput(text.file, "", f"is TOML with {', '.join(sorted(data))[:200]}", EXPECTED)


def _loaded(text: Text) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text.text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
        problem = re.sub(r" \(at .*\)$", "", str(error))
        raise BadInput(text.file, place[1] if place else "", problem, "TOML") from error
    except (RecursionError, ValueError) as error:
        raise BadInput(text.file, "", str(error), "TOML") from error


def _yaml(text: Text, platform: Platform, folder: Path | None) -> Lock:
    is_env = re.search(r"^(?:python|build_dependencies)\s*:", text.text, re.MULTILINE) is not None
    return read_python_env(text, platform, folder) if is_env else read_conda(text, platform, folder)
