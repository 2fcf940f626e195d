"""MLflow model signatures: an `MLmodel` file, or the signature alone. Columns, tensors, nested types and params."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ops_commander.integration.schema.dtypes import canonical_dtype
from ops_commander.integration.schema.inference_protocol import dtype, shape
from ops_commander.integration.schema.jsontext import load_json
from ops_commander.integration.schema.model import (
    DYNAMIC,
    MAX_LEVELS,
    ApiSchema,
    Field,
    Json,
    SchemaError,
    Typing,
    canonical,
    side,
    step,
)

FORMAT: Final = "mlflow"
_COLUMN: Final = "a column with type and name, or a tensor"


def read(document: Mapping[str, Json]) -> ApiSchema:
    """Inputs, outputs and params. Raises SchemaError with the place of the first fault."""
    base = ""
    if "signature" in document:
        base = "/signature"
        signature = document["signature"]
        if not isinstance(signature, dict):
            raise SchemaError("no signature", "a model that was logged with a signature", base)
        document = signature
    inputs = [*_columns(document, "inputs", base), *_params(document, base)]
    return ApiSchema(FORMAT, side(inputs, ordered=True), side(_columns(document, "outputs", base), ordered=True))


def _listed(document: Mapping[str, Json], key: str, base: str) -> list[Json]:
    """A list, which MLflow writes as JSON in a string."""
    value = document.get(key)
    if isinstance(value, str):
        try:
            value = load_json(value)
        except SchemaError as error:
            raise SchemaError(error.problem, error.expected, f"{base}/{key}, {error.where}") from error
    if value is None:
        return []
    if not isinstance(value, list):
        raise SchemaError("not a list", f"a list, or JSON of one in a string; each item {_COLUMN}", f"{base}/{key}")
    return value


def _columns(document: Mapping[str, Json], key: str, base: str) -> Iterator[Field]:
    for index, item in enumerate(_listed(document, key, base)):
        where = f"{base}/{key}/{index}"
        if not isinstance(item, dict):
            raise SchemaError("not a mapping", _COLUMN, where)
        name = item.get("name")
        path = name if isinstance(name, str) and name else str(index)
        if item.get("type") == "tensor":
            yield _tensor(item, path, where)
        else:
            yield from _nested(item, path, where)


def _tensor(item: Mapping[str, Json], path: str, where: str) -> Field:
    spec = item.get("tensor-spec")
    if not isinstance(spec, dict):
        raise SchemaError("no tensor-spec", "a mapping with dtype and shape", f"{where}/tensor-spec")
    return Field(
        path=path,
        types=(dtype(spec.get("dtype"), f"{where}/tensor-spec/dtype"),),
        shape=shape(spec.get("shape"), f"{where}/tensor-spec/shape"),
        required=True,
        typing=Typing.EXACT,
    )


def _nested(item: Mapping[str, Json], path: str, where: str) -> Iterator[Field]:
    """A column and all that is in it."""
    todo: list[tuple[Json, str, str | None, str, int]] = [(dict(item), path, None, where, 0)]
    while todo:
        spec, at, parent, place, level = todo.pop()
        if not isinstance(spec, dict):
            raise SchemaError("not a mapping", "a type", place)
        if level > MAX_LEVELS:
            raise SchemaError(f"nested more than {MAX_LEVELS} levels", f"at most {MAX_LEVELS}", path)
        kind = spec.get("type")
        yield Field(
            path=at,
            parent=parent,
            types=_types(kind, f"{place}/type"),
            required=spec.get("required") is not False and (parent is None or "required" in spec or at.endswith("/*")),
        )
        todo += reversed([(inner, f"{at}/{name}", at, below, level + 1) for name, inner, below in _inner(spec, place)])


def _inner(spec: Mapping[str, Json], place: str) -> Iterator[tuple[str, Json, str]]:
    kind = spec.get("type")
    if kind == "array" and "items" in spec:
        yield "*", spec["items"], f"{place}/items"
    elif kind == "map" and "values" in spec:
        yield "{*}", spec["values"], f"{place}/values"
    elif kind == "object":
        properties = spec.get("properties", {})
        if not isinstance(properties, dict):
            raise SchemaError("not a mapping", "types by name", f"{place}/properties")
        for name, inner in properties.items():
            yield step(name), inner, f"{place}/properties/{step(name)}"


def _types(kind: Json, where: str) -> tuple[str, ...]:
    if kind in ("any", "sparkml-vector"):
        return () if kind == "any" else ("ARRAY",)
    # MLflow's `binary` is bytes, its `float` 32 bits and its `integer` as well.
    found = "INT32" if kind == "integer" else canonical_dtype(kind) if isinstance(kind, str) else None
    if found is None:
        raise SchemaError(f"{str(kind)[:60]!r} is no type", "boolean, integer, long, float, double, string …", where)
    return (found,)


def _params(document: Mapping[str, Json], base: str) -> Iterator[Field]:
    """What may be sent along; each has a default, and no place in the order of the columns."""
    items = _listed(document, "params", base)
    if items:
        yield Field(path="params", types=("OBJECT",))
    for index, item in enumerate(items):
        where = f"{base}/params/{index}"
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise SchemaError("no name", "a param with name, type and default", where)
        lengths = item.get("shape")
        yield Field(
            path=f"params/{item['name']}",
            parent="params",
            types=_types(item.get("type", item.get("dtype")), f"{where}/type"),
            shape=(DYNAMIC,) * len(lengths) if isinstance(lengths, list) else (),
            default=canonical(item["default"]) if item.get("default") is not None else None,
        )
