"""A plan's objects in the cluster: read into views, and effects carried out on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ops_commander.adapters.kubernetes import Conflict, KubernetesApi
from ops_commander.api.action_plan import ActionPlanStatus
from ops_commander.api.fields import parse_time
from ops_commander.api.v1alpha1 import API_VERSION, ModelRollout
from ops_commander.core import names
from ops_commander.core.plans import naming
from ops_commander.core.plans.observed import (
    AbortRollout,
    ApplyRollout,
    CreateJob,
    DeleteJob,
    JobState,
    JobView,
    RolloutView,
)

ObjectEffect = ApplyRollout | AbortRollout | CreateJob | DeleteJob


class Unreadable(Exception):
    """An object is there, but is not what it should be; the text says why."""


class PlanObjects:
    """The adapter between a plan and the objects that it works by."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api

    async def plan(self, namespace: str, name: str) -> dict[str, Any] | None:
        return await self._api.find("ActionPlan", namespace, name)

    async def plans(self, namespace: str | None, selector: str = "") -> list[tuple[str, str]]:
        items = await self._api.list("ActionPlan", namespace, selector=selector)
        return [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items]

    async def whole_rollout(self, namespace: str, name: str) -> ModelRollout | None:
        """Raises Unreadable for one that the models refuse."""
        found = await self._found(namespace, name)
        return found[1] if found else None

    async def _found(self, namespace: str, name: str) -> tuple[dict[str, Any], ModelRollout] | None:
        body = await self._api.find("ModelRollout", namespace, name)
        if body is None:
            return None
        try:
            return body, ModelRollout.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise Unreadable(f"ModelRollout {name}: {place}: {first['msg']}") from error

    async def rollout(self, namespace: str, name: str) -> RolloutView | None:
        """Raises Unreadable for one that the models refuse."""
        found = await self._found(namespace, name)
        if found is None:
            return None
        body, rollout = found
        metadata = rollout.metadata
        return RolloutView(
            name=name,
            generation=metadata.get("generation", 1),
            annotations=metadata.get("annotations") or {},
            spec=rollout.spec,
            status=rollout.status,
            raw_spec=body["spec"],
            by_plans=_fields_of_plans(metadata),
        )

    async def policy(self, namespace: str, name: str) -> dict[str, Any] | None:
        return await self._api.find("RolloutPolicy", namespace, name)

    async def job(self, namespace: str, name: str) -> JobView | None:
        body = await self._api.find("Job", namespace, name)
        return job_view(body) if body else None

    async def pod_template(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The template of a core/v1 PodTemplate."""
        body = await self._api.find("PodTemplate", namespace, name)
        return body.get("template") if body else None

    async def commit(self, namespace: str, name: str, resource_version: str, status: ActionPlanStatus) -> None:
        """Write status if nobody has changed the plan since it was read; Conflict otherwise."""
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "ActionPlan",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": resource_version},
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        await self._api.apply(manifest, subresource="status")

    async def carry_out(self, namespace: str, effect: ObjectEffect) -> None:
        """Do it; it may have been done before. Raises Invalid where the API server refuses the object."""
        if isinstance(effect, ApplyRollout):
            await self._api.apply(effect.manifest, manager=naming.FIELD_MANAGER)
        elif isinstance(effect, AbortRollout):
            order = {"metadata": {"annotations": {names.ABORT: effect.deployment_id}}}
            await self._api.merge("ModelRollout", namespace, effect.name, order)
        elif isinstance(effect, DeleteJob):
            await self._api.delete("Job", namespace, effect.name)
        else:
            try:
                await self._api.create("Job", namespace, effect.manifest)
            except Conflict:
                return  # it is there: whose it is, is looked at next


def job_view(body: Mapping[str, Any]) -> JobView:
    """A batch/v1 Job as a plan sees it."""
    metadata, status = body["metadata"], body.get("status") or {}
    owners = metadata.get("ownerReferences") or []
    true = {item["type"]: item for item in status.get("conditions") or [] if item.get("status") == "True"}
    ended, state = true.get("Complete"), JobState.SUCCEEDED
    if ended is None:
        ended, state = true.get("Failed"), JobState.FAILED
    if ended is None:
        state, message = JobState.RUNNING, f"{status.get('active', 0)} pod(s) active"
    else:
        message = ": ".join(filter(None, (ended.get("reason"), ended.get("message")))) or state.value
    return JobView(
        name=metadata["name"],
        plan_uid=next((owner["uid"] for owner in owners if owner.get("kind") == "ActionPlan"), None),
        state=state,
        message=message,
        seconds=_seconds(status.get("startTime"), ended),
    )


def _seconds(started: str | None, ended: Mapping[str, Any] | None) -> float | None:
    if not started or not ended or not ended.get("lastTransitionTime"):
        return None
    return (parse_time(ended["lastTransitionTime"]) - parse_time(started)).total_seconds()


def _fields_of_plans(metadata: Mapping[str, Any]) -> frozenset[str]:
    """Fields of spec that server-side apply of a plan would take away if they were left out."""
    entries = metadata.get("managedFields") or []
    mine = [item for item in entries if item.get("manager") == naming.FIELD_MANAGER]
    fields = (key for item in mine for key in (item.get("fieldsV1") or {}).get("f:spec") or {})
    return frozenset(key.removeprefix("f:") for key in fields)
