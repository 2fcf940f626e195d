"""The way into the kind cluster: its API server, its Gateway and its Prometheus, all from the host."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from benchmarks.api import Api
from hack.cluster import addons, state
from hack.demo import installed

_ACCOUNT = "bench-felt"
_ADMIN = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": _ACCOUNT},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": "default"}],
}


@dataclass(frozen=True, slots=True)
class Access:
    api: Api
    prometheus: aiohttp.ClientSession
    gateway: str
    """URL of the shared Gateway's proxy."""


@asynccontextmanager
async def access(record: state.State) -> AsyncIterator[Access]:
    """An account of its own, which goes again with the block."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _ACCOUNT, "namespace": "default"}}
    installed.apply(account)
    installed.apply(_ADMIN)
    urls = addons.urls(record)
    cluster = yaml.safe_load(state.kubeconfig(record.name).read_text())["clusters"][0]["cluster"]
    try:
        token = installed.kubectl("create", "token", _ACCOUNT, "--namespace=default", "--duration=6h").strip()
        with tempfile.TemporaryDirectory(prefix="ops-commander-felt-") as folder:
            ca = Path(folder) / "ca.crt"
            ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
            async with Api(cluster["server"], ca, token) as api, aiohttp.ClientSession(urls["prometheus"]) as session:
                yield Access(api, session, urls["gateway"])
    finally:
        installed.kubectl("delete", f"clusterrolebinding/{_ACCOUNT}", "--ignore-not-found")
        installed.kubectl("delete", f"serviceaccount/{_ACCOUNT}", "--namespace=default", "--ignore-not-found")
