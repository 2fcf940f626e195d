"""`api_schema_diff.json`: the diff as data, and the JSON schemas of what the project reads and writes here."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described

from ops_commander import __version__
from ops_commander.api.fields import Resource
from ops_commander.integration.schema import differences
from ops_commander.integration.schema.document import ApiSchemaDocument
from ops_commander.integration.schema.formats import MAX_BYTES, read
from ops_commander.integration.schema.model import ApiSchema, Direction, SchemaError
from ops_commander.integration.schema.rules import Change, Kind

TOOL: Final = "schema_diff"
API_VERSION: Final = "ops-commander.dev/api-schema-diff/v1"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Share = Annotated[float, Described(ge=0, le=1)]


class Verdict(StrEnum):
    COMPATIBLE = "compatible"
    BREAKING = "breaking"


class DiffChange(Resource):
    """One difference, seen from one direction."""

    path: str
    """Name of the tensor or JSON pointer of the field; empty for the whole message."""
    kind: Kind
    """What has changed: a stable name, listed in docs/schema-diff.md."""
    direction: Direction
    """Requests must still be taken, responses still be read."""
    severity: Share
    """0 breaks nobody, 1 breaks somebody for certain."""
    before: JsonValue
    """What the baseline has; cut short where it is long. null: nothing."""
    after: JsonValue
    """What the candidate has."""
    why: str
    """Whom it breaks, and how."""
    hint: str | None = None
    """A guess at what was meant."""


class DiffInput(Resource):
    """One of the two files."""

    file: str
    """Its name, without folders."""
    format: str
    """As detected from its content."""
    sha256: Annotated[str, Described(pattern="^[0-9a-f]{64}$")]
    """Of its bytes."""
    size: Annotated[int, Described(ge=0)]
    """In bytes."""


class ApiSchemaDiff(Resource):
    """What a candidate's API changes against the baseline's. Equal inputs give equal bytes."""

    model_config = ConfigDict(title="api_schema_diff")

    api_version: Literal["ops-commander.dev/api-schema-diff/v1"] = API_VERSION
    """Version of this file's form."""
    tool: str
    """Name and version of what wrote it."""
    verdict: Verdict
    """breaking, if a change is at least as severe as `failOn`."""
    fail_on: Annotated[float, Described(gt=0, le=1)]
    """The severity from which a change breaks."""
    schema_drift: Share
    """S = 1 − Π(1 − severity), to 4 places: the share of schema drift in the composite risk."""
    baseline: DiffInput
    """What callers and clients were built for."""
    candidate: DiffInput
    """What they would meet."""
    notes: tuple[str, ...] = ()
    """What to know besides the changes."""
    changes: tuple[DiffChange, ...]
    """Worst first, then by direction and path."""

    def to_json(self) -> str:
        """The content of `api_schema_diff.json`."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False) + "\n"


class Failed(ValueError):
    """One of the two files cannot be used; `is_baseline` says which, the error why."""

    def __init__(self, is_baseline: bool, error: SchemaError) -> None:
        self.is_baseline, self.error = is_baseline, error
        super().__init__(f"{'baseline' if is_baseline else 'candidate'}: {error}")


def compare_files(
    baseline: tuple[str, bytes],
    candidate: tuple[str, bytes],
    *,
    fail_on: float = 1.0,
    direction: Direction | None = None,
    max_bytes: int = MAX_BYTES,
) -> ApiSchemaDiff:
    """The diff of two files, each a name and bytes. Raises Failed for the first that cannot be used.

    `direction` says which way messages go where a format does not.
    """
    old = _read(baseline[1], True, direction, max_bytes)
    new = _read(candidate[1], False, direction, max_bytes)
    try:
        changes = differences.diff(old, new)
        notes = differences.notes(old, new)
    except SchemaError as error:
        raise Failed(False, error) from error
    return ApiSchemaDiff(
        tool=f"{TOOL} {__version__}",
        verdict=verdict(changes, fail_on),
        fail_on=fail_on,
        schema_drift=differences.schema_drift(changes),
        baseline=_input(baseline, old),
        candidate=_input(candidate, new),
        notes=notes,
        changes=tuple(_change(each) for each in changes),
    )


def verdict(changes: tuple[Change, ...], fail_on: float = 1.0) -> Verdict:
    """breaking, if any change is severe enough."""
    return Verdict.BREAKING if any(each.severity >= fail_on for each in changes) else Verdict.COMPATIBLE


def _read(data: bytes, is_baseline: bool, direction: Direction | None, max_bytes: int) -> ApiSchema:
    try:
        return read(data, direction=direction, max_bytes=max_bytes)
    except SchemaError as error:
        raise Failed(is_baseline, error) from error


def _input(file: tuple[str, bytes], schema: ApiSchema) -> DiffInput:
    name, data = file
    return DiffInput(file=name, format=schema.format, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _change(each: Change) -> DiffChange:
    return DiffChange(
        path=each.path,
        kind=each.kind,
        direction=each.direction,
        severity=each.severity,
        before=each.before,
        after=each.after,
        why=each.why,
        hint=each.hint,
    )


def json_schemas() -> dict[str, str]:
    """JSON schemas by file name, for docs/schemas."""
    return {
        "api_schema_v1.json": _document(ApiSchemaDocument.model_json_schema(by_alias=True)),
        "api_schema_diff_v1.json": _document(ApiSchemaDiff.model_json_schema(by_alias=True, mode="serialization")),
    }


def _document(schema: dict[str, Any]) -> str:
    described = _one_line({"$schema": _DIALECT, **schema})
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _one_line(value: Any) -> Any:
    """Descriptions as they are read, not as the source wraps them; titles of fields left out as noise."""
    if isinstance(value, list):
        return [_one_line(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: item for key, item in value.items() if key != "title" or not isinstance(item, str) or "$schema" in value
    }
    return {
        key: " ".join(item.split()) if key == "description" and isinstance(item, str) else _one_line(item)
        for key, item in kept.items()
    }
