"""`api_schema.json`, the project's own format, and how it is read."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, StrictBool, StrictInt, StrictStr, ValidationError, model_validator
from pydantic import Field as Described

from ops_commander.api.fields import Resource
from ops_commander.integration.schema.dtypes import ANY, DTYPES, canonical_dtype
from ops_commander.integration.schema.encodings import canonical_encoding
from ops_commander.integration.schema.model import (
    ApiSchema,
    Field,
    Json,
    SchemaError,
    Side,
    Typing,
    canonical,
    side,
    step,
)

FORMAT: Final = "api-schema"


class Serialization(StrEnum):
    """How a message is turned into bytes. Reading a pickle runs code of whoever wrote it."""

    JSON = "json"
    PROTOBUF = "protobuf"
    PICKLE = "pickle"


def _dtype(name: str) -> str:
    found = canonical_dtype(name)
    if found is None:
        raise ValueError(f"{name[:60]!r} is no dtype: expected one of {', '.join(DTYPES)}, or the numpy name of one")
    return found


def _shape(lengths: tuple[int, ...]) -> tuple[int, ...]:
    if any(length < -1 for length in lengths):
        raise ValueError("a length below -1: expected 0 or more, or -1 for any length")
    return lengths


class ApiField(Resource):
    """One input or output."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[StrictStr, Described(min_length=1, max_length=1024)]
    """Name of the tensor, or JSON pointer of the field; unique among its side."""
    dtype: Annotated[StrictStr, AfterValidator(_dtype)]
    """BOOL, INT8 to INT64, UINT8 to UINT64, FP16, BF16, FP32, FP64, STRING, BYTES, DATETIME, OBJECT, ARRAY, ANY and
    so on; numpy's and torch's names are understood."""
    shape: Annotated[tuple[StrictInt, ...], Described(max_length=32), AfterValidator(_shape)] | None = None
    """Length of each dimension, -1 where it may be any; [] is a scalar. Not given: not promised."""
    required: StrictBool = True
    """An input that must be sent; an output that is always there."""
    nullable: StrictBool = False
    """Whether null may stand in its place."""
    encoding: Annotated[StrictStr, Described(max_length=200)] | None = None
    """How the value is written: a charset, base64, or the form of a timestamp (date-time, unix, unix-ms)."""
    serialization: Serialization | None = None
    """Where it is another than that of the whole message."""
    enum: Annotated[tuple[StrictStr | StrictInt | float | StrictBool, ...], Described(min_length=1)] | None = None
    """The only values allowed."""
    default: Any = None
    """Of an input that is not sent. null is no default."""
    minimum: StrictInt | float | None = None
    """The smallest number allowed."""
    maximum: StrictInt | float | None = None
    """The largest number allowed."""
    min_length: Annotated[StrictInt, Described(ge=0)] | None = None
    """Characters of text, at least."""
    max_length: Annotated[StrictInt, Described(ge=0)] | None = None
    """Characters of text, at most."""
    pattern: StrictStr | None = None
    """A regular expression that text must match."""
    description: StrictStr | None = None
    """For people; a change of it is shown and weighs nothing."""


class ApiSchemaDocument(Resource):
    """Request and response of one version of a model. Other fields at the top are let be."""

    model_config = ConfigDict(title="api_schema")

    name: StrictStr | None = None
    """Of the model."""
    version: StrictStr | StrictInt | None = None
    """Of the model."""
    serialization: Serialization = Serialization.JSON
    """Of requests and responses."""
    inputs: tuple[ApiField, ...]
    """What a request has, in its order."""
    outputs: tuple[ApiField, ...]
    """What a response has, in its order."""

    @model_validator(mode="before")
    @classmethod
    def _not_a_mapping_of_fields(cls, value: Any) -> Any:
        for name in ("inputs", "outputs"):
            if isinstance(value, dict) and not isinstance(value.get(name, []), list):
                raise ValueError(f"{name} is not a list: expected a list of fields, each with name and dtype")
        return value


def read(document: Mapping[str, Json]) -> ApiSchema:
    """The schema of an `api_schema.json`. Raises SchemaError with the JSON pointer of the first fault."""
    try:
        parsed = ApiSchemaDocument.model_validate(document)
    except ValidationError as error:
        raise _first(error) from error
    return ApiSchema(FORMAT, _side(parsed.inputs, parsed, "/inputs"), _side(parsed.outputs, parsed, "/outputs"))


def _first(error: ValidationError) -> SchemaError:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = "".join(f"/{step(str(part))}" for part in fault["loc"] if not str(part).startswith("function-"))
    said, _, expected = fault["msg"].removeprefix("Value error, ").partition(": expected ")
    if fault["type"] == "extra_forbidden":
        said, expected = "unknown field", f"one of {', '.join(_names(ApiField))}"
    elif fault["type"] == "missing":
        said, expected = "not there", "a value"
    return SchemaError(said, expected or "api_schema.json, as docs/schema-diff.md has it", where or "/")


def _names(model: type[Resource]) -> list[str]:
    return [item.alias or name for name, item in model.model_fields.items()]


def _side(items: tuple[ApiField, ...], parsed: ApiSchemaDocument, where: str) -> Side:
    try:
        return side((_field(item, parsed.serialization) for item in items), parsed.serialization.value, ordered=True)
    except SchemaError as error:
        raise SchemaError(error.problem, error.expected, where) from error


def _field(item: ApiField, serialization: Serialization) -> Field:
    written = item.serialization or serialization
    return Field(
        path=item.name,
        types=() if item.dtype == ANY else (item.dtype,),
        shape=item.shape,
        required=item.required,
        nullable=item.nullable,
        encoding=canonical_encoding(item.encoding, item.dtype),
        serialization=item.serialization.value if item.serialization else None,
        enum=frozenset(map(canonical, item.enum)) if item.enum else None,
        constraints=_constraints(item),
        default=None if item.default is None else canonical(item.default),
        doc=item.description,
        typing=Typing.WIRE if written is Serialization.PROTOBUF else Typing.VALUE,
    )


def _constraints(item: ApiField) -> dict[str, Json]:
    values: dict[str, Json] = {
        "lower": None if item.minimum is None else [item.minimum, False],
        "upper": None if item.maximum is None else [item.maximum, False],
        "minLength": item.min_length,
        "maxLength": item.max_length,
        "pattern": item.pattern,
    }
    return {name: value for name, value in values.items() if value is not None}
