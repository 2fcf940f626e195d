"""ModelRollouts that a command speaks of, and the plans that they belong to: from the cluster or from a file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from ops_commander.api.action_plan import ActionPlan
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.core.plans import naming
from ops_commander.integration.documents import BadInput, Place, dotted, load_yaml, read_text

if TYPE_CHECKING:
    from ops_commander.adapters.kubernetes import KubernetesApi

_Kind = TypeVar("_Kind", ModelRollout, ActionPlan)
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", default=None, help="default: that of the kubeconfig's context")
    parser.add_argument("--kubeconfig", default=None)
    parser.add_argument(
        "--from",
        dest="file",
        type=Path,
        default=None,
        metavar="FILE",
        help="read ModelRollouts from this YAML or JSON, as `kubectl get -o yaml` prints it, and ask no cluster",
    )


# --- Files ----------------------------------------------------------------------------------------


def from_file(path: Path, name: str | None) -> list[ModelRollout]:
    """The ModelRollouts of a file, or the one of that name. Raises BadInput."""
    text = read_text(path)
    value = load_yaml(text.text, text.file).value
    bodies = value.get("items") if isinstance(value, dict) and "items" in value else [value]
    if not isinstance(bodies, list) or not bodies:
        raise BadInput(text.file, ".items", "holds no objects", "a ModelRollout, or a list of them")
    places: list[Place] = [()] if bodies == [value] else [("items", index) for index in range(len(bodies))]
    found = [_parsed(ModelRollout, body, text.file, place) for body, place in zip(bodies, places, strict=True)]
    names = [str(rollout.metadata["name"]) for rollout in found]
    if name is None:
        if twice := next((each for each in names if names.count(each) > 1), None):
            raise BadInput(text.file, "", f"has several ModelRollouts {twice}", "names that come once")
        return found
    if name not in names:
        raise BadInput(text.file, "", f"has no ModelRollout {name}", f"one of {', '.join(names)}"[:300])
    return [found[names.index(name)]]


def _parsed(kind: type[_Kind], body: Any, file: str, place: Place = ()) -> _Kind:
    """An object that the models take, with a name that is one and with times that have a zone."""
    if not isinstance(body, dict) or body.get("kind") != kind.__name__:
        said = body.get("kind") if isinstance(body, dict) else type(body).__name__
        raise BadInput(file, dotted(place), f"is of kind {said!r:.80}", kind.__name__)
    try:
        parsed = kind.model_validate(body)
    except ValidationError as error:
        raise _refused(error, file, place) from None
    _check(parsed.metadata, parsed.status, file, place)
    return parsed


def _refused(error: ValidationError, file: str, place: Place) -> BadInput:
    first = error.errors(include_url=False)[0]
    return BadInput(file, dotted((*place, *first["loc"])), f"is {first['input']!r:.80}", first["msg"])


def _check(metadata: Mapping[str, Any], status: BaseModel, file: str, place: Place) -> None:
    """A name that is one, annotations that are texts, times with a zone. Raises BadInput."""
    name, annotations = metadata.get("name"), metadata.get("annotations") or {}
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput(file, dotted((*place, "metadata", "name")), f"is {name!r:.80}", "the name of an object")
    if not isinstance(annotations, dict) or not all(isinstance(each, str) for each in annotations.values()):
        raise BadInput(file, dotted((*place, "metadata", "annotations")), "is no map of texts", "annotations")
    for where in _without_zone(status, ("status",)):
        raise BadInput(file, dotted((*place, *where)), "has no time zone", "a time such as 2026-01-05T09:00:00Z")


def _without_zone(value: Any, place: Place) -> Iterator[Place]:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            yield place
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _without_zone(getattr(value, name), (*place, field.alias or name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _without_zone(item, (*place, index))


# --- The cluster ----------------------------------------------------------------------------------


async def rollouts_of(api: KubernetesApi, namespace: str) -> list[ModelRollout]:
    """All of a namespace, by name. Raises ApiError and BadInput."""
    bodies = await api.list("ModelRollout", namespace)
    found = [_parsed(ModelRollout, _kinded(body, "ModelRollout"), f"namespace {namespace}") for body in bodies]
    return sorted(found, key=lambda rollout: str(rollout.metadata["name"]))


async def rollout_of(api: KubernetesApi, namespace: str, name: str) -> ModelRollout:
    """Raises ApiError and BadInput."""
    body = await api.get("ModelRollout", namespace, name)
    return _parsed(ModelRollout, _kinded(body, "ModelRollout"), f"ModelRollout {namespace}/{name}")


async def plan_of(api: KubernetesApi, namespace: str, name: str) -> ActionPlan:
    """Raises ApiError and BadInput."""
    body = await api.get("ActionPlan", namespace, name)
    return _parsed(ActionPlan, _kinded(body, "ActionPlan"), f"ActionPlan {namespace}/{name}")


async def plan_behind(api: KubernetesApi, namespace: str, rollout: ModelRollout) -> ActionPlan | None:
    """The plan that brought a rollout's version, while it is there. Raises ApiError and BadInput."""
    name = (rollout.metadata.get("annotations") or {}).get(naming.BY_PLAN)
    body = await api.find("ActionPlan", namespace, name) if name else None
    return _parsed(ActionPlan, _kinded(body, "ActionPlan"), f"ActionPlan {namespace}/{name}") if body else None


def _kinded(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Items of a list come without their kind."""
    return {**body, "kind": kind}


def rollouts_in(plan: ActionPlan) -> list[str]:
    """Names of the ModelRollouts that a plan works by, as far as they are known."""
    by_status = [row.object.name for row in plan.status.actions if row.object and row.object.kind == "ModelRollout"]
    return sorted(set(by_status))
