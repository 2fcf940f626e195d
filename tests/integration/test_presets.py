"""What only a real Prometheus can tell of the presets: that increments come out as they went in, pod by pod."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from ops_commander.adapters.prometheus import Access, Prometheus
from ops_commander.api.presets import PRESETS, Latency
from ops_commander.core.counters import ArmCounters, Increments
from ops_commander.core.promql import scoped, unscoped
from ops_commander.core.samples import Reading, tick_at_or_after
from ops_commander.integration.outputs.findings import Kind
from ops_commander.runtime import clock
from tests.expositions import expositions, queries, server_of
from tests.integration.prometheus_server import PrometheusServer, Target, scrape, target

NAMESPACE = "shop"
SECOND = timedelta(seconds=1)
EXPOSITIONS = {name: text for name, text in expositions().items() if name != "envoy"}

Words = tuple[str, ...]
"""Series are named by regular expressions that are all found in their line."""


@dataclass(frozen=True, slots=True)
class Story:
    """What happens to a server between two ticks, and what its presets must say of it."""

    added: Mapping[Words, int] = field(default_factory=dict)
    observed: Mapping[Words, tuple[float, int]] = field(default_factory=dict)
    """Of buckets: the time, in the unit of their edges, and how many."""
    born: Sequence[tuple[Words, str, str, int]] = ()
    """A series that did not exist: which one it is like, a part of that and what stands there instead, its value."""
    says: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By measure: what each query has gained. Of a histogram: the time and how many."""

    def told(self, text: str) -> str:
        lines = text.splitlines()
        more: list[str] = []
        for words, part, other, value in self.born:
            more += [f"{_series(lines[at])} {value}".replace(part, other) for at in _named(lines, words)]
        for words, amount in self.added.items():
            for at in _named(lines, words):
                lines[at] = f"{_series(lines[at])} {_value(lines[at]) + amount!r}"
        for words, (seconds, count) in self.observed.items():
            for at in _named(lines, words):
                edge = re.search(r'[{,]le="([^"]+)"', lines[at])
                assert edge is not None, lines[at]
                if float(edge[1]) >= seconds:
                    lines[at] = f"{_series(lines[at])} {_value(lines[at]) + count!r}"
        assert not {_series(line) for line in more} & {_series(line) for line in lines}
        return "\n".join([*lines, *more, ""])


def _named(lines: Sequence[str], words: Words) -> list[int]:
    found = [at for at, line in enumerate(lines) if line[:1] != "#" and all(re.search(word, line) for word in words)]
    assert found, words
    return found


def _series(line: str) -> str:
    return line.rpartition(" ")[0]


def _value(line: str) -> float:
    return float(line.rpartition(" ")[2])


def of_http(label: str) -> Story:
    """With a label for the code, and no handler."""
    requests, latency = "http_requests_total{", "http_request_duration_seconds_bucket{"
    return Story(
        added={(requests, f'{label}="200"'): 100, (requests, f'{label}="500"'): 3},
        born=[((requests, f'{label}="500"'), '="500"', '="503"', 2)],
        observed={(latency, f'{label}="200"'): (0.3, 7)},
        says={"errors": (5, 105), "requests": (105,), "latency": (0.3, 7)},
    )


