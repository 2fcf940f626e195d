"""Pydantic models → CustomResourceDefinitions with a structural schema. Pure: writing files is the CLI's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from ops_commander.api.action_plan import PLAN_NAME_RULE, ActionPlan
from ops_commander.api.cel import rule, rules
from ops_commander.api.fields import Resource, format_duration
from ops_commander.api.policy import RolloutPolicy
from ops_commander.api.v1alpha1 import GROUP, VERSION, ModelRollout
from ops_commander.api.vote import NAME_RULE, Vote

Schema = dict[str, Any]
RULES: Final = "x-kubernetes-validations"
OPEN: Final = "x-kubernetes-preserve-unknown-fields"

# What is kept, in the order in which a person reads it. Anything else that pydantic emits is refused by the API
# server ($defs, const, examples, additionalProperties: false beside properties) or is noise (title).
_KEYWORDS = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "default",
    "required",
    OPEN,
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    RULES,
    "additionalProperties",
    "items",
    "properties",
)
_RULE_KEYWORDS = ("rule", "message", "messageExpression", "fieldPath", "reason", "optionalOldSelf")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; priority 1 is shown with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """What a CRD says about a resource besides its schema."""

    model: type[Resource]
    plural: str
    short: str
    columns: tuple[Column, ...]
    scale: bool = False
    rules: tuple[Mapping[str, str], ...] = ()

    @property
    def name(self) -> str:
        return self.model.__name__

    @property
    def full_name(self) -> str:
        return f"{self.plural}.{GROUP}"


_AGE = Column("Age", ".metadata.creationTimestamp", "date")

# Services are named `<rollout>-candidate`, pods `<rollout>-<revision>-<random>`: 40 leaves room in 63 characters,
# and a Service's name must start with a letter.
_SHORT_NAME = rule(
    "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name %s has %s characters: expected at most 40 of a-z, 0-9 and -, a letter first and no - at the end",
    "self.metadata.name",
    "self.metadata.name.size()",
    at=".metadata.name",
)

MODEL_ROLLOUT: Final = Kind(
    model=ModelRollout,
    plural="modelrollouts",
    short="mro",
    columns=(
        Column("Phase", ".status.phase"),
        Column("Step", ".status.stepName"),
        Column("Weight", ".status.weight", "integer"),
        Column("Verdict", ".status.verdict"),
        Column("Reason", ".status.reason"),
        Column("Next", ".status.next"),
        _AGE,
        Column("Model", ".status.deployment.modelVersion", priority=1),
        Column("Stable", ".status.stableVersion", priority=1),
        Column("Deployment", ".status.deployment.id", priority=1),
        Column("Message", ".status.message", priority=1),
    ),
    scale=True,
    rules=(_SHORT_NAME,),
)
ROLLOUT_POLICY: Final = Kind(model=RolloutPolicy, plural="rolloutpolicies", short="rpol", columns=(_AGE,))
VOTE: Final = Kind(
    model=Vote,
    plural="votes",
    short="rvote",
    columns=(
        Column("Rollout", ".spec.rollout"),
        Column("Role", ".spec.role"),
        Column("Vote", ".spec.vote"),
        Column("Risk", ".spec.risk"),
        Column("Counted", ".status.counted", "boolean"),
        Column("Reason", ".status.reason"),
        Column("Concern", ".spec.concern"),
        _AGE,
        Column("Voter", ".spec.voter", priority=1),
        Column("Deployment", ".spec.deploymentId", priority=1),
    ),
    rules=(NAME_RULE,),
)
ACTION_PLAN: Final = Kind(
    model=ActionPlan,
    plural="actionplans",
    short="aplan",
    columns=(
        Column("Phase", ".status.phase"),
        Column("Done", ".status.progress"),
        Column("Failed", ".status.counts.failed", "integer"),
        Column("Current", ".status.current"),
        Column("Expected", ".status.expectedCompletion", priority=1),
        _AGE,
        Column("Meeting", ".spec.meetingId", priority=1),
        Column("Source", ".spec.source", priority=1),
        Column("Message", ".status.message", priority=1),
    ),
    rules=(PLAN_NAME_RULE,),
)
KINDS: Final = (MODEL_ROLLOUT, ROLLOUT_POLICY, VOTE, ACTION_PLAN)


def manifest(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    schema = resource_schema(kind)
    if "status" in schema["properties"]:
        version["subresources"] = {"status": {}}
        if kind.scale:
            version["subresources"]["scale"] = {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.full_name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["mlops"],
            },
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def resource_schema(kind: Kind) -> Schema:
    """The structural schema of a whole object."""
    raw = kind.model.model_json_schema(by_alias=True, schema_generator=_Generator)
    schema = _structural(raw, raw.get("$defs", {}))
    schema.update(rules(*map(dict, kind.rules)) if kind.rules else {})
    properties = schema["properties"]
    # The API server owns these three; a schema of its own here would only be refused or in the way.
    properties["apiVersion"] = {"type": "string", "description": "Version of this resource's schema."}
    properties["kind"] = {"type": "string", "description": "Name of this resource's schema."}
    properties["metadata"] = {"type": "object", "properties": {"name": {"type": "string"}}}
    schema["required"] = ["spec"]
    if "status" in properties:
        properties["status"] = _without_defaults(properties["status"])
    return _ordered(schema)


class _Generator(GenerateJsonSchema):
    """Defaults as they stand on the wire: durations in Go form, models by alias and without nulls."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        if isinstance(dft, BaseModel):
            return dft.model_dump(mode="json", by_alias=True, exclude_none=True)
        return super().encode_default(dft)


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    """One node with its references inlined, null dropped and its keywords as the API server wants them."""
    flat = _flatten(node, definitions)
    if "const" in flat:
        flat["enum"] = [flat["const"]]
    if flat.get("default", ...) is None:
        del flat["default"]
    if "description" in flat:
        flat["description"] = " ".join(flat["description"].split())
    for bound in ("Minimum", "Maximum"):
        _fix_exclusive(flat, bound)
    if RULES in flat:
        flat[RULES] = [{key: item[key] for key in _RULE_KEYWORDS if key in item} for item in flat[RULES]]
    if "items" in flat:
        flat["items"] = _structural(flat["items"], definitions)
    if isinstance(flat.get("additionalProperties"), dict):
        flat["additionalProperties"] = _structural(flat["additionalProperties"], definitions)
    else:
        flat.pop("additionalProperties", None)
    if "properties" in flat:
        flat["properties"] = {name: _structural(value, definitions) for name, value in flat["properties"].items()}
    return _ordered(flat)


