"""A rollout's objects in the cluster: as the watches know them or read anew, and actions carried out on them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ops_commander.adapters import cluster_jobs
from ops_commander.adapters.kubernetes import Invalid, KubernetesApi, NotFound
from ops_commander.adapters.surroundings import LABELS, KnownObjects, Surroundings, Wanted
from ops_commander.api.v1alpha1 import API_VERSION, ModelRolloutStatus
from ops_commander.core import names
from ops_commander.core.desired import Action, Apply, Delete, NoteVote, Scale, SetFinalizers, SetOwner, SteerRoute
from ops_commander.core.snapshot import ComparerView, Manifest


class Cluster:
    """The adapter between a rollout and the objects that make it real."""

    def __init__(self, api: KubernetesApi, known: KnownObjects | None = None) -> None:
        self._api = api
        self._known = known or KnownObjects()

    async def rollout(self, namespace: str, name: str) -> dict[str, Any] | None:
        return await self._api.find("ModelRollout", namespace, name)

    async def rollout_versions(self, namespace: str | None, selector: str = "") -> dict[tuple[str, str], str]:
        """Namespace, name and resource version of all that a label selector matches."""
        found: dict[tuple[str, str], str] = {}
        async for page in self._api.pages("ModelRollout", namespace, selector, names_only=True):
            for item in page.items:
                metadata = item["metadata"]
                found[metadata["namespace"], metadata["name"]] = metadata["resourceVersion"]
        return found

    async def surroundings(self, namespace: str, rollout: str, wanted: Wanted, *, anew: bool = False) -> Surroundings:
        """As the watches have told, or read anew. Raises ApiError if any of it cannot be read: a half view decides
        nothing."""
        if anew:
            await self._refresh(namespace, rollout, wanted)
        around = self._known.surroundings(namespace, rollout, wanted)
        test_jobs, comparer = await asyncio.gather(
            cluster_jobs.jobs(self._api, namespace, rollout) if wanted.test_jobs else _nothing(),
            self._comparer(namespace, rollout) if wanted.comparer else _nothing(),
        )
        return replace(around, test_jobs=test_jobs or {}, comparer=comparer)

    async def _refresh(self, namespace: str, rollout: str, wanted: Wanted) -> None:
        """Read each object by its name: a list by label costs the API server a look at all pods of the namespace.

        What came into being a moment ago, and no watch has told of, is not seen: there are then fewer pods that serve.
        """
        services = (names.stable_service_name(rollout), names.candidate_service_name(rollout))
        asked = [("Service", name) for name in services]
        asked += [("HTTPRoute", name) for name in {wanted.route, rollout}]
        asked += [("RolloutPolicy", wanted.policy)] if wanted.policy else []
        asked += [("ReplicaSet", name) for name in self._known.names("ReplicaSet", namespace, rollout)]
        asked += [
            ("EndpointSlice", name) for of in services for name in self._known.names("EndpointSlice", namespace, of)
        ]
        found = await asyncio.gather(*(self._api.find(kind, namespace, name) for kind, name in asked))
        for (kind, name), item in zip(asked, found, strict=True):
            if item is None:
                self._known.drop(kind, namespace, name)
            else:
                self._known.take(item, kind)

    async def _comparer(self, namespace: str, rollout: str) -> ComparerView:
        labels = {names.COMPARER_OF: rollout}
        found, service = await asyncio.gather(
            self._api.list("ReplicaSet", namespace, labels),
            self._api.find("Service", namespace, names.comparer_service_name(rollout)),
        )
        ready = any((item.get("status") or {}).get("readyReplicas") for item in found)
        return ComparerView(tuple(item["metadata"]["name"] for item in found), service is not None, ready)

    async def test_log(self, namespace: str, job: str) -> str:
        """What a test Job's pods have said. Raises ApiError."""
        return await cluster_jobs.log_of(self._api, namespace, job)

    async def dry_run(self, manifest: Manifest) -> None:
        """Raises Invalid with the API server's words where it would refuse the object."""
        namespace = manifest["metadata"]["namespace"]
        probe = {**manifest, "metadata": {**manifest["metadata"], "name": None, "generateName": "dry-run-"}}
        del probe["metadata"]["name"]
        await self._api.create(manifest["kind"], namespace, probe, dry_run=True)

    async def carry_out(self, namespace: str, rollout: str, resource_version: str, action: Action) -> None:
        """Do one action; all of them may be repeated without harm."""
        if isinstance(action, NoteVote):
            await self._note(namespace, action)
        elif isinstance(action, Apply):
            try:
                self._wrote(action.manifest["kind"], await self._api.apply(action.manifest))
            except Invalid:
                if action.otherwise is None:
                    raise
                await self.carry_out(namespace, rollout, resource_version, action.otherwise)
        elif isinstance(action, Scale):
            await self._merge("ReplicaSet", namespace, action.name, {"spec": {"replicas": action.replicas}})
        elif isinstance(action, SteerRoute):
            patch = {"metadata": {"resourceVersion": action.resource_version}, "spec": {"rules": action.rules}}
            await self._merge("HTTPRoute", namespace, action.name, patch)
        elif isinstance(action, Delete):
            await self._api.delete(action.kind, namespace, action.name)
        elif isinstance(action, SetOwner):
            metadata = {"ownerReferences": action.owner_references}
            await self._merge("ReplicaSet", namespace, action.name, {"metadata": metadata})
        elif isinstance(action, SetFinalizers):
            finalizers = {"finalizers": list(action.finalizers), "resourceVersion": resource_version}
            await self._api.merge("ModelRollout", namespace, rollout, {"metadata": finalizers})

    async def _merge(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> None:
        try:
            self._wrote(kind, await self._api.merge(kind, namespace, name, patch))
        except NotFound:
            self._known.drop(kind, namespace, name)
            raise

    def _wrote(self, kind: str, item: Mapping[str, Any]) -> None:
        """What we wrote is known at once, and is no news when the watch tells of it."""
        if kind in LABELS:
            self._known.take(item, kind, quietly=True)

    async def votes(self, namespace: str, names_: Iterable[str]) -> list[dict[str, Any]]:
        """Those of the votes of these names that have been cast. Raises ApiError."""
        found = await asyncio.gather(*(self._api.find("Vote", namespace, name) for name in names_))
        return [vote for vote in found if vote is not None]

    async def _note(self, namespace: str, note: NoteVote) -> None:
        """The uid keeps the note off another vote that has come by the same name."""
        said = {"counted": note.counted, "reason": note.reason, "message": note.message}
        metadata = {"name": note.name, "namespace": namespace, "uid": note.uid}
        manifest = {"apiVersion": API_VERSION, "kind": "Vote", "metadata": metadata, "status": said}
        await self._api.apply(manifest, subresource="status")

    async def commit(
        self, namespace: str, name: str, resource_version: str, status: ModelRolloutStatus
    ) -> dict[str, Any]:
        """Write status if nobody has changed the object since it was read; the object as it is then.

        Raises Conflict otherwise.
        """
        manifest = {
            "apiVersion": "ops-commander.dev/v1alpha1",
            "kind": "ModelRollout",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": resource_version},
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        return await self._api.apply(manifest, subresource="status")


async def _nothing() -> None:
    return None
