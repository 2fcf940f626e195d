"""The harness of `make bench`, as far as it needs no control plane: figures, the scripted Prometheus, the audit log."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import audit, fleet, report
from benchmarks.api import Api
from benchmarks.pod_counters import EDGES, Fault, Pod
from benchmarks.prometheus import Endpoint, kind_of
from ops_commander.api.policy import RolloutPolicy
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.core import names, presets, promql

OWNER = ("bench-0", "model-0001-abc")
QUERIES = [
    query
    for objective in presets.resolved(RolloutPolicy.model_validate(fleet.policy("bench-0")).spec).objectives
    for query in objective.queries
]


def pod(rate: float = 20.0) -> Pod:
    made = Pod(OWNER, "model-0001-abc-xyz12", [(1000.0, 0.0, rate)])
    made.label(1)
    return made


def test_percentiles_are_values_that_were_measured() -> None:
    figures = report.spread([float(number) for number in range(1, 101)])
    assert figures == {"count": 100, "p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert report.spread([3.0]) == {"count": 1, "p50": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
    assert report.spread([None]) == {"count": 0}


def test_table_has_a_column_a_size_and_a_dash_for_what_was_not_measured() -> None:
    text = report.table([{"rollouts": 1, "steady": {"cores": 0.016}}, {"rollouts": 10}])
    assert "| N = 1" in text and "N = 10" in text
    assert any("0.02" in line and "–" in line for line in text.splitlines())


def test_rollout_and_policy_of_the_fleet_are_valid() -> None:
    assert ModelRollout.model_validate(fleet.rollout(("bench-0", "model-0001"), 2)).spec.steps[0].weight == 10


def test_queries_of_the_policy_are_told_apart() -> None:
    assert {kind_of(promql.unscoped(query)) for query in QUERIES} == {"requests", "errors", "buckets"}


def test_errors_begin_at_the_fault_and_all_requests_stay_the_same() -> None:
    fault = Fault("errors", 2000.0)
    healthy, broken = pod().values("requests", 2010.0, None), pod().values("requests", 2010.0, fault)
    assert sum(healthy) == sum(broken) == 20 * 1010
    assert broken[1] - pod().values("requests", 2000.0, fault)[1] == 20 * 10 * 0.2
    assert pod().values("errors", 2010.0, fault) == broken[1:]


@pytest.mark.parametrize("mode", ["none", "slow"])
def test_buckets_rise_with_time_and_edge(mode: str) -> None:
    fault = Fault(mode, 1500.0)
    ticks = [pod().values("buckets", at, fault) for at in (1400.0, 1600.0, 1800.0)]
    assert all(row == sorted(row) and len(row) == len(EDGES) for row in ticks)
    assert all(before <= after for rows in zip(*ticks, strict=True) for before, after in itertools.pairwise(rows))


def test_pod_that_is_not_born_or_gone_empty_has_no_rows() -> None:
    assert pod().values("errors", 999.0, None) == []
    assert pod().values("errors", 2001.0, Fault("empty", 2000.0)) == []
    nan = pod().instant("errors", 2001.0, b"2001.000", Fault("nan", 2000.0))
    assert json.loads(nan)["value"] == [2001.0, "NaN"]
    assert pod().instant("errors", 2001.0, b"2001.000", Fault("nan", 2000.0, until=2000.5)) != nan


def endpoint_with_a_pod() -> Endpoint:
    endpoint = Endpoint(Api("http://unused.example", Path("unused"), ""))
    endpoint._take_pod("ADDED", pod_object(), (OWNER[0], "model-0001"))
    return endpoint


def pod_object() -> dict[str, Any]:
    labels = {names.ROLLOUT_LABEL: "model-0001", names.REVISION_LABEL: "abc"}
    metadata = {"namespace": OWNER[0], "name": "model-0001-abc-xyz12", "labels": labels}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


@pytest.mark.parametrize("owners", [[OWNER[1]], [OWNER[1], "model-0002-xyz"]])
def test_scoped_query_gives_the_pods_of_its_replica_sets(owners: list[str]) -> None:
    endpoint = endpoint_with_a_pod()
    mine = endpoint.pods[OWNER]["model-0001-abc-xyz12"]
    at = mine.paces[0][0] + 100.0
    for query in QUERIES:
        scoped = promql.scoped(query, namespace=OWNER[0], pod_prefix=owners)
        assert list(endpoint.asked(scoped)) == [mine]
        rows = [json.loads(row) for row in mine.matrix(kind_of(scoped), [at, at + 5], None)]
        assert rows and all(len(row["values"]) == 2 for row in rows)
        assert list(endpoint.asked(scoped.replace("-abc", "-abd"))) == []


def test_query_of_several_namespaces_gives_the_pods_there() -> None:
    endpoint = endpoint_with_a_pod()
    mine = endpoint.pods[OWNER]["model-0001-abc-xyz12"]
    for query in QUERIES:
        for namespaces, found in (([OWNER[0]], [mine]), ([OWNER[0], "other"], [mine]), (["other"], [])):
            assert list(endpoint.asked(promql.scoped(query, namespace=namespaces))) == found
            named = promql.scoped(query, namespace=namespaces, pod_prefix=[OWNER[1], "model-0002-xyz"])
            assert list(endpoint.asked(named)) == found
        assert list(endpoint.asked(promql.unscoped(query))) == [mine]


def test_calls_are_counted_by_verb_and_resource(tmp_path: Path) -> None:
    def line(verb: str, resource: str, second: int, subresource: str = "") -> str:
        reference = {"resource": resource, "subresource": subresource, "namespace": "bench-0", "name": "a"}
        user, at = {"username": "operator-a"}, f"2026-01-01T00:00:{second:02}.500000Z"
        said = {"objectRef": reference, "user": user, "verb": verb, "stageTimestamp": at}
        return json.dumps({**said, "responseStatus": {"code": 200}})

    log = tmp_path / "audit.jsonl"
    lines = [
        line("get", "pods", 1),
        line("patch", "modelrollouts", 2, "status"),
        line("get", "leases", 2),
        line("get", "pods", 9),
    ]
    log.write_text("\n".join(lines) + '\n{"half')
    found = list(audit.calls(log))
    assert [call.resource for call in found] == ["pods", "modelrollouts/status", "leases", "pods"]
    start = found[0].at
    assert dict(audit.counted(iter(found), start, start + 5)) == {
        ("get", "pods"): 1,
        ("patch", "modelrollouts/status"): 1,
    }