def _flatten(node: Mapping[str, Any], definitions: Mapping[str, Schema]) -> Schema:
    """The node merged over what it refers to; rules of both hold."""
    own = dict(node)
    targets: list[Mapping[str, Any]] = []
    if "$ref" in own:
        targets.append(definitions[own.pop("$ref").removeprefix("#/$defs/")])
    targets += [branch for branch in own.pop("anyOf", []) if branch.get("type") != "null"]
    if not targets:
        return own
    if len(targets) > 1:
        raise ValueError(f"a union is not structural: {dict(node)}")
    base = _flatten(targets[0], definitions)
    merged = {**base, **own}
    if both := [*base.get(RULES, []), *own.get(RULES, [])]:
        merged[RULES] = both
    return merged


def _fix_exclusive(node: Schema, bound: str) -> None:
    """JSON Schema 2020 has a number in exclusiveMinimum, OpenAPI 3.0 a flag beside minimum."""
    exclusive = node.pop(f"exclusive{bound}", None)
    if exclusive is not None:
        node[bound.lower()] = exclusive
        node[f"exclusive{bound}"] = True


def _without_defaults(node: Schema) -> Schema:
    """Status is what was seen: the API server may not invent any of it."""
    bare = {key: value for key, value in node.items() if key != "default"}
    if "properties" in bare:
        bare["properties"] = {name: _without_defaults(value) for name, value in bare["properties"].items()}
    if "items" in bare:
        bare["items"] = _without_defaults(bare["items"])
    return bare


def _ordered(node: Schema) -> Schema:
    return {key: node[key] for key in _KEYWORDS if key in node}


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        entry["priority"] = column.priority
    return entry