STORIES = {
    "http": Story(
        added={
            ("http_requests_total{", "/predict", "2xx"): 100,
            ("http_requests_total{", "/predict", "5xx"): 3,
            ("http_requests_total{", "/healthz"): 50,
        },
        born=[(("http_requests_total{", "/predict", "5xx"), "/predict", "/rank", 2)],
        observed={
            ("http_request_duration_seconds_bucket{", "/predict"): (0.3, 7),
            ("http_request_duration_seconds_bucket{", "/healthz"): (0.01, 50),
        },
        says={"errors": (5, 105), "requests": (105,), "latency": (0.3, 7)},
    ),
    "http.code": of_http("code"),
    "http.status_code": of_http("status_code"),
    "istio": Story(
        added={
            ("istio_requests_total{", '"destination"', 'response_code="200"', 'protocol="http"'): 100,
            ("istio_requests_total{", '"destination"', 'response_code="503"'): 3,
            ("istio_requests_total{", '"destination"', 'grpc_response_status="13"'): 1,
            ("istio_requests_total{", 'reporter="source"'): 40,
        },
        born=[
            (
                ("istio_requests_total{", '"destination"', 'response_code="503"'),
                'response_code="503"',
                'response_code="500"',
                2,
            )
        ],
        observed={
            ("istio_request_duration_milliseconds_bucket{", 'reporter="destination"'): (300, 7),
            ("istio_request_duration_milliseconds_bucket{", 'reporter="source"'): (3, 9),
        },
        says={"errors": (6, 106), "requests": (106,), "latency": (300, 7)},
    ),
    "kserve": Story(
        added={("request_predict_seconds_count{",): 7},
        observed={("request_predict_seconds_bucket{",): (0.3, 7)},
        says={"requests": (7,), "latency": (0.3, 7)},
    ),
    "mlserver": Story(
        added={
            ("rest_server_requests_total{", "/infer", '"200"'): 100,
            ("rest_server_requests_total{", "/infer", '"500"'): 3,
            ("rest_server_requests_total{", "/infer", '"400"'): 1,
            ("rest_server_requests_total{", "/ready"): 50,
            ("model_infer_request_success_total{", "None"): 100,
            ("model_infer_request_failure_total{", "ranker", "None"): 6,
        },
        born=[
            (("rest_server_requests_total{", "/infer", '"500"'), "/infer", "/versions/{model_version}/infer", 2),
            (("model_infer_request_failure_total{", "nothere"), "nothere", "nobody", 1),
        ],
        observed={
            ("rest_server_request_duration_seconds_bucket{", "/infer", '"200"'): (0.3, 4),
            ("rest_server_request_duration_seconds_bucket{", "/ready"): (0.01, 50),
            ("grpc_server_handling_seconds_bucket{", "ModelInfer"): (0.3, 3),
            ("grpc_server_handling_seconds_bucket{", "ServerLive"): (0.01, 9),
        },
        says={"errors": (5, 106), "failures": (7, 107), "requests": (107,), "latency": (0.3, 7)},
    ),
    "triton": Story(
        added={
            ("nv_inference_request_success{",): 100,
            ("nv_inference_request_failure{", "BACKEND"): 3,
            ("nv_inference_request_failure{", "CANCELED"): 4,
        },
        born=[(("nv_inference_request_failure{", "BACKEND"), 'model="ranker"', 'model="other"', 2)],
        observed={("nv_inference_first_response_histogram_ms_bucket{",): (300, 7)},
        says={"errors": (5, 109), "requests": (109,), "latency": (300, 7)},
    ),
    "vllm": Story(
        added={
            ("http_requests_total{", "/v1/chat", "2xx"): 100,
            ("http_requests_total{", "/v1/chat", "5xx"): 3,
            ("http_requests_total{", "/v1/models"): 50,
            ("http_requests_total{", "/tokenize"): 50,
            ("vllm:request_success_total{", '"stop"'): 90,
            ("vllm:request_success_total{", '"length"'): 10,
            ("vllm:request_success_total{", '"abort"'): 4,
            ("vllm:request_success_total{", '"error"'): 2,
        },
        born=[(("http_requests_total{", "/v1/chat", "5xx"), "/v1/chat/completions", "/v1/completions", 2)],
        observed={
            ("vllm:e2e_request_latency_seconds_bucket{",): (0.4, 7),
            ("vllm:request_queue_time_seconds_bucket{",): (0.4, 6),
            ("vllm:time_to_first_token_seconds_bucket{",): (0.3, 5),
            ("vllm:request_time_per_output_token_seconds_bucket{",): (0.03, 4),
            ("vllm:(inter_token_latency|time_per_output_token)_seconds_bucket{",): (0.03, 300),
        },
        says={
            "errors": (5, 105),
            "requests": (100,),
            "latency": (0.4, 7),
            "queue-time": (0.4, 6),
            "time-to-first-token": (0.3, 5),
            "time-per-output-token": (0.03, 4),
            "inter-token-latency": (0.03, 300),
        },
    ),
    "torchserve": Story(
        added={("ts_inference_requests_total{",): 100, ("Requests2XX{",): 150}, says={"requests": (100,)}
    ),
    "bentoml": Story(
        added={
            ("bentoml_service_request_total{", "/predict", '"200"'): 100,
            ("bentoml_service_request_total{", "/predict", '"500"'): 3,
            ("bentoml_service_request_total{", "/healthz"): 50,
        },
        born=[(("bentoml_service_request_total{", "/predict", '"500"'), '"500"', '"503"', 2)],
        observed={
            ("bentoml_service_request_duration_seconds_bucket{", "/predict", '"200"'): (0.3, 7),
            ("bentoml_service_request_duration_seconds_bucket{", "/healthz"): (0.01, 50),
        },
        says={"errors": (5, 105), "requests": (105,), "latency": (0.3, 7)},
    ),
    "comparison": Story(
        added={
            ("comparison_deviation_sum",): 1,
            ("comparison_deviation_count",): 12,
            ("comparison_pairs_total",): 12,
            ("comparison_pairs_with_regressions_total",): 9,
            **{("comparison_regressions_total{", f'"{kind}"'): number for number, kind in enumerate(Kind, 1)},
        },
        says={
            "deviation": (1, 12),
            "regressions": (9, 12),
            **{kind.replace("_", "-"): (number, 12) for number, kind in enumerate(Kind, 1)},
        },
    ),
    "ray-serve": Story(
        added={
            ("ray_serve_num_http_requests", 'application="ranker"', 'status_code="200"'): 100,
            ("ray_serve_num_http_requests", 'application="ranker"', 'status_code="500"'): 3,
            ("ray_serve_num_http_requests", "/-/healthz"): 50,
        },
        born=[(("ray_serve_num_http_requests", 'status_code="500"'), '"500"', '"503"', 2)],
        observed={
            ("ray_serve_http_request_latency_ms_bucket{", 'application="ranker"', 'status_code="200"'): (250, 7),
            ("ray_serve_http_request_latency_ms_bucket{", "/-/healthz"): (1, 50),
        },
        says={"errors": (5, 105), "requests": (105,), "latency": (250, 7)},
    ),
}

