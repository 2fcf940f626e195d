"""The ModelRollout of a deploy action: what it should be, and how it stays in shadow or at a share of production.

A rollout goes on by itself once a step is proved. One that shall stay gets its steps with a hold: the step where it
stays lasts a year, so breaches revert it and evidence is counted as ever, but it is not left. The steps as they
were stand in an annotation; the next action, or the next plan, starts from these.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from ops_commander.api.action_plan import Action, Deploy, Environment
from ops_commander.api.v1alpha1 import API_VERSION, Step
from ops_commander.core import names
from ops_commander.core.plans import naming
from ops_commander.core.plans.observed import PlanView, RolloutView

A_YEAR: Final = "8760h"
Raw = dict[str, Any]


class CannotDeploy(Exception):
    """The action asks for what cannot be; the text says why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of a rollout, and the one of them in which it stays, if it does."""

    raw: list[Raw]
    hold: int | None = None
    min_duration: timedelta = timedelta(0)
    """Of the step of the hold, without it."""
    max_duration: timedelta = timedelta(0)
    """Likewise: the deadline that the plan keeps in its place."""
    time: timedelta = timedelta(0)
    """Deadlines of all steps up to there together, without the hold."""

    @property
    def label(self) -> str:
        return "full" if self.hold is None else Step.model_validate(self.raw[self.hold]).label


def steps_for(deploy: Deploy, own: Sequence[Mapping[str, Any]]) -> Steps:
    """A rollout's own steps as they must be for it to come as far as the action says. Raises CannotDeploy."""
    steps = [copy.deepcopy(dict(step)) for step in own]
    percent = deploy.percent or 100
    if deploy.environment is Environment.SHADOW:
        place = _last_shadow(steps)
    elif deploy.environment is Environment.PRODUCTION and percent < 100:
        place = _canary(steps, percent)
    else:
        return Steps(steps, time=_time(steps))
    before = _parsed(steps[place])
    time = _time(steps[: place + 1])
    kind = before.kind.value
    steps[place] = {kind: {**steps[place][kind], "minDuration": A_YEAR, "maxDuration": A_YEAR}}
    return Steps(steps, place, before.min_duration, before.max_duration, time)


def _last_shadow(steps: list[Raw]) -> int:
    places = [index for index, step in enumerate(steps) if "shadow" in step]
    if places:
        return places[-1]
    steps.insert(0, {"shadow": {}})
    return 0


def _canary(steps: list[Raw], percent: int) -> int:
    """The step with this weight, put in at its place where there is none."""
    for index, step in enumerate(steps):
        weight = 0 if "shadow" in step else 100 if "full" in step else step["canary"]["weight"]
        if weight == percent:
            return index
        if weight > percent:
            steps.insert(index, {"canary": {"weight": percent}})
            return index
    raise CannotDeploy("InvalidSteps", "the rollout's steps have no full step at their end")


def _parsed(step: Raw) -> Step:
    try:
        return Step.model_validate(step)
    except ValidationError as error:
        raise CannotDeploy(
            "InvalidSteps", f"a step of the rollout cannot be read: {error.errors()[0]['msg']}"
        ) from error


def _time(steps: Sequence[Raw]) -> timedelta:
    return sum((_parsed(step).max_duration for step in steps), timedelta(0))


def own_steps(view: RolloutView) -> list[Raw]:
    """The steps without the hold of an earlier action; as they stand where somebody has changed them since."""
    present: list[Raw] = list(view.raw_spec.get("steps") or [])
    try:
        noted = json.loads(view.annotations[naming.OWN_STEPS])
        own, held = noted["own"], noted["held"]
        if [Step.model_validate(step) for step in held] == view.spec.steps:
            return list(own)
    except (KeyError, TypeError, ValueError):
        return present
    return present


