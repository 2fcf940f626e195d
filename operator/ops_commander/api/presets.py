"""Presets: the counters of well-known model servers and proxies, by name. What they need: docs/presets.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema


@dataclass(frozen=True, slots=True)
class Share:
    """Bad among all requests. Every bad one is in `total` too."""

    bad: str
    total: str


@dataclass(frozen=True, slots=True)
class Latency:
    """A histogram of times."""

    buckets: str
    seconds: float = 1.0
    """What one unit of its edges is in seconds."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Answered requests."""

    requests: str


@dataclass(frozen=True, slots=True)
class MeanScore:
    """Mean of a score in [0, 1]."""

    sum: str
    count: str


_MILLISECONDS: Final = 0.001

_PROBES: Final = (
    "(.*/)?(metrics|health|healthz|healthcheck|live|livez|liveness|ready|readyz|readiness|startup|startupz|ping)"
)
"""Paths that a kubelet or a Prometheus asks for. The faster they are asked, the more they would dilute errors."""


def _without_probes(*labels: str) -> str:
    """Matchers that hold too where a series has none of the labels."""
    return ", ".join(f'{label}!~"{_PROBES}"' for label in labels)


def _either(metric: str, common: str, *choices: str) -> str:
    """Series of one metric that one of the matchers fits. `or` takes a series that several fit once."""
    return " or ".join(f"{metric}{{{choice}, {common}}}" for choice in choices)


_HTTP: Final = _without_probes("handler", "path", "route", "endpoint", "exported_endpoint")
_HTTP_BAD: Final = _either("http_requests_total", _HTTP, 'code=~"5.."', 'status=~"5.."', 'status_code=~"5.."')
"""Libraries differ in the label. Some write 5xx for a code, which 5.. fits as well."""

_PODS: Final = 'label_replace(up{$scope}, "pod_ip", "$1", "instance", "(.+):[0-9]+")'
_POD_BY_IP: Final = (
    f"(group by (namespace, pod, pod_ip) ({_PODS})"
    f" unless on (pod_ip) (count by (pod_ip) (group by (namespace, pod, pod_ip) ({_PODS})) > 1))"
)
"""1 for every pod that Prometheus scrapes, whatever its port. An address of several pods, as that of a node is, is
nobody's: two rows for one address would fail the whole query."""


def _of_endpoints(counters: str) -> str:
    """Counters that Envoy keeps for each endpoint, with the namespace and pod of the endpoint instead of Envoy's.

    The proxy's pod goes to a label of its own: each proxy's counter is a series, and begins anew for itself.
    """
    rows = f'label_replace({counters}, "envoy_pod", "$1", "pod", "(.*)")'
    rows = f'label_replace({rows}, "pod_ip", "$1", "envoy_endpoint_address", "(.+):[0-9]+")'
    return f"{rows} * on (pod_ip) group_left (namespace, pod) {_POD_BY_IP}"


_ENVOY_BAD: Final = _of_endpoints("envoy_cluster_endpoint_rq_error{$labels}")
"""5xx, timeouts, resets and connections that failed; of each try, if a route tries again."""
_ENVOY: Final = _of_endpoints("(envoy_cluster_endpoint_rq_success{$labels} + envoy_cluster_endpoint_rq_error{$labels})")
"""Not rq_total, which leaves out the connections that failed."""

_ISTIO: Final = 'reporter="destination"'
_ISTIO_BAD: Final = _either(
    "istio_requests_total", _ISTIO, 'response_code=~"5.."', 'grpc_response_status=~"2|4|12|13|14|15"'
)
"""The codes of gRPC that are the server's fault: Unknown, DeadlineExceeded, Unimplemented, Internal, Unavailable,
DataLoss."""

_MLSERVER_INFER: Final = 'method="POST", path=~".*/(infer|infer_stream|generate|generate_stream|invocations)"'
_MLSERVER_GRPC: Final = 'grpc_method=~"ModelInfer|ModelStreamInfer"'

_VLLM_HTTP: Final = (
    'method="POST", handler!~"none|/(v1/(un)?load_lora_adapter|tokenize|detokenize|sleep|wake_up|reset_.*)"'
)

_BENTOML: Final = _without_probes("endpoint", "exported_endpoint")

_RAY: Final = 'application!=""'
"""Requests to the proxy itself, and for routes that nobody has, are of no application."""


def _ray_requests(matchers: str) -> str:
    """Versions have the name with _total, without, or both; `or` takes the second only where the first is absent."""
    return " or ".join(f"ray_serve_num_http_requests{suffix}{{{matchers}}}" for suffix in ("_total", ""))


COMPARER_METRICS: Final = "ops_commander_comparison_"


def _of_comparer(metric: str, *matchers: str) -> str:
    """Counters of the comparer, whose pods are <ReplicaSet>-compare-<id>, as those of a pod of the ReplicaSet."""
    chosen = ", ".join([*matchers, 'pod=~".+-compare-[a-z0-9]+"', "$comparer"])
    rows = f"{COMPARER_METRICS}{metric}{{{chosen}}}"
    return f'label_replace({rows}, "pod", "$1-$2", "pod", "(.+)-compare-([a-z0-9]+)")'


