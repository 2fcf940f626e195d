"""The operator as the chart installs it."""

from __future__ import annotations

import time
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
    """Pods that were killed before this test are waited for, and so is an election under way."""
    namespace = f"--namespace={installed.OPERATOR_NAMESPACE}"
    kubectl("rollout", "status", f"deployment/{installed.RELEASE}", namespace, "--timeout=90s", timeout=100)
    deadline = time.monotonic() + 30
    leading: list[str] = []
    while len(leading) != 1 and time.monotonic() < deadline:
        leading = [pod for pod in operator_pods() if "ops_commander_is_leader 1.0" in operator_metrics(pod)]
    assert len(operator_pods()) == 2
    assert len(leading) == 1
    holder = kubectl("get", "lease/ops-commander", namespace, "--output=jsonpath={.spec.holderIdentity}")
    assert leading == [holder]
