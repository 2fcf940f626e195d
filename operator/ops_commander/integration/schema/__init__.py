"""Diffs of model APIs, aware of direction: bytes in, changes with severities out. No I/O, nothing is fetched.

    old, new = read(baseline_bytes), read(candidate_bytes)
    changes = diff(old, new)
    drift = schema_drift(changes)

`compare_files` does all of it and gives what `api_schema_diff.json` holds.
"""

from __future__ import annotations

from ops_commander.integration.schema.differences import diff, schema_drift
from ops_commander.integration.schema.document import ApiSchemaDocument
from ops_commander.integration.schema.formats import FORMATS, MAX_BYTES, read
from ops_commander.integration.schema.model import ApiSchema, Direction, Field, SchemaError, Side
from ops_commander.integration.schema.report import ApiSchemaDiff, Failed, Verdict, compare_files, json_schemas, verdict
from ops_commander.integration.schema.rules import Change, Kind

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "ApiSchema",
    "ApiSchemaDiff",
    "ApiSchemaDocument",
    "Change",
    "Direction",
    "Failed",
    "Field",
    "Kind",
    "SchemaError",
    "Side",
    "Verdict",
    "compare_files",
    "diff",
    "json_schemas",
    "read",
    "schema_drift",
    "verdict",
]