PROXIES = ("envoy-9b8-1", "envoy-9b8-2")
PODS_OF_ENVOY = {
    "ranker-aaa-1": "127.0.11.1:8080",
    "ranker-bbb-1": "127.0.11.2:8080",
    "ranker-ccc-1": "127.0.11.3:9090",
    "agent-ddd-1": "127.0.11.9:9100",
    "agent-eee-1": "127.0.11.9:9101",
}
"""Where their metrics are, which is another port than where they serve; the agents share the address of a node."""
OF_THE_NODE = 'envoy_cluster_endpoint_rq_{}{{envoy_cluster_name="node",envoy_endpoint_address="127.0.11.9:80"}} 7\n'


def of_a_proxy(text: str) -> str:
    return text + OF_THE_NODE.format("success") + OF_THE_NODE.format("error")


def after_a_restart(text: str) -> str:
    """One endpoint only, with 4 answers and 1 error since."""
    lines = [line for line in text.splitlines() if line[:1] != "#" and "127.0.11.1:" in line]
    amounts = {"success": 4, "error": 1, "timeout": 0, "total": 5}
    return "".join(f"{_series(line)} {amounts[line.split('{')[0].rpartition('_')[2]]}\n" for line in lines)


def owner_of(name: str) -> str:
    return f"{name.replace('.', '-').replace('_', '-')}-7d4"


def pod_of(name: str) -> str:
    """That of the comparer is none of the ReplicaSet that its rows are of."""
    return f"{owner_of(name)}-compare-x1" if name == "comparison" else f"{owner_of(name)}-x1"


@dataclass(frozen=True, slots=True)
class Told:
    """What Prometheus says before and after the stories, by query."""

    server: PrometheusServer
    before: Mapping[str, Reading]
    after: Mapping[str, Reading]

    def gained(self, preset: str, owner: str) -> tuple[Increments, ...]:
        """Of one ReplicaSet's pods, by query."""
        arm, key, asked = ArmCounters(), (NAMESPACE, owner), queries(preset)
        arm.start(self.before[asked[0]].at, [self.before[query].of(key) for query in asked])
        return arm.advance(self.after[asked[0]].at, [self.after[query].of(key) for query in asked])


def ask(server: PrometheusServer, asked: Iterable[tuple[str, str]]) -> dict[str, Reading]:
    """All at one tick, by key."""
    at = tick_at_or_after(clock.now(), SECOND)
    time.sleep((at - clock.now()).total_seconds() + 0.01)

    async def answers() -> dict[str, Reading]:
        prometheus = Prometheus(Access(server.url))
        try:
            return {key: await prometheus.query(query, at) for key, query in asked}
        finally:
            prometheus.close()

    return asyncio.run(answers())


