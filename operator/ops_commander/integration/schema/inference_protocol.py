"""Model metadata of the Open Inference Protocol v2, as `GET v2/models/<name>` gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ops_commander.integration.schema.dtypes import canonical_dtype
from ops_commander.integration.schema.model import DYNAMIC, ApiSchema, Field, Json, SchemaError, Shape, Typing, side

FORMAT: Final = "oip-v2"


def read(document: Mapping[str, Json]) -> ApiSchema:
    """Tensors of inputs and outputs. Raises SchemaError with the JSON pointer of the first fault."""
    return ApiSchema(
        FORMAT,
        side(_tensors(document.get("inputs", []), "/inputs"), ordered=True),
        side(_tensors(document.get("outputs", []), "/outputs"), ordered=True),
    )


def _tensors(items: Json, where: str) -> Iterator[Field]:
    if not isinstance(items, list):
        raise SchemaError("not a list", "a list of tensors, each with name, datatype and shape", where)
    for index, item in enumerate(items):
        yield tensor(item, f"{where}/{index}", "datatype")


def tensor(item: Json, where: str, dtype_key: str) -> Field:
    """One tensor by its name, type and shape."""
    if not isinstance(item, dict):
        raise SchemaError("not a mapping", f"a tensor with name, {dtype_key} and shape", where)
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise SchemaError("no name", "text that is not empty", f"{where}/name")
    return Field(
        path=name,
        types=(dtype(item.get(dtype_key), f"{where}/{dtype_key}"),),
        shape=shape(item.get("shape"), f"{where}/shape"),
        required=True,
        typing=Typing.EXACT,
    )


def dtype(value: Json, where: str) -> str:
    found = canonical_dtype(value) if isinstance(value, str) else None
    if found is None:
        raise SchemaError(f"{str(value)[:60]!r} is no data type", "BOOL, INT64, FP32, BYTES or the like", where)
    return found


def shape(value: Json, where: str) -> Shape:
    if not isinstance(value, list):
        raise SchemaError("not a list", "the length of each dimension, -1 for any", where)
    lengths: list[int] = []
    for index, length in enumerate(value):
        # KServe's servers write lengths as text where they come from protobuf's int64.
        number = int(length) if isinstance(length, str) and length.lstrip("-").isdecimal() else length
        if not isinstance(number, int) or isinstance(number, bool) or number < DYNAMIC:
            raise SchemaError(f"{str(length)[:40]!r} is no length", "0 or more, or -1 for any", f"{where}/{index}")
        lengths.append(number)
    return tuple(lengths)
