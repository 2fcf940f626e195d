"""The platform that locks are read for; not the one that this runs on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName, default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

_FORM: Final = re.compile(r"(linux|darwin|windows)-([a-z0-9_]{1,20})-cp(\d)(\d{1,2})")
_SYSTEMS: Final = {
    "linux": ("Linux", "linux", "posix"),
    "darwin": ("Darwin", "darwin", "posix"),
    "windows": ("Windows", "win32", "nt"),
}
# Of glibc 2.39 at most; older ones are taken as well.
_GLIBC: Final = 39


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, processor, and version of CPython."""

    system: str = "linux"
    machine: str = "x86_64"
    python: tuple[int, int] = (3, 11)

    def __str__(self) -> str:
        return f"{self.system}-{self.machine}-cp{self.python[0]}{self.python[1]}"

    @property
    def python_text(self) -> str:
        return f"{self.python[0]}.{self.python[1]}"

    def holds(self, marker: Marker | None, extra: str = "") -> bool:
        """Whether a marker is true here. One that cannot be evaluated counts as true: then it is compared."""
        if marker is None:
            return True
        try:
            return marker.evaluate({**self.environment(), "extra": extra})
        except (UndefinedComparison, UndefinedEnvironmentName, ValueError):
            return True

    def environment(self) -> dict[str, str]:
        named, platform, os_name = _SYSTEMS[self.system]
        machine = {"windows": {"x86_64": "AMD64"}}.get(self.system, {}).get(self.machine, self.machine)
        return {
            **dict.fromkeys(default_environment(), ""),
            "implementation_name": "cpython",
            "implementation_version": f"{self.python_text}.0",
            "os_name": os_name,
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_system": named,
            "python_full_version": f"{self.python_text}.0",
            "python_version": self.python_text,
            "sys_platform": platform,
        }

    def takes(self, file: str) -> bool:
        """Whether a wheel of that name can be installed here; source archives can everywhere."""
        if not file.endswith(".whl"):
            return True
        try:
            tags = parse_wheel_filename(file)[3]
        except (InvalidWheelFilename, ValueError):
            return False
        return not tags.isdisjoint(_tags(self))


def parse_platform(text: str) -> Platform:
    """`linux-x86_64-cp311`. Raises ValueError naming what was expected."""
    if found := _FORM.fullmatch(text):
        return Platform(found[1], found[2], (int(found[3]), int(found[4])))
    raise ValueError(f"{text!r} is not a platform: expected a form such as linux-x86_64-cp311")


_CACHE: dict[Platform, frozenset[Tag]] = {}


def _tags(platform: Platform) -> frozenset[Tag]:
    if platform not in _CACHE:
        names = list(_platform_names(platform))
        own = cpython_tags(platform.python, platforms=names)
        common = compatible_tags(platform.python, f"cp{platform.python[0]}{platform.python[1]}", names)
        _CACHE[platform] = frozenset([*own, *common])
    return _CACHE[platform]


def _platform_names(platform: Platform) -> Iterator[str]:
    machine = platform.machine
    if platform.system == "windows":
        yield {"x86_64": "win_amd64", "arm64": "win_arm64"}.get(machine, "win32")
    elif platform.system == "darwin":
        for major in range(10, 16):
            for minor in range(17 if major == 10 else 1):
                yield f"macosx_{major}_{minor}_{machine}"
                yield f"macosx_{major}_{minor}_universal2"
    else:
        for minor in range(_GLIBC, 4, -1):
            yield f"manylinux_2_{minor}_{machine}"
        yield from (f"manylinux{old}_{machine}" for old in ("2014", "2010", "1"))
        yield f"linux_{machine}"
