"""The kind cluster with the operator, brought up once; a namespace with load for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from kubernetes import config

from hack.demo import installed
from tests.e2e.digits import DigitsShop
from tests.e2e.shop import Shop, fresh_namespace


@pytest.fixture(scope="session")
def cluster() -> None:
    """Cluster, images and operator, or what is there as it is with OPS_COMMANDER_AS_IS=1."""
    if not os.environ.get("OPS_COMMANDER_AS_IS"):
        installed.ensure()
    config.load_kube_config(installed.environment()["KUBECONFIG"])


@pytest.fixture
def shop(cluster: None, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A namespace of its own, with a load of 80 req/s unless the test asks for another by `rate`."""
    marker = request.node.get_closest_marker("rate")
    made = Shop(fresh_namespace(), rate=marker.args[0] if marker else 80)
    made.set_up()
    try:
        yield made
    finally:
        if request.session.testsfailed:
            print(installed.kubectl("describe", "mro", f"--namespace={made.namespace}")[-6000:])
            print(installed.operator_log(60))
        made.tear_down()


@pytest.fixture
def digits(cluster: None, request: pytest.FixtureRequest) -> Iterator[DigitsShop]:
    """The same with real models: a load of 40 images a second."""
    made = DigitsShop(fresh_namespace())
    made.set_up()
    try:
        yield made
    finally:
        if request.session.testsfailed:
            print(installed.kubectl("describe", "mro,pods", f"--namespace={made.namespace}")[-9000:])
            print(installed.operator_log(60))
        made.tear_down()