def every_query() -> list[tuple[str, str]]:
    return [(query, unscoped(query)) for preset in PRESETS for query in queries(preset)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("prometheus")
    envoy = of_a_proxy(expositions()["envoy"])
    with ExitStack() as stack:

        def targets(names: Iterable[str]) -> dict[str, Target]:
            return {name: stack.enter_context(target()) for name in names}

        servers, proxies, pods = targets(EXPOSITIONS), targets(PROXIES), targets(PODS_OF_ENVOY)
        again = stack.enter_context(target())  # a second port of a pod
        everyone = [*servers.values(), *proxies.values(), *pods.values(), again]
        configs = [
            scrape("servers", {each.address: _labels(pod_of(name)) for name, each in servers.items()}),
            scrape(
                "gateway",
                {
                    each.address: {"namespace": "gateway", "pod": name, "instance": "gateway"}
                    for name, each in proxies.items()
                },
            ),
            scrape(
                "pods",
                {each.address: {**_labels(name), "instance": PODS_OF_ENVOY[name]} for name, each in pods.items()},
            ),
            scrape("again", {again.address: {**_labels("ranker-bbb-1"), "instance": "127.0.11.2:8081"}}),
        ]
        server = stack.enter_context(PrometheusServer.start(folder, configs))

        def publish(revision: int, texts: Mapping[str, str]) -> None:
            named = {**servers, **proxies}
            for each in everyone:
                text = next((texts[name] for name, other in named.items() if other is each), "")
                each.text = f"{text}exposition_revision {revision}\n"
            server.wait_for(f"count(exposition_revision == {revision}) == {len(everyone)}")

        publish(1, {**EXPOSITIONS, **dict.fromkeys(PROXIES, envoy)})
        before = ask(server, every_query())
        more = Story(
            added={
                ("endpoint_rq_success{", r"127\.0\.11\.1:"): 5,
                ("endpoint_rq_error{", r"127\.0\.11\.1:"): 2,
                ("endpoint_rq_total{", r"127\.0\.11\.1:"): 7,
                ("endpoint_rq_error{", r"127\.0\.11\.3:"): 6,
            }
        )
        stories = {name: STORIES.get(name) or STORIES[server_of(name)] for name in EXPOSITIONS}
        publish(
            2,
            {
                **{name: story.told(EXPOSITIONS[name]) for name, story in stories.items()},
                **dict(zip(PROXIES, (more.told(envoy), after_a_restart(envoy)), strict=True)),
            },
        )
        yield Told(server, before, ask(server, every_query()))


def _labels(pod: str) -> dict[str, str]:
    return {"namespace": NAMESPACE, "pod": pod}


CASES = [
    (name, measure)
    for name in EXPOSITIONS
    for measure in [preset.partition("/")[2] for preset in PRESETS if preset.startswith(f"{server_of(name)}/")]
]


@pytest.mark.parametrize(("name", "measure"), CASES)
def test_increments_come_out_as_they_went_in(told: Told, name: str, measure: str) -> None:
    preset = f"{server_of(name)}/{measure}"
    expected = (STORIES.get(name) or STORIES[server_of(name)]).says[measure]
    owner = owner_of(name)
    gained = told.gained(preset, owner)
    if not isinstance(PRESETS[preset], Latency):
        assert tuple(each.value for each in gained) == expected
        return
    seconds, count = expected
    (histogram,) = gained
    assert len(histogram.buckets) > 3
    assert histogram.buckets == {edge: count if edge >= seconds else 0 for edge in histogram.buckets}


def test_every_preset_is_in_a_case() -> None:
    covered = {f"{server_of(name)}/{measure}" for name, measure in CASES}
    assert covered | {"envoy/errors", "envoy/requests"} == set(PRESETS)


@pytest.mark.parametrize(
    ("owner", "bad", "total"), [("ranker-aaa", 2 + 1, 7 + 5), ("ranker-bbb", 0, 0), ("ranker-ccc", 6, 6)]
)
def test_counters_of_envoy_are_those_of_the_pod_behind_and_of_each_proxy_for_itself(
    told: Told, owner: str, bad: float, total: float
) -> None:
    """One proxy went on and one began anew. Whatever port a pod shows its metrics on, it is known by its address."""
    assert [each.value for each in told.gained("envoy/errors", owner)] == [bad, total]
    assert [each.value for each in told.gained("envoy/requests", owner)] == [total]


def test_an_address_of_several_pods_is_nobodys_and_spoils_no_other(told: Told) -> None:
    for preset in ("envoy/errors", "envoy/requests"):
        for query in queries(preset):
            owners = set(told.before[query].rows)
            assert owners == {(NAMESPACE, name) for name in ("ranker-aaa", "ranker-bbb", "ranker-ccc")}


def test_for_one_rollout_it_is_the_same(told: Told) -> None:
    owners = {name: owner_of(name) for name in EXPOSITIONS} | {"envoy": "ranker-aaa"}
    asked = {
        (name, query): scoped(query, namespace=NAMESPACE, pod_prefix=owner)
        for name, owner in owners.items()
        for preset in PRESETS
        if preset.startswith(f"{server_of(name)}/")
        for query in queries(preset)
    }
    answers = ask(told.server, ((f"{name} {query}", text) for (name, query), text in asked.items()))
    for name, query in asked:
        owner = (NAMESPACE, owners[name])
        answer = answers[f"{name} {query}"]
        assert set(answer.rows) == {owner}
        assert _sorted(answer, owner) == _sorted(told.after[query], owner)


def _sorted(reading: Reading, owner: tuple[str, str]) -> dict[str, list[tuple[str, float]]]:
    return {pod: sorted((each.series, each.value) for each in of) for pod, of in reading.of(owner).items()}
