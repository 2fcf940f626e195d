"""Tensors of the Open Inference Protocol v2: as JSON, and with the binary extension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BINARY_HEADER: Final = "inference-header-content-length"
MOST_TENSORS: Final = 256
MOST_DIMENSIONS: Final = 32

_DTYPES: Final = {
    "BOOL": "?",
    **{f"{sign}INT{8 * size}": f"<{letter}{size}" for sign, letter in (("", "i"), ("U", "u")) for size in (1, 2, 4, 8)},
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
FLOATS: Final = {"FP64": 53, "FP32": 24, "FP16": 11, "BF16": 8}
"""Bits of significand."""


class Malformed(ValueError):
    """A tensor that is not what it says of itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | list[Any]
    """Flat. A list where they are texts, or not all what the datatype says."""
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Tensors:
    """The outputs of an answer."""

    by_name: Mapping[str, Tensor]
    """In their order."""


def with_tensors(tree: Any, tail: bytes) -> Any:
    """The tree with its outputs as tensors, if it is an answer of the protocol. Raises Malformed."""
    outputs = tree.get("outputs") if isinstance(tree, dict) else None
    if not isinstance(outputs, list) or not outputs or not all(map(_is_tensor, outputs)):
        if tail:
            raise Malformed(f"{len(tail)} bytes of tensors, and no outputs that they belong to")
        return tree
    if len(outputs) > MOST_TENSORS:
        raise Malformed(f"{len(outputs)} outputs: expected at most {MOST_TENSORS}")
    found: dict[str, Tensor] = {}
    rest = memoryview(tail)
    for output in outputs:
        if output["name"] in found:
            raise Malformed("two outputs have the same name")
        found[output["name"]], rest = _tensor(output, rest)
    if rest:
        raise Malformed(f"{len(rest)} bytes more than the tensors have")
    return {**tree, "outputs": Tensors(found)}


def _is_tensor(output: Any) -> bool:
    return (
        isinstance(output, dict)
        and isinstance(output.get("name"), str)
        and isinstance(output.get("datatype"), str)
        and isinstance(output.get("shape"), list)
        and ("data" in output or _binary_size(output) is not None)
    )


def _binary_size(output: Mapping[str, Any]) -> int | None:
    parameters = output.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None


def _tensor(output: Mapping[str, Any], rest: memoryview) -> tuple[Tensor, memoryview]:
    shape = output["shape"]
    if len(shape) > MOST_DIMENSIONS or not all(type(size) is int and size >= 0 for size in shape):
        raise Malformed("the shape of an output is no list of sizes")
    datatype, size = output["datatype"].upper(), _binary_size(output)
    parameters = {key: value for key, value in (output.get("parameters") or {}).items() if key != "binary_data_size"}
    if "data" in output:
        return Tensor(datatype, tuple(shape), _from_json(datatype, output["data"]), parameters), rest
    assert size is not None
    if size > len(rest):
        raise Malformed(f"an output has {size} bytes, and {len(rest)} are left")
    values = _from_bytes(datatype, rest[:size], math.prod(shape))
    return Tensor(datatype, tuple(shape), values, parameters), rest[size:]


def _from_json(datatype: str, data: Any) -> NDArray[Any] | list[Any]:
    flat = data if isinstance(data, list) else [data]
    for _ in range(MOST_DIMENSIONS):
        if not any(isinstance(each, list) for each in flat):
            break
        flat = [value for each in flat for value in (each if isinstance(each, list) else (each,))]
    if datatype in FLOATS and set(map(type, flat)) <= {int, float}:
        try:
            return np.array(flat, dtype=np.float64)
        except OverflowError:
            return flat
    return flat


def _from_bytes(datatype: str, raw: memoryview, count: int) -> NDArray[Any] | list[Any]:
    if datatype == "BYTES":
        return _texts(raw, count)
    if datatype == "BF16":
        _check_size(len(raw), 2 * count)
        return (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    if datatype not in _DTYPES:
        raise Malformed("the datatype of a binary output is unknown")
    dtype = np.dtype(_DTYPES[datatype])
    _check_size(len(raw), dtype.itemsize * count)
    return np.frombuffer(raw, dtype=dtype)


def _check_size(has: int, expected: int) -> None:
    if has != expected:
        raise Malformed(f"an output has {has} bytes: its shape and datatype make {expected}")


def _texts(raw: memoryview, count: int) -> list[Any]:
    """Each with its length before it. What is no UTF-8 stays bytes."""
    found: list[Any] = []
    place = 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "little")
        place += 4
        if place + length > len(raw):
            raise Malformed("a text of an output is longer than the output")
        each = bytes(raw[place : place + length])
        place += length
        try:
            found.append(each.decode("utf-8"))
        except UnicodeDecodeError:
            found.append(each)
    if len(found) != count:
        raise Malformed(f"an output has {len(found)} texts: its shape makes {count}")
    return found
