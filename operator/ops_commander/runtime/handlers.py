"""The only room that knows kopf: it watches what users make, keeps rollouts known, and puts keys on the queue.

kopf drops deletions that fall into a gap of a watch, so what is known is held against a full list now and then. The
many objects around rollouts are followed by `adapters/reflector.py` (docs/adr/0016).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import kopf

from ops_commander.adapters.kubernetes_client import client
from ops_commander.api.v1alpha1 import GROUP, VERSION
from ops_commander.core.names import ROLLOUT_LABEL
from ops_commander.core.plans.naming import BY_PLAN
from ops_commander.runtime.rollouts import Rollouts
from ops_commander.runtime.served import Served
from ops_commander.runtime.workqueue import Key

log = logging.getLogger(__name__)


class Stateless(kopf.DiffBaseStorage, kopf.ProgressStorage):
    """Keeps kopf from writing anything: no annotations, no status, no finalizers."""

    def build(self, *, body: Any, extra_fields: Any = None, ignored_fields: Any = None) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is stored."""

    def purge(self, **_: Any) -> None:
        """Nothing was stored."""

    def touch(self, **_: Any) -> None:
        """Nothing is touched."""

    def clear(self, *, essence: Any) -> Any:
        return essence


def settings(selector: str = "") -> kopf.OperatorSettings:
    """kopf as an informer: nothing posted, nothing stored, quick to notice a broken watch."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.watching.reconnect_backoff = 0.5
    chosen.watching.chunk_size = 50  # whole rollouts that wait in memory for their handler
    chosen.watching.label_selectors["jobs"] = ROLLOUT_LABEL  # at the server: the cluster has many more of them
    if selector:  # an object that comes to match, or no longer does, comes as one that was added or deleted
        chosen.watching.label_selectors[GROUP, "modelrollouts"] = selector
        chosen.watching.label_selectors[GROUP, "actionplans"] = selector
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = (0.5, 1, 2, 4, 8, 8, 8, 8)
    chosen.queueing.idle_timeout = 1.0
    chosen.persistence.diffbase_storage = Stateless()
    chosen.persistence.progress_storage = Stateless()
    chosen.persistence.finalizer = f"{GROUP}/never-used"
    return chosen


def registry(rollouts: Rollouts, enqueue: Callable[[Key], None], heard: Callable[[], None]) -> kopf.OperatorRegistry:
    """Watches of what users make: it may change a decision."""
    watched = kopf.OperatorRegistry()

    @kopf.on.event(GROUP, VERSION, "modelrollouts", registry=watched)
    async def rollout_changed(event: kopf.RawEvent, namespace: str | None, name: str, **_: Any) -> None:
        heard()
        key = (namespace or "", name)
        if event["type"] == "DELETED":
            rollouts.discard(key, int(event["object"]["metadata"]["resourceVersion"]))
            enqueue(key)
        elif rollouts.take(cast(Mapping[str, Any], event["object"])):  # not the echo of our own write
            enqueue(key)

    @kopf.on.event("batch", "v1", "jobs", labels={ROLLOUT_LABEL: kopf.PRESENT}, registry=watched)
    async def job_changed(namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        heard()
        key = (namespace or "", labels[ROLLOUT_LABEL])
        if key in rollouts:
            enqueue(key)

    @kopf.on.event(GROUP, VERSION, "votes", registry=watched)
    async def vote_cast(namespace: str | None, spec: Mapping[str, Any], **_: Any) -> None:
        heard()
        key = (namespace or "", str(spec.get("rollout")))
        if key in rollouts:
            enqueue(key)

    return watched


def watch_plans(watched: kopf.OperatorRegistry, plans: Served, enqueue: Callable[[Key], None]) -> None:
    """Watches of action plans, and of the rollouts that they have brought a version to.

    Of rollouts that another process serves nothing is heard: a plan looks at what it waits for by itself as well.
    """

    @kopf.on.event(GROUP, VERSION, "actionplans", registry=watched)
    async def plan_changed(type: str, namespace: str | None, name: str, **_: Any) -> None:
        key = (namespace or "", name)
        plans.discard(key) if type == "DELETED" else plans.add(key)
        enqueue(key)

    @kopf.on.event(GROUP, VERSION, "modelrollouts", annotations={BY_PLAN: kopf.PRESENT}, registry=watched)
    async def plans_rollout_changed(namespace: str | None, annotations: Mapping[str, str], **_: Any) -> None:
        enqueue((namespace or "", annotations[BY_PLAN]))


def log_in(registered: kopf.OperatorRegistry, configuration: client.Configuration) -> None:
    """kopf uses the very credentials that the rest of the process has, read anew when they are refused."""

    @kopf.on.login(registry=registered)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        token = await configuration.get_api_key_with_prefix("BearerToken")
        scheme, _space, value = str(token or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme=scheme or ("Bearer" if value else None),
            token=value or None,
        )


async def watch(
    registered: kopf.OperatorRegistry,
    namespaces: tuple[str, ...],
    identity: str,
    ready: asyncio.Event,
    selector: str = "",
) -> None:
    """Run the watches until cancelled; `ready` is set once they start. Ends when one cannot be kept up."""
    await kopf.operator(
        registry=registered,
        settings=settings(selector),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
        identity=cast(Any, identity),  # else kopf asks for the name of a user that the image does not have
    )
