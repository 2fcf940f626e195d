"""API reference in Markdown and JSON schemas for editors, both from the schemas of the CRDs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ops_commander.api.fields import DURATION_FORM, DURATION_PATTERN, NOT_ZERO
from ops_commander.api.schema import KINDS, OPEN, RULES, Kind, Schema, resource_schema
from ops_commander.api.v1alpha1 import API_VERSION, VERSION

_INTRO = f"""\
<!-- Generated from operator/ops_commander/api by `ops-commander crd`; do not edit. -->
# API reference: {API_VERSION}

All resources are namespaced, and all references stay inside the namespace. The API server fills in the defaults of
`spec` and refuses what breaks a limit or a rule below. A *duration* is written as in `250ms`, `30s`, `10m` or `1h30m`,
and is at most a year.

For completion and checks in an editor, put this line first in a YAML file:

```yaml
# yaml-language-server: $schema=docs/schemas/modelrollout_{VERSION}.json
```
"""

_LISTED = ("spec", "status")


# --- Markdown ------------------------------------------------------------------------------------


def markdown() -> str:
    """The whole reference."""
    parts = [_INTRO]
    for kind in KINDS:
        schema = resource_schema(kind)
        parts.append(f"## {kind.name}\n\n{schema['description']}\n\nShort name `{kind.short}`.\n")
        parts += [f"- Refused: {said}\n" for said in _refusals(schema)]
        for name in _LISTED:
            if name in schema["properties"]:
                parts += _sections(name, schema["properties"][name])
    return "\n".join(parts)


def _sections(path: str, node: Schema) -> Iterator[str]:
    """One section for each object, in the order in which its fields stand."""
    required = node.get("required", ())
    rows = [
        f"| `{name}` | {_type(value)} | {_default(name, value, required)} | {_cell(value.get('description', ''))} |"
        for name, value in node["properties"].items()
    ]
    lines = [f"### {path}\n"]
    if "description" in node:
        lines.append(f"{node['description']}\n")
    lines += ["| Field | Type | Default | Meaning |", "|---|---|---|---|", *rows, ""]
    lines += [f"- Refused: {said}" for said in _refusals(node)]
    for name, value in node["properties"].items():
        lines += [f"- `{name}` refused: {said}" for said in _refusals(value) if not _is_object(value)]
    yield "\n".join(lines).rstrip() + "\n"
    for name, value in node["properties"].items():
        if _is_object(value):
            yield from _sections(f"{path}.{name}", value)
        elif _is_object(value.get("items", {})):
            yield from _sections(f"{path}.{name}[]", value["items"])


def _is_object(node: Schema) -> bool:
    return "properties" in node


def _type(node: Schema) -> str:
    if "enum" in node:
        return " or ".join(f"`{value}`" for value in node["enum"])
    if _is_duration(node):
        return "duration (> 0)" if any(rule["rule"].endswith(NOT_ZERO) for rule in node[RULES]) else "duration"
    kind: str = node["type"]
    if kind == "array":
        return f"list of {_type(node['items'])}{_entries(node, 'Items')}"
    if isinstance(node.get("additionalProperties"), dict):
        return f"map to {_type(node['additionalProperties'])}{_entries(node, 'Properties')}"
    if node.get("format") == "date-time":
        return "time"
    if kind == "string":
        length = _span(node, "Length")
        return f"string ({length} characters)" if length else "string"
    if kind in ("integer", "number"):
        return f"{kind}{_range(node)}"
    return kind


def _entries(node: Schema, what: str) -> str:
    span = _span(node, what)
    return f", {span} entries" if span else ""


def _span(node: Schema, what: str) -> str:
    low, high = node.get(f"min{what}", 0), node.get(f"max{what}")
    return "" if high is None else f"{low}–{high}"


def _range(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    above = ">" if node.get("exclusiveMinimum") else "≥"
    below = "<" if node.get("exclusiveMaximum") else "≤"
    bounds = ([f"{above} {low}"] if low is not None else []) + ([f"{below} {high}"] if high is not None else [])
    return f" ({', '.join(bounds)})" if bounds else ""


def _is_duration(node: Schema) -> bool:
    return any(rule["rule"] == DURATION_FORM for rule in node.get(RULES, ()))


def _default(name: str, node: Schema, required: list[str]) -> str:
    if name in required:
        return "**required**"
    return f"`{json.dumps(node['default'])}`" if "default" in node else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _refusals(node: Schema) -> list[str]:
    """What the rules of a node say when they refuse, values left out. The introduction speaks for durations."""
    return [] if _is_duration(node) else [_said(rule) for rule in node.get(RULES, ())]


def _said(rule: Mapping[str, str]) -> str:
    if "message" in rule:
        return rule["message"]
    template, _, _ = rule["messageExpression"].removeprefix("'").partition("'.format(")
    return template.replace("%s", "…")


# --- JSON schemas --------------------------------------------------------------------------------


def json_schemas() -> dict[str, str]:
    """JSON schemas by file name, as kubeconform names them, so that it can use them too."""
    return {
        f"{kind.name.lower()}_{VERSION}.json": json.dumps(_document(kind), indent=2, ensure_ascii=False) + "\n"
        for kind in KINDS
    }


def _document(kind: Kind) -> Schema:
    schema = _for_editors(resource_schema(kind))
    properties = schema["properties"]
    properties["apiVersion"] = {"const": API_VERSION}
    properties["kind"] = {"const": kind.name}
    properties["metadata"] = {"type": "object"}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": kind.name, **schema}


def _for_editors(node: Schema) -> Schema:
    """JSON Schema 2020-12 of a structural node, which unlike the API server can refuse unknown fields."""
    out = {key: value for key, value in node.items() if not key.startswith("x-kubernetes-")}
    if _is_duration(node):
        out["pattern"] = DURATION_PATTERN
    for bound in ("Minimum", "Maximum"):
        if out.pop(f"exclusive{bound}", False):
            out[f"exclusive{bound}"] = out.pop(bound.lower())
    if "properties" in out:
        out["properties"] = {name: _for_editors(value) for name, value in out["properties"].items()}
        if not node.get(OPEN):
            out["additionalProperties"] = False
    if "items" in out:
        out["items"] = _for_editors(out["items"])
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _for_editors(out["additionalProperties"])
    return out
