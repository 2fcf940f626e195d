"""JSON schemas of what `preflight`, `lock-diff` and `plan` read and write, for editors and for programs."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import BaseModel

from ops_commander.api.fields import DURATION_PATTERN
from ops_commander.integration.dependencies.report import LockDiff
from ops_commander.integration.handoffs.reports import Handoff
from ops_commander.integration.manifest import CandidateManifest
from ops_commander.integration.pending_actions import PendingActions
from ops_commander.integration.preflight_report import PreflightReport

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_CEL: Final = "x-kubernetes-validations"
_MODELS: Final[dict[str, tuple[type[BaseModel], Literal["validation", "serialization"]]]] = {
    "candidate_manifest_v1.json": (CandidateManifest, "validation"),
    "handoff_v1.json": (Handoff, "validation"),
    "lock_diff_v1.json": (LockDiff, "serialization"),
    "pending_actions.json": (PendingActions, "validation"),
    "preflight_v1.json": (PreflightReport, "serialization"),
}


def json_schemas() -> dict[str, str]:
    """Text by file name, for `docs/schemas`."""
    found = {}
    for name, (model, mode) in _MODELS.items():
        document = {"$schema": _DIALECT, **model.model_json_schema(mode=mode)}
        found[name] = json.dumps(_plain(document), indent=2, ensure_ascii=False) + "\n"
    return found


def _plain(node: Any) -> Any:
    """Descriptions in one line, no titles of fields, and without CEL, which only the API server reads."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _kept(key, value) for key, value in node.items() if key != _CEL and not _is_noise(key, value, node)}
    return {**kept, "pattern": DURATION_PATTERN} if _CEL in node and node.get("type") == "string" else kept


def _kept(key: str, value: Any) -> Any:
    return " ".join(value.split()) if key == "description" and isinstance(value, str) else _plain(value)


def _is_noise(key: str, value: Any, node: dict[str, Any]) -> bool:
    return key == "title" and isinstance(value, str) and "$schema" not in node
