"""Fixtures on a real API server. `controlplane.py` says how it runs."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client

from tests.integration import controlplane
from tests.integration.controlplane import ApiServer, ControlPlaneError, client_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API server for the whole session, with the project's CRDs established."""
    folder = tmp_path_factory.mktemp("control-plane")
    try:
        with controlplane.running(folder) as server:
            apply_crds(server, ROOT / "crds")
            yield server
    except ControlPlaneError as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        # etcd preallocates its log: pytest keeps the folders of three sessions, and only logs are worth that.
        shutil.rmtree(folder / "etcd", ignore_errors=True)


@pytest.fixture(scope="session")
def gateway_api(api_server: ApiServer) -> None:
    """The CRDs of Gateway API are established."""
    try:
        apply_crds(api_server, controlplane.cached("share", "gateway-api", "gateway-api-crds.yaml"))
    except ControlPlaneError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def controller_manager(api_server: ApiServer) -> Iterator[None]:
    """kube-controller-manager runs from here to the end of the session."""
    try:
        with controlplane.controller_manager(api_server):
            yield
    except ControlPlaneError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
async def kube(api_server: ApiServer) -> AsyncIterator[client.ApiClient]:
    """The admin's client."""
    async with client_for(api_server, "admin") as api:
        yield api


@pytest.fixture
async def namespace(kube: client.ApiClient) -> str:
    """A fresh namespace. It stays: the server goes at the end, and deleting one takes a controller manager."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    await client.CoreV1Api(kube).create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    return name


def apply_crds(server: ApiServer, path: Path) -> None:
    """Apply the CRDs at `path` server-side and wait until their objects can be read; a warning is an error."""
    applied = server.kubectl("apply", "--server-side", "-o", "name", "-f", str(path))
    assert "Warning" not in applied.stderr, applied.stderr
    crds = [name for name in applied.stdout.split() if name.startswith("customresourcedefinition")]
    server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds)
    # Established still answers 429 while the storage starts; kubectl tries again as it is told to.
    server.kubectl("get", ",".join(name.partition("/")[2] for name in crds), "--all-namespaces", "-o", "name")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test shows the ends of the control plane's logs."""
    report = yield
    server = getattr(item, "funcargs", {}).get("api_server")
    if report.failed and isinstance(server, ApiServer):
        report.sections += [(f"end of {name}", text) for name, text in server.log_tails().items()]
    return report