_PAIRS: Final = _of_comparer("pairs_total")


def _regressions(kind: str) -> Share:
    """Pairs in which the candidate's answer shows it."""
    return Share(_of_comparer("regressions_total", f'kind="{kind}"'), _PAIRS)


def _vllm(name: str) -> Latency:
    return Latency(f"vllm:{name}_seconds_bucket")


PRESETS: Final[dict[str, Share | Latency | Throughput | MeanScore]] = {
    "http/errors": Share(_HTTP_BAD, f"http_requests_total{{{_HTTP}}}"),
    "http/latency": Latency(f"http_request_duration_seconds_bucket{{{_HTTP}}}"),
    "http/requests": Throughput(f"http_requests_total{{{_HTTP}}}"),
    "envoy/errors": Share(_ENVOY_BAD, _ENVOY),
    "envoy/requests": Throughput(_ENVOY),
    "istio/errors": Share(_ISTIO_BAD, f"istio_requests_total{{{_ISTIO}}}"),
    "istio/latency": Latency(f"istio_request_duration_milliseconds_bucket{{{_ISTIO}}}", _MILLISECONDS),
    "istio/requests": Throughput(f"istio_requests_total{{{_ISTIO}}}"),
    "kserve/latency": Latency("request_predict_seconds_bucket"),
    "kserve/requests": Throughput("request_predict_seconds_count"),
    "mlserver/errors": Share(
        f'rest_server_requests_total{{status_code=~"5..", {_MLSERVER_INFER}}}',
        f"rest_server_requests_total{{{_MLSERVER_INFER}}}",
    ),
    "mlserver/failures": Share(
        "model_infer_request_failure_total", '{__name__=~"model_infer_request_(success|failure)_total"}'
    ),
    "mlserver/latency": Latency(
        f"rest_server_request_duration_seconds_bucket{{{_MLSERVER_INFER}}}"
        f" or grpc_server_handling_seconds_bucket{{{_MLSERVER_GRPC}}}"
    ),
    "mlserver/requests": Throughput('{__name__=~"model_infer_request_(success|failure)_total"}'),
    "triton/errors": Share(
        'nv_inference_request_failure{reason!="CANCELED"}', '{__name__=~"nv_inference_request_(success|failure)"}'
    ),
    "triton/latency": Latency("nv_inference_first_response_histogram_ms_bucket", _MILLISECONDS),
    "triton/requests": Throughput('{__name__=~"nv_inference_request_(success|failure)"}'),
    "vllm/errors": Share(f'http_requests_total{{status=~"5..", {_VLLM_HTTP}}}', f"http_requests_total{{{_VLLM_HTTP}}}"),
    "vllm/latency": _vllm("e2e_request_latency"),
    "vllm/requests": Throughput('vllm:request_success_total{finished_reason!~"abort|error"}'),
    "vllm/queue-time": _vllm("request_queue_time"),
    "vllm/time-to-first-token": _vllm("time_to_first_token"),
    "vllm/time-per-output-token": _vllm("request_time_per_output_token"),
    "vllm/inter-token-latency": Latency(
        "vllm:inter_token_latency_seconds_bucket or vllm:time_per_output_token_seconds_bucket"
    ),
    "torchserve/requests": Throughput("ts_inference_requests_total"),
    "bentoml/errors": Share(
        f'bentoml_service_request_total{{http_response_code=~"5..", {_BENTOML}}}',
        f"bentoml_service_request_total{{{_BENTOML}}}",
    ),
    "bentoml/latency": Latency(f"bentoml_service_request_duration_seconds_bucket{{{_BENTOML}}}"),
    "bentoml/requests": Throughput(f"bentoml_service_request_total{{{_BENTOML}}}"),
    "ray-serve/errors": Share(_ray_requests(f'status_code=~"5..", {_RAY}'), _ray_requests(_RAY)),
    "ray-serve/latency": Latency(f"ray_serve_http_request_latency_ms_bucket{{{_RAY}}}", _MILLISECONDS),
    "ray-serve/requests": Throughput(_ray_requests(_RAY)),
    "comparison/deviation": MeanScore(_of_comparer("deviation_sum"), _of_comparer("deviation_count")),
    "comparison/regressions": Share(_of_comparer("pairs_with_regressions_total"), _PAIRS),
    **{
        f"comparison/{kind.replace('_', '-')}": _regressions(kind)
        for kind in (
            *("precision_loss", "field_drop", "encoding_mismatch", "non_finite", "dtype", "shape"),
            *("content_type", "status", "order"),
        )
    },
}


def _known(name: str) -> str:
    if name not in PRESETS:
        raise ValueError(f"{name!r} is no preset: expected one of {', '.join(PRESETS)}")
    return name


PresetName = Annotated[str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(PRESETS)})]
