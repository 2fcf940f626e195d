"""The operator as the chart installs it."""

from __future__ import annotations

from pathlib import Path

from hack.cluster.commands import output
from hack.cluster.workspace import bin_folder
from hack.demo import installed
from hack.demo.installed import kubectl
from tests.e2e.shop import operator_metrics, operator_pods


def test_helm_test_passes(cluster: None) -> None:
    argv: list[str | Path] = [
        bin_folder() / "helm",
        "test",
        installed.RELEASE,
        "--namespace",
        installed.OPERATOR_NAMESPACE,
    ]
    assert "Succeeded" in output(argv, timeout=120, env=installed.environment())


def test_one_of_two_replicas_leads(cluster: None) -> None:
    namespace = f"--namespace={installed.OPERATOR_NAMESPACE}"
    kubectl(
        "wait", "--for=condition=Available", f"deployment/{installed.RELEASE}", namespace, "--timeout=60s", timeout=70
    )
    pods = operator_pods()
    assert len(pods) == 2
    leading = [pod for pod in pods if "ops_commander_is_leader 1.0" in operator_metrics(pod)]
    assert len(leading) == 1
    holder = kubectl("get", "lease/ops-commander", namespace, "--output=jsonpath={.spec.holderIdentity}")
    assert leading == [holder]
