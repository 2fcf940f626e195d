"""`pending_actions.json`: what a Planning Team hands over, read with limits and turned into an ActionPlan."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from ops_commander.api.action_plan import (
    LONGEST_NAME,
    MOST_ACTIONS,
    MOST_CRITERIA,
    ActionId,
    ActionKind,
    ActionPlanSpec,
    Criterion,
    Environment,
    FailurePolicy,
    Priority,
    ReportKind,
    Suite,
)
from ops_commander.api.fields import DURATION_PATTERN, PositiveDuration, Time
from ops_commander.api.v1alpha1 import API_VERSION, Name, ObjectName, Percent, PodTemplate
from ops_commander.core.plans.order import Problem, problems
from ops_commander.integration.documents import BadInput, Place, dotted, read_text
from ops_commander.integration.schema.jsontext import load_json, position
from ops_commander.integration.schema.model import SchemaError

MAX_BYTES: Final = 512 * 1024
"""The plan and its status are one object of the API server, which takes 1.5 MiB."""

Text = Annotated[str, Field(min_length=1, max_length=200)]
Path_ = Annotated[str, Field(min_length=1, max_length=500)]
_OPEN = WithJsonSchema({"type": "object"})
Open = Annotated[dict[str, Any], _OPEN]


def _zoned(value: Any) -> Any:
    if getattr(value, "tzinfo", None) is None:
        raise ValueError("has no time zone: expected a form such as 2025-10-14T12:00:00Z")
    return value


ZonedTime = Annotated[Time, AfterValidator(_zoned)]
Span = Annotated[PositiveDuration, WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN})]


class _Strict(BaseModel):
    """Base of the file: a field that is not known is a typing error, and a text is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)


class ModelVersion(_Strict):
    """A version of a registered model."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the registered model."""
    version: Annotated[str, Field(min_length=1, max_length=63)]
    """Its version, as text."""
    mlflow_run_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """MLflow run that made it."""
    candidate_manifest: Path_ | None = None
    """Path of its candidate_manifest.yaml below the artifacts of that run."""


class Deploy(_Strict):
    """Bring a version to an environment."""

    target: Name
    """The ModelRollout."""
    environment: Environment
    """shadow, staging or production."""
    percent: Annotated[Percent, Field(strict=True)] | None = None
    """Share of production; 100 for all of it."""
    model: ModelVersion
    """What is deployed."""
    template: Open | None = None
    """What is different in the pod template; containers are matched by name."""
    rollout: Open | None = None
    """Spec of the ModelRollout where there is none yet."""

    @model_validator(mode="after")
    def _percent_of_production(self) -> Self:
        if (self.environment is Environment.PRODUCTION) != (self.percent is not None):
            problem = "has no percent" if self.percent is None else "has a percent"
            raise ValueError(f"{problem} with environment {self.environment}: expected it with production alone")
        return self


class _Pod(_Strict):
    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Image of a pod that meets the restricted standard."""
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=64)] | None = None
    """Command of the image."""
    env: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] | None = None
    """Environment of the image."""
    template: PodTemplate | None = None
    """Pod template for all that image cannot say."""
    template_ref: ObjectName | None = None
    """A core/v1 PodTemplate of the namespace."""
    mlflow_experiment: Annotated[str, Field(min_length=1, max_length=250)] | None = None
    """MLflow experiment of its run."""

    @property
    def pods(self) -> list[str]:
        return [name for name in ("image", "template", "template_ref") if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _command_of_image(self) -> Self:
        if self.image is None and (self.command is not None or self.env is not None):
            raise ValueError("has command or env without image: expected them in the template")
        return self


class Experiment(_Pod):
    """Run a Job that logs metrics."""

    @model_validator(mode="after")
    def _one_pod(self) -> Self:
        if len(self.pods) != 1:
            raise ValueError(f"has {', '.join(self.pods) or 'no pod'}: expected one of image, template, template_ref")
        return self


class Test(_Pod):
    """Run a Job that tests a version."""

    __test__ = False

    suite: Suite
    """integration, smoke or regression."""
    target: Name
    """The ModelRollout."""
    version: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Version of the model."""

    @model_validator(mode="after")
    def _one_pod(self) -> Self:
        if len(self.pods) > 1:
            raise ValueError(f"has {', '.join(self.pods)}: expected at most one of them")
        return self


class Collect(_Strict):
    """Store a window of metrics."""

    target: Name
    """The ModelRollout."""
    window: Span
    """Length of the window."""
    metrics: Annotated[list[Annotated[str, Field(min_length=1, max_length=250)]], Field(min_length=1, max_length=32)]
    """Objectives of the rollout's policy."""


