"""Short ways to schemas and changes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ops_commander.integration.schema import ApiSchema, Change, Direction, Field, SchemaError, diff, read

DATA = Path(__file__).parents[3] / "data" / "schema_diff"


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def decoded(name: str) -> bytes:
    """A binary file that is kept as base64."""
    return base64.b64decode((DATA / name).read_bytes())


def api(
    inputs: list[dict[str, Any]] | None = None, outputs: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    return {"inputs": inputs or [], "outputs": outputs or [], **more}


def item(name: str = "x", dtype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, **more}


def between(before: Any, after: Any, direction: Direction | None = None) -> tuple[Change, ...]:
    """Changes between two documents, or files of any format."""
    old, new = (each if isinstance(each, bytes) else encode(each) for each in (before, after))
    return diff(read(old, direction=direction), read(new, direction=direction))


def weights(changes: tuple[Change, ...]) -> set[tuple[str, str, str, float]]:
    return {(each.direction.value, each.path, each.kind.value, each.severity) for each in changes}


def seen(changes: tuple[Change, ...], direction: Direction) -> set[tuple[str, float]]:
    """Kinds and severities of one direction."""
    return {(each.kind.value, each.severity) for each in changes if each.direction is direction}


def fields(schema: ApiSchema, direction: Direction) -> dict[str, Field]:
    return {each.path: each for each in schema.side(direction).fields}


def refused(data: bytes, **options: Any) -> SchemaError:
    with pytest.raises(SchemaError) as caught:
        read(data, **options)
    assert caught.value.problem and caught.value.expected
    return caught.value
