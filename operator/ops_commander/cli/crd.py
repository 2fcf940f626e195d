"""Writes what is generated from the API models: CRDs, editor schemas and the reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from ops_commander.api import reference, schema
from ops_commander.api.v1alpha1 import GROUP

_HEADER = "# Generated from operator/ops_commander/api by `ops-commander crd`; do not edit.\n"


def generate(root: Path, check: bool) -> int:
    """Write the generated files under `root`, or name on stderr those that have drifted; 1 if any has."""
    files = contents()
    drifted = [path for path, text in files.items() if _read(root / path) != text]
    drifted += [path for path in _committed(root) if path not in files]
    if check:
        for path in drifted:
            print(f"{path}: not as generated; run `ops-commander crd`", file=sys.stderr)
        return 1 if drifted else 0
    for path in drifted:
        target = root / path
        if path in files:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(files[path], encoding="utf-8")
        else:
            target.unlink()
        print(path)
    return 0


def contents() -> dict[str, str]:
    """Every generated file by its path below the root of the repository."""
    files = {f"crds/{GROUP}_{kind.plural}.yaml": _HEADER + _yaml(schema.manifest(kind)) for kind in schema.KINDS}
    files["docs/api-reference.md"] = reference.markdown()
    files |= {f"docs/schemas/{name}": text for name, text in reference.json_schemas().items()}
    return files


def _committed(root: Path) -> list[str]:
    """Files in the folders that hold nothing but what is generated."""
    found = [*root.glob("crds/*.yaml"), *root.glob("docs/schemas/*.json")]
    return sorted(path.relative_to(root).as_posix() for path in found)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


class _Dumper(yaml.SafeDumper):
    """Writes shared nodes out in full: anchors are valid YAML, but nobody reads them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