class Report(_Strict):
    """Write reports."""

    kinds: Annotated[list[ReportKind], Field(min_length=1, max_length=3)]
    """Which."""


class PendingAction(_Strict):
    """One action; it has the parameters of its kind, and of no other."""

    id: ActionId
    """Unique within the file."""
    priority: Priority
    """HIGH, MEDIUM or LOW."""
    title: Text
    """What it is about."""
    owner: Annotated[str, Field(min_length=1, max_length=100)]
    """Who answers for it."""
    estimate: Span
    """How long it is expected to take."""
    timeout: Span | None = None
    """How long it may take."""
    kind: ActionKind
    """Which of the parameters it has."""
    depends_on: Annotated[list[ActionId], Field(max_length=16)] = []
    """Actions that must have succeeded before."""
    success_criteria: Annotated[list[Criterion], Field(max_length=MOST_CRITERIA)]
    """Comparisons of metrics; all must hold."""
    deploy: Deploy | None = None
    experiment: Experiment | None = None
    test: Test | None = None
    collect: Collect | None = None
    report: Report | None = None

    @model_validator(mode="after")
    def _own_parameters(self) -> Self:
        given = [str(kind) for kind in ActionKind if getattr(self, kind) is not None]
        if given != [self.kind]:
            raise ValueError(f"has {', '.join(given) or 'no parameters'}: expected {self.kind}, as its kind says")
        return self


class PendingActions(_Strict):
    """The whole file."""

    model_config = ConfigDict(title="pending_actions", json_schema_extra={"additionalProperties": False})

    meeting_id: Annotated[str, Field(min_length=1, max_length=128)]
    """The meeting; the plan is named by it."""
    created_at: ZonedTime
    """When it was decided."""
    from_: Annotated[str, Field(alias="from", min_length=1, max_length=100)]
    """Who decided."""
    failure_policy: FailurePolicy = FailurePolicy.STOP_ON_HIGH
    """What a failed action stops."""
    actions: Annotated[list[PendingAction], Field(min_length=1, max_length=MOST_ACTIONS)]
    """What is to be done."""


@dataclass(frozen=True, slots=True)
class Handoff:
    """A file that was read."""

    file: str
    sha256: str
    actions: PendingActions


def read(path: Path, name: str | None = None) -> Handoff:
    """The file, completely checked. Raises BadInput with file, line, column, JSON path and what was expected."""
    text = read_text(path, MAX_BYTES, name)
    try:
        value = load_json(text.text)
    except SchemaError as error:
        raise BadInput(text.file, error.where, error.problem, error.expected) from error
    if not isinstance(value, dict):
        raise BadInput(text.file, "line 1, column 1 (.)", "is no object", "meeting_id, created_at, from and actions")
    where = Locations(text.text)
    try:
        actions = PendingActions.model_validate(value)
    except ValidationError as error:
        raise _bad_input(text.file, where, error) from error
    handoff = Handoff(text.file, text.sha256, actions)
    found = list(problems(spec(handoff)))
    if found:
        raise _bad_plan(text.file, where, found)
    return handoff


def plan_name(meeting_id: str) -> str:
    """The meeting's id as a name of objects: the same file is the same plan."""
    clean = re.sub(r"[^a-z0-9]+", "-", meeting_id.lower()).strip("-")
    return clean[:LONGEST_NAME].rstrip("-") or "plan"


def spec(handoff: Handoff) -> ActionPlanSpec:
    """The spec of the plan."""
    actions = handoff.actions
    return ActionPlanSpec.model_validate(
        {
            "meetingId": actions.meeting_id,
            "source": handoff.file[-500:],
            "sourceSha256": handoff.sha256,
            "from": actions.from_,
            "createdAt": actions.created_at,
            "failurePolicy": actions.failure_policy,
            "actions": [_action(item) for item in actions.actions],
        }
    )


def manifest(handoff: Handoff, *, name: str | None = None, namespace: str | None = None) -> dict[str, Any]:
    """The ActionPlan as an object."""
    body = spec(handoff).model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    metadata = {"name": name or plan_name(handoff.actions.meeting_id)}
    return {
        "apiVersion": API_VERSION,
        "kind": "ActionPlan",
        "metadata": {**metadata, **({"namespace": namespace} if namespace else {})},
        "spec": body,
    }


