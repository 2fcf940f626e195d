"""What only a real Prometheus can tell: that readings are what it has stored, tick by tick."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import pytest

from ops_commander.adapters.prometheus import Access, Prometheus
from ops_commander.core.promql import PodLabels, check, scoped, unscoped, with_matchers
from ops_commander.core.samples import Owner, Reading, Sample, tick_at_or_after
from ops_commander.runtime import clock
from tests.integration.prometheus_server import PrometheusServer, Target, scrape, target

SECOND = timedelta(seconds=1)
RANKER, OTHER = ("shop", "ranker-abc"), ("mall", "ranker-abc")
PODS = {
    "ranker-abc-1": {"namespace": "shop", "pod": "ranker-abc-1x"},
    "ranker-abc-2": {"namespace": "shop", "pod": "ranker-abc-2x"},
    "ranker-abcd": {"namespace": "shop", "pod": "ranker-abcd-1x"},
    "other": {"namespace": "mall", "pod": "ranker-abc-1x"},
}
HISTOGRAM = """\
# TYPE answer_seconds histogram
answer_seconds_bucket{le="0.1"} 3
answer_seconds_bucket{le="0.5"} 7
answer_seconds_bucket{le="+Inf"} 10
answer_seconds_sum 4.5
answer_seconds_count 10
"""
PER_ENDPOINT = (
    'label_replace(envoy_cluster_endpoint_rq_total{$labels}, "pod_ip", "$1", "envoy_endpoint_address", '
    '"\\\\[?([^]]+)\\\\]?:[0-9]+") * on (pod_ip) group_left (namespace, pod) '
    'topk by (pod_ip) (1, group by (pod_ip, namespace, pod) (kube_pod_info{$scope,pod_ip!="",host_network="false"}))'
)


@dataclass(frozen=True, slots=True)
class Shop:
    prometheus: PrometheusServer
    pods: dict[str, Target]
    native: Target
    renamed: Target
    platform: Target


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as stack:
        pods = {name: stack.enter_context(target(f'requests_total{{code="200"}} {len(name)}\n')) for name in PODS}
        native, renamed, platform = (stack.enter_context(target(text)) for text in (HISTOGRAM, "x_total 1\n", "y 1\n"))
        configs = [
            scrape("pods", {pods[name].address: labels for name, labels in PODS.items()}),
            scrape(
                "native",
                {native.address: {"namespace": "shop", "pod": "native-abc-1x"}},
                convert_classic_histograms_to_nhcb=True,
            ),
            scrape("renamed", {renamed.address: {"kubernetes_namespace": "shop", "kubernetes_pod": "ranker-abc-1x"}}),
            scrape("platform", {platform.address: {"namespace": "gateway", "pod": "envoy-1"}}, honor_labels=True),
        ]
        server = stack.enter_context(PrometheusServer.start(folder, configs))
        yield Shop(server, pods, native, renamed, platform)


def run(server: PrometheusServer, promql: str, at: datetime, **access: Any) -> Reading:
    (reading,) = run_range(server, promql, at, at, instant=True, **access)
    return reading


def run_range(
    server: PrometheusServer, promql: str, start: datetime, end: datetime, *, instant: bool = False, **access: Any
) -> list[Reading]:
    async def ask() -> list[Reading]:
        prometheus = Prometheus(Access(server.url, **access))
        try:
            if instant:
                return [await prometheus.query(promql, start + number * SECOND) for number in range(_ticks(start, end))]
            return await prometheus.query_range(promql, start, end, SECOND)
        finally:
            prometheus.close()

    return asyncio.run(ask())


def _ticks(start: datetime, end: datetime) -> int:
    return (end - start) // SECOND + 1


def tick() -> datetime:
    """A whole second that has come after everything that was seen so far."""
    at = tick_at_or_after(clock.now(), SECOND)
    time.sleep((at - clock.now()).total_seconds() + 0.01)
    return at


def wait_for(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.2)


def samples(reading: Reading, owner: Owner) -> dict[str, list[float]]:
    return {pod: [sample.value for sample in of] for pod, of in reading.of(owner).items()}


def test_a_range_says_the_same_as_an_instant_query_at_each_tick(shop: Shop) -> None:
    pod = shop.pods["ranker-abc-1"]
    for value in (0.1, 0.30000000000000004, 1e17, 12345678.9):
        pod.text = f'requests_total{{code="200"}} {value!r}\nrequests_total{{code="500"}} 1\n{HISTOGRAM}'
        shop.prometheus.wait_for(f'requests_total{{pod="ranker-abc-1x",code="200"}} == {value!r}')
    end = tick()
    start = end - 8 * SECOND
    for query in ('{__name__=~"requests_total|answer_seconds_.+"}', "answer_seconds"):
        by_range = run_range(shop.prometheus, query, start, end)
        assert by_range == run_range(shop.prometheus, query, start, end, instant=True)
        assert [reading.at for reading in by_range] == [start + number * SECOND for number in range(9)]
    values = {
        sample.value
        for reading in run_range(shop.prometheus, "requests_total", start, end)
        for sample in reading.of(RANKER).get("ranker-abc-1x", ())
    }
    assert {0.30000000000000004, 1e17, 12345678.9} <= values


def test_ticks_before_there_was_anything_have_no_rows(shop: Shop) -> None:
    shop.prometheus.wait_for("requests_total")
    end = tick()
    readings = run_range(shop.prometheus, "requests_total", end - timedelta(hours=2), end)
    assert len(readings) == 7201 and not readings[0].rows and readings[-1].of(RANKER)


def test_the_lookback_hides_what_no_scrape_has_confirmed(shop: Shop) -> None:
    """A sample with a time of its own is never marked as stale; without a lookback it stands for five minutes."""
    sampled = tick() - 20 * SECOND
    text = f"old_total 5 {int(sampled.timestamp() * 1000)}\n"
    shop.pods["ranker-abcd"].text += text
    owner = ("shop", "ranker-abcd")
    wait_for("the old sample", lambda: bool(run(shop.prometheus, "old_total", sampled + SECOND).of(owner)))
    later = sampled + 10 * SECOND
    for lookback, seen in ((3, False), (9, False), (11, True), (300, True)):
        at: dict[str, Any] = {"lookback": timedelta(seconds=lookback)}
        assert bool(run(shop.prometheus, "old_total", later, **at).rows) is seen
        (reading,) = run_range(shop.prometheus, "old_total", later, later, **at)
        assert bool(reading.rows) is seen


def test_a_stopped_target_is_absent_at_once(shop: Shop) -> None:
    pod, owner = shop.pods["other"], OTHER
    shop.prometheus.wait_for('requests_total{namespace="mall"}')
    text, pod.text = pod.text, ""
    try:
        wait_for("absence", lambda: not run(shop.prometheus, "requests_total", clock.now()).of(owner))
    finally:
        pod.text = text


def test_a_reset_is_told_raw(shop: Shop) -> None:
    pod = shop.pods["ranker-abc-2"]
    for value in (100, 4):
        pod.text = f"requests_total {value}\n"
        shop.prometheus.wait_for(f'requests_total{{pod="ranker-abc-2x"}} == {value}')
    end = tick()
    readings = run_range(shop.prometheus, "requests_total", end - 20 * SECOND, end)
    told = [values["ranker-abc-2x"] for reading in readings if "ranker-abc-2x" in (values := samples(reading, RANKER))]
    assert [value for value, _ in groupby(told)][-2:] == [[100.0], [4.0]]


def test_a_native_histogram_comes_with_its_buckets(shop: Shop) -> None:
    owner = "shop", "native-abc"
    query = 'answer_seconds{pod="native-abc-1x"}'
    wait_for("the histogram", lambda: bool(run(shop.prometheus, query, clock.now()).of(owner)))
    ((sample,),) = run(shop.prometheus, query, clock.now()).of(owner).values()
    assert sample.value == 10
    assert sample.buckets == ((float("-inf"), 0.1, 3.0), (0.1, 0.5, 4.0), (0.5, float("inf"), 3.0))


def test_a_classic_histogram_comes_by_edge(shop: Shop) -> None:
    pod = shop.pods["ranker-abc-1"]
    pod.text += HISTOGRAM if "answer_seconds" not in pod.text else ""
    query = "answer_seconds_bucket"
    wait_for("the histogram", lambda: bool(run(shop.prometheus, query, clock.now()).of(RANKER)))
    found: tuple[Sample, ...] = run(shop.prometheus, query, clock.now()).of(RANKER)["ranker-abc-1x"]
    assert {(sample.edge, sample.value) for sample in found} == {(0.1, 3.0), (0.5, 7.0), (float("inf"), 10.0)}


def test_the_labels_that_name_a_pod_may_have_other_names(shop: Shop) -> None:
    shop.prometheus.wait_for("x_total")
    labels = PodLabels("kubernetes_namespace", "kubernetes_pod")
    query = scoped("x_total", namespace="shop", pod_prefix="ranker-abc", labels=labels)
    assert samples(run(shop.prometheus, query, clock.now(), labels=labels), RANKER) == {"ranker-abc-1x": [1.0]}
    assert not run(shop.prometheus, "x_total", clock.now()).rows


@pytest.mark.parametrize(
    "query",
    [
        "requests_total",
        "sum by (namespace, pod) (requests_total) + requests_total or requests_total",
        'requests_total{code=`200`} or {__name__=~"requests_.+",pod=~".+"}',
    ],
)
def test_a_scoped_query_gives_own_pods_alone(shop: Shop, query: str) -> None:
    shop.prometheus.wait_for('count(requests_total{code="200"} or requests_total) >= 4')
    check(query)
    assert set(run(shop.prometheus, unscoped(query), clock.now()).rows) >= {RANKER, OTHER, ("shop", "ranker-abcd")}
    reading = run(shop.prometheus, scoped(query, namespace="shop", pod_prefix="ranker-abc"), clock.now())
    assert set(reading.rows) == {RANKER} and len(reading.of(RANKER)) == 2


def test_a_query_may_be_scoped_to_several_namespaces(shop: Shop) -> None:
    shop.prometheus.wait_for('count(requests_total{code="200"} or requests_total) >= 4')
    places = ["shop", OTHER[0], "a.b"]
    everything = run(shop.prometheus, scoped("requests_total", namespace=places), clock.now())
    assert set(everything.rows) >= {RANKER, OTHER, ("shop", "ranker-abcd")}
    assert not run(shop.prometheus, scoped("requests_total", namespace=["sho.", "a.b"]), clock.now()).rows
    named = scoped("requests_total", namespace=places, pod_prefix=["ranker-abc", "nobody"])
    assert set(run(shop.prometheus, named, clock.now()).rows) == {RANKER, OTHER}


HOSTILE = ['a"b', "a\\b", "a\nb", "a.*b", "é😀", '"} or {__name__=~".+"} #', "$scope", "`", "", "x" * 2000]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_values_match_themselves_and_nothing_else(shop: Shop, hostile: str) -> None:
    escaped = [value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in HOSTILE]
    lines = [f'hostile_total{{namespace="shop",pod="p-{i}",value="{value}"}} 1\n' for i, value in enumerate(escaped)]
    shop.platform.text = "".join(lines)
    query = scoped(with_matchers("hostile_total", {"value": hostile}), namespace="shop", pod_prefix="p")
    wait_for("the series", lambda: bool(run(shop.prometheus, query, clock.now()).rows))
    assert set(run(shop.prometheus, query, clock.now()).of(("shop", "p"))) == {f"p-{HOSTILE.index(hostile)}"}
    nobody = scoped("requests_total", namespace=hostile, pod_prefix=hostile)
    assert not run(shop.prometheus, nobody, clock.now()).rows


def test_counters_of_a_proxy_are_those_of_the_pods_behind_it(shop: Shop) -> None:
    shop.platform.text = (
        'envoy_cluster_endpoint_rq_total{envoy_cluster_name="httproute/shop/r/rule/0",'
        'envoy_endpoint_address="10.0.0.1:8080",instance="e1"} 5\n'
        'envoy_cluster_endpoint_rq_total{envoy_cluster_name="httproute/shop/r/rule/0",'
        'envoy_endpoint_address="10.0.0.1:8080",instance="e2"} 7\n'
        'envoy_cluster_endpoint_rq_total{envoy_cluster_name="httproute/mall/r/rule/0",'
        'envoy_endpoint_address="[fd00::2]:8080",instance="e1"} 9\n'
        'kube_pod_info{namespace="shop",pod="ranker-abc-1x",pod_ip="10.0.0.1",host_network="false"} 1\n'
        'kube_pod_info{namespace="shop",pod="done-1-x",pod_ip="10.0.0.1",host_network="true"} 1\n'
        'kube_pod_info{namespace="mall",pod="ranker-abc-1x",pod_ip="fd00::2",host_network="false"} 1\n'
    )
    shop.prometheus.wait_for("envoy_cluster_endpoint_rq_total")
    everything = run(shop.prometheus, unscoped(PER_ENDPOINT), clock.now())
    assert samples(everything, RANKER) == {"ranker-abc-1x": [5.0, 7.0]}
    assert samples(everything, OTHER) == {"ranker-abc-1x": [9.0]}
    query = with_matchers(PER_ENDPOINT, {"envoy_cluster_name": "httproute/shop/r/rule/0"})
    own = run(shop.prometheus, scoped(query, namespace="shop", pod_prefix="ranker-abc"), clock.now())
    assert set(own.rows) == {RANKER} and samples(own, RANKER) == {"ranker-abc-1x": [5.0, 7.0]}