def wanted(plan: PlanView, action: Action, view: RolloutView | None) -> tuple[Raw, Steps]:
    """The fields that the action sets, and how far its steps go. Raises CannotDeploy.

    Once it has set them the same comes out of it, so that a plan that was interrupted knows its hold again.
    """
    deploy = action.deploy
    assert deploy is not None
    if view is None and deploy.rollout is None:
        raise CannotDeploy(
            "RolloutNotFound",
            f"deploy.target is {deploy.target!r}: expected a ModelRollout {deploy.rollout_name} in this namespace, "
            "or deploy.rollout to make one of",
        )
    if view is not None:
        _refuse_leftovers(deploy, view)
    partial = deploy.environment is Environment.SHADOW or (deploy.percent or 100) < 100
    if partial and (view is None or view.status.stable_revision is None):
        raise CannotDeploy(
            "NothingStable",
            f"{deploy.rollout_name} has no stable version yet: its first version goes live at once, not to a share",
        )
    spec = copy.deepcopy(deploy.rollout or {}) if view is None else {}
    own = own_steps(view) if view else list(spec.get("steps") or [])
    steps = steps_for(deploy, own)
    annotations = {
        naming.BY_PLAN: plan.name,
        naming.BY_ACTION: naming.marker(plan.uid, action.id),
    }
    if plan.status.run_id:
        annotations[names.PARENT_RUN] = plan.status.run_id
    if steps.hold is not None:
        annotations[naming.OWN_STEPS] = json.dumps({"own": own, "held": steps.raw}, separators=(",", ":"))
    spec |= {"model": deploy.model.model_dump(mode="json", by_alias=True, exclude_none=True), "steps": steps.raw}
    _set_template(spec, deploy, view)
    _set_manifest(spec, deploy, view)
    is_mine = view is not None and view.annotations.get(naming.BY_ACTION) == annotations[naming.BY_ACTION]
    if view is not None and steps.hold is not None and not is_mine:
        _refuse_to_go_back(deploy, view, steps.hold, spec)
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "ModelRollout",
        "metadata": {"name": deploy.rollout_name, "namespace": plan.namespace, "annotations": annotations},
        "spec": spec,
    }
    return manifest, steps


def _refuse_leftovers(deploy: Deploy, view: RolloutView) -> None:
    """Server-side apply leaves what others have set: the new version would have the old one's run or alias."""
    now, wanted_ = view.spec.model, deploy.model
    for name, value, new in (("runId", now.run_id, wanted_.run_id), ("alias", now.alias, wanted_.alias)):
        if value is not None and new is None:
            message = f"ModelRollout {view.name} has model.{name} {value}, of the version before: expected one here too"
            raise CannotDeploy("ModelIncomplete", message)


def _refuse_to_go_back(deploy: Deploy, view: RolloutView, hold: int, spec: Raw) -> None:
    """A deployment keeps its place in the list when steps are edited: behind the hold nothing would hold it."""
    step, deployment = view.status.step, view.status.deployment
    if step is None or deployment is None or step.index <= hold:
        return
    changes = {"model": deploy.model, "template": spec.get("template", view.spec.template)}
    if names.revision_of(view.spec.model_copy(update=changes)) == deployment.revision:
        message = f"{deployment.id} is in {step.name} already: expected a target further on, or an abort first"
        raise CannotDeploy("AlreadyFurther", message)


def _set_template(spec: Raw, deploy: Deploy, view: RolloutView | None) -> None:
    """What plans once set must be said again: server-side apply takes away what its manager leaves out."""
    base = spec.get("template") if view is None else view.raw_spec.get("template")
    if deploy.template is not None:
        spec["template"] = merged(base or {}, deploy.template)
    elif view is not None and "template" in view.by_plans:
        spec["template"] = copy.deepcopy(base)


def _set_manifest(spec: Raw, deploy: Deploy, view: RolloutView | None) -> None:
    if deploy.candidate_manifest is not None:
        spec["preflight"] = {**(spec.get("preflight") or {}), "manifest": deploy.candidate_manifest}
    elif view is not None and "preflight" in view.by_plans and view.spec.preflight:
        spec["preflight"] = {"manifest": view.spec.preflight.manifest}


def merged(base: Any, patch: Any) -> Any:
    """The patch merged into the base: objects by key, lists of named things by name, null takes a key away."""
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        kept = {key: copy.deepcopy(value) for key, value in base.items() if key not in patch}
        return kept | {key: merged(base.get(key), value) for key, value in patch.items() if value is not None}
    if _is_named(base) and _is_named(patch):
        found = {item["name"]: item for item in base}
        for item in patch:
            found[item["name"]] = merged(found.get(item["name"]), item)
        return copy.deepcopy(list(found.values()))
    return copy.deepcopy(patch)


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) and "name" in item for item in value)