def _action(item: PendingAction) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": item.id,
        "title": item.title,
        "kind": item.kind,
        "priority": item.priority,
        "owner": item.owner,
        "estimate": item.estimate,
        "timeout": item.timeout,
        "successCriteria": item.success_criteria,
        "dependsOn": item.depends_on,
    }
    if item.deploy is not None:
        body["deploy"] = _deploy(item.deploy)
    elif pod := item.experiment or item.test:
        body[item.kind] = _pod(pod)
    else:
        parameters: Any = getattr(item, item.kind)
        body[item.kind] = parameters.model_dump()
    return body


def _deploy(deploy: Deploy) -> dict[str, Any]:
    model = deploy.model
    return {
        **deploy.model_dump(include={"target", "environment", "percent", "template", "rollout"}),
        "model": {"name": model.name, "version": model.version, "runId": model.mlflow_run_id},
        "candidateManifest": model.candidate_manifest,
    }


def _pod(pod: Experiment | Test) -> dict[str, Any]:
    body = pod.model_dump(exclude={"env", "template_ref", "mlflow_experiment"})
    env = [{"name": name, "value": value} for name, value in pod.env.items()] if pod.env is not None else None
    return {**body, "env": env, "templateRef": pod.template_ref, "mlflowExperiment": pod.mlflow_experiment}


# --- where a value stands in the file -------------------------------------------------------------

_SCALAR = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[-+.\w]+', re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")


class Locations:
    """Offsets of values in a JSON text that is known to be well-formed."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offsets: dict[Place, int] = {}
        self._read(0, ())

    def position(self, place: Place) -> str:
        """`line 3, column 5 (.actions[0].id)`, or that of the nearest value around it."""
        known = place
        while known and known not in self._offsets:
            known = known[:-1]
        return f"{position(self._text, self._offsets.get(known, 0))} ({dotted(place)})"

    def _read(self, offset: int, place: Place) -> int:
        """Note a value's offset; the offset after it. As deep as `load_json` allows."""
        offset = self._after_space(offset)
        self._offsets[place] = offset
        first = self._text[offset : offset + 1]
        if first == "{":
            return self._members(offset, place)
        if first == "[":
            return self._items(offset, place)
        match = _SCALAR.match(self._text, offset)
        return match.end() if match else offset + 1

    def _members(self, offset: int, place: Place) -> int:
        offset = self._after_space(offset + 1)
        while self._text[offset : offset + 1] == '"':
            key = _SCALAR.match(self._text, offset)
            assert key is not None
            colon = self._after_space(key.end())
            end = self._read(colon + 1, (*place, _unquoted(key.group())))
            offset = self._after_space(end)
            if self._text[offset] == ",":
                offset = self._after_space(offset + 1)
        return offset + 1

    def _items(self, offset: int, place: Place) -> int:
        offset, index = self._after_space(offset + 1), 0
        while self._text[offset : offset + 1] != "]":
            offset = self._after_space(self._read(offset, (*place, index)))
            index += 1
            if self._text[offset] == ",":
                offset = self._after_space(offset + 1)
        return offset + 1

    def _after_space(self, offset: int) -> int:
        match = _SPACE.match(self._text, offset)
        return match.end() if match else offset


def _unquoted(token: str) -> str:
    return str(json.loads(token))


def _bad_input(file: str, where: Locations, error: ValidationError) -> BadInput:
    """The first error; how many others there are."""
    errors = error.errors(include_url=False)
    first: Mapping[str, Any] = errors[0]
    problem, expected = _said(first)
    return BadInput(file, where.position(tuple(first["loc"])), problem, expected + _more(len(errors)))


def _said(error: Mapping[str, Any]) -> tuple[str, str]:
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "missing":
        return "is missing", "a value"
    if kind == "extra_forbidden":
        return "is not a field", "one of the fields of docs/schemas/pending_actions.json"
    problem, found, expected = message.partition(": expected ")
    if found:
        return problem, expected
    wanted = message.removeprefix("expected ")
    return f"is {_shown(error['input'])}", wanted[:1].lower() + wanted[1:]


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        what = "an object" if isinstance(value, dict) else "a list"
        return f"{what} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


def _more(count: int) -> str:
    return f" ({count - 1} more after it)" if count > 1 else ""


_IN_FILE: Final = {"dependsOn": "depends_on", "successCriteria": "success_criteria"}


def _bad_plan(file: str, where: Locations, found: list[Problem]) -> BadInput:
    first = found[0]
    place = tuple(_IN_FILE.get(part, part) if isinstance(part, str) else part for part in first.place)
    return BadInput(file, where.position(place), first.problem, first.expected + _more(len(found)))
