"""The harness itself: who may do what, and what is served."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kubernetes.aio import client

from tests.integration import controlplane
from tests.integration.controlplane import ApiServer, client_for


async def test_a_restricted_user_may_do_what_a_role_gives(api_server: ApiServer, namespace: str) -> None:
    where = ("ops-commander.dev", "v1alpha1", namespace, "modelrollouts")
    async with client_for(api_server, "viewer") as viewer:
        api = client.CustomObjectsApi(viewer)
        with pytest.raises(client.ApiException) as refused:
            await api.list_namespaced_custom_object(*where)
        assert refused.value.status == 403

        api_server.kubectl("create", "role", "see", "--verb=list", "--resource=modelrollouts", "-n", namespace)
        api_server.kubectl("create", "rolebinding", "see", "--role=see", "--user=viewer", "-n", namespace)
        # The authorizer learns of a binding through a watch.
        may = ("auth", "can-i", "list", "modelrollouts", "-n", namespace)
        deadline = time.monotonic() + 10
        while api_server.kubectl(*may, user="viewer", check=False).returncode:
            assert time.monotonic() < deadline

        await api.list_namespaced_custom_object(*where)


@pytest.mark.usefixtures("gateway_api")
def test_gateway_api_is_served(api_server: ApiServer, namespace: str) -> None:
    found = api_server.kubectl("get", "httproutes.gateway.networking.k8s.io", "-n", namespace)

    assert "No resources found" in found.stderr


@pytest.mark.skipif(
    not (controlplane.cache() / "bin" / "kube-controller-manager").exists(),
    reason="its binary is optional",
)
@pytest.mark.usefixtures("controller_manager")
def test_a_controller_manager_ends_namespaces(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("delete", "namespace", namespace, "--wait=false")

    api_server.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=40s")


def test_absent_binaries_are_named_with_the_way_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_COMMANDER_CACHE", str(tmp_path))

    with pytest.raises(controlplane.ControlPlaneError, match="make binaries"):
        controlplane.cached("bin", "etcd")
