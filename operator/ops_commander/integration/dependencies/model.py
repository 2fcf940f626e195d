"""What a lock says, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from packaging.version import Version


class Format(StrEnum):
    """Formats that are told apart by content."""

    UV_LOCK = "uv.lock"
    PYLOCK = "pylock.toml"
    REQUIREMENTS = "requirements.txt"
    PIP_INSPECT = "pip inspect"
    CONDA = "conda.yaml"
    PYTHON_ENV = "python_env.yaml"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file that may be installed: its name and hashes by algorithm."""

    file: str
    hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Package:
    """One package for one platform."""

    name: str
    """Normalised (PEP 503)."""
    version: str | None = None
    """None where the lock does not pin it."""
    specifier: str = ""
    """What the lock says instead of a version."""
    direct: bool | None = None
    """Whether the project asks for it by itself; None where the lock does not say."""
    source: str = ""
    """Other than a registry: `git+…@commit`, `path`, an URL."""
    files: tuple[Wheel, ...] = ()
    """Files with names; for locks that name them."""
    hashes: frozenset[str] = frozenset()
    """`sha256:…` of any file of it; for locks that do not say of which."""
    build: str = ""
    """Build of a conda package."""
    requires: tuple[str, ...] = ()
    """Requirements of its own metadata; for `pip inspect`."""
    manager: str = "pip"

    @property
    def parsed(self) -> Version | None:
        try:
            return Version(self.version) if self.version else None
        except ValueError:  # InvalidVersion, or more digits than Python takes
            return None

    @property
    def local(self) -> str:
        """The part behind `+`, as `cu121`."""
        return (self.parsed.local or "") if self.parsed else ""

    @property
    def said(self) -> str:
        """As a person writes it."""
        text = self.version or self.specifier or "any version"
        return f"{text} ({self.source})" if self.source else text


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Of Python, as far as the lock says."""

    version: str | None = None
    specifier: str = ""
    machine: str = ""
    system: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock, narrowed to one platform."""

    file: str
    sha256: str
    format: Format
    packages: Mapping[str, Package]
    python: Interpreter = field(default_factory=Interpreter)
    complete: bool = False
    """Whether it names all that is installed, and not only what was asked for."""
    notes: tuple[str, ...] = ()
