"""Answers as servers give them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ops_commander.api.comparison import Comparison
from ops_commander.integration.outputs.answers import Answer, NoAnswer
from ops_commander.integration.outputs.compare import compare
from ops_commander.integration.outputs.findings import Compared, Kind, Skipped
from ops_commander.integration.outputs.rules import Rules

JSON = "application/json"


def answer(value: Any, content_type: str = JSON, status: int = 200) -> Answer:
    """JSON of a value; bytes as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Answer(status, {"content-type": content_type}, body)


def tensor_json(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}


def binary(*outputs: tuple[str, str, list[int], bytes], **more: Any) -> Answer:
    """Name, datatype, shape and raw bytes of each."""
    told = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
        for name, datatype, shape, raw in outputs
    ]
    head = json.dumps({"model_name": "ranker", "outputs": told, **more}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return Answer(200, headers, head + b"".join(raw for *_, raw in outputs))


def raw(values: Any, dtype: str) -> bytes:
    return np.asarray(values, dtype=dtype).tobytes()


def texts(*values: bytes) -> bytes:
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def outcome(stable: Any, candidate: Any, **comparison: Any) -> Compared | Skipped:
    """Of two answers, or of two values as JSON."""
    sides = [each if isinstance(each, Answer | NoAnswer) else answer(each) for each in (stable, candidate)]
    return compare(sides[0], sides[1], Rules(Comparison(**comparison)))


def compared(stable: Any, candidate: Any, **comparison: Any) -> Compared:
    found = outcome(stable, candidate, **comparison)
    assert isinstance(found, Compared), found
    return found


def skipped(stable: Any, candidate: Any, **comparison: Any) -> str:
    found = outcome(stable, candidate, **comparison)
    assert isinstance(found, Skipped), found
    return found.reason


def found(stable: Any, candidate: Any, **comparison: Any) -> tuple[float, set[Kind]]:
    """Deviation and kinds."""
    each = compared(stable, candidate, **comparison)
    return each.deviation, set(each.kinds)
