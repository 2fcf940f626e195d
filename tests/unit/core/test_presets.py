"""The presets against what servers expose."""

from __future__ import annotations

import math
import re

import promql_parser as tree
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from promql_parser import Matcher, MatchOp, VectorSelector

from ops_commander.api.policy import Preset
from ops_commander.api.presets import PRESETS, Latency, Share
from ops_commander.core.presets import measure_of
from ops_commander.core.promql import QueryProblem, check, scoped, unscoped, with_matchers
from ops_commander.core.promql_syntax import nodes, parse, placeholder_of
from tests.expositions import expositions, queries, recorded, server_of

EXPOSITIONS = expositions()
SERVERS = sorted({name.partition("/")[0] for name in PRESETS} - {"comparison"})
LATENCIES = [name for name, preset in PRESETS.items() if isinstance(preset, Latency)]
SHARES = [name for name, preset in PRESETS.items() if isinstance(preset, Share)]

HALF_A_SECOND_IS_NO_EDGE: dict[str, float] = {}
"""Presets by whose default buckets S2 is judged at a lower edge, and that edge."""

SERVES_NO_LATENCY = {"envoy", "torchserve"}
SERVES_NO_ERRORS = {"kserve", "torchserve"}

Series = tuple[str, frozenset[tuple[str, str]]]


def samples(name: str) -> list[Sample]:
    """Without types: the parser renames counters that do not end in _total, and Prometheus does not."""
    text = re.sub(r"# TYPE .*\n", "", EXPOSITIONS[name])
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def selectors(query: str) -> list[VectorSelector]:
    found = [node for node in nodes(parse(query)) if isinstance(node, VectorSelector)]
    return [each for each in found if each.name != "up"]  # of Prometheus itself


def fits(selector: VectorSelector, sample: Sample) -> bool:
    if selector.name and selector.name != sample.name:
        return False
    labels = {"pod": "ranker-abc-compare-x1", **sample.labels, "__name__": sample.name}  # as Prometheus adds it
    return all(_holds(each, labels.get(each.name, "")) for each in selector.matchers.matchers)


def _holds(each: Matcher, value: str) -> bool:
    if placeholder_of(each):
        return True
    if each.op in (MatchOp.Equal, MatchOp.NotEqual):
        return (value == each.value) is (each.op == MatchOp.Equal)
    return bool(re.fullmatch(each.value, value)) is (each.op == MatchOp.Re)


def matched(query: str, name: str) -> dict[Series, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for sample in samples(name)
        if any(fits(selector, sample) for selector in selectors(query))
    }


def names_for(preset: str) -> list[str]:
    return [name for name in EXPOSITIONS if server_of(name) == preset.partition("/")[0]]


def cases(presets: list[str]) -> list[tuple[str, str]]:
    return [(preset, name) for preset in presets for name in names_for(preset)]


def test_every_exposition_says_where_it_is_from() -> None:
    for name in {server_of(each) for each in EXPOSITIONS}:
        assert re.match(r"# .+\n# (Recorded|From source)", recorded(name)), name


@pytest.mark.parametrize("preset", PRESETS)
def test_a_tenant_could_ask_the_same_but_for_those_that_rename_pods(preset: str) -> None:
    for query in queries(preset):
        if preset.startswith(("envoy/", "comparison/")):
            with pytest.raises(QueryProblem):
                check(query)
        else:
            check(query)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_takes_labels_and_a_scope(preset: str) -> None:
    for query in queries(preset):
        assert "$" not in re.sub(r'"\$1(-\$2)?"', "", unscoped(query))
        chosen = scoped(with_matchers(query, {"tier": "gold"}), namespace="shop", pod_prefix="ranker-abc")
        for node in nodes(parse(chosen)):
            if isinstance(node, VectorSelector):
                matchers = {each.name for each in node.matchers.matchers}
                is_up, is_envoy = node.name == "up", preset.startswith("envoy/")
                assert ("tier" in matchers) is not is_up
                assert ({"namespace", "pod"} <= matchers) is (is_up or not is_envoy)
    assert measure_of(Preset(name=preset, labels={"tier": "gold"}))


@pytest.mark.parametrize("preset", PRESETS)
def test_each_selector_finds_series_of_some_version_and_the_query_of_every_one(preset: str) -> None:
    names = names_for(preset)
    for query in queries(preset):
        for selector in selectors(query):
            found = [sample for name in names for sample in samples(name) if fits(selector, sample)]
            assert found, selector
        assert all(matched(query, name) for name in names), query


@pytest.mark.parametrize(("preset", "name"), cases(SHARES))
def test_bad_requests_are_some_of_all_and_neither_is_empty(preset: str, name: str) -> None:
    known = PRESETS[preset]
    assert isinstance(known, Share)
    bad, total = matched(known.bad, name), matched(known.total, name)
    assert bad.items() <= total.items() or preset.startswith("comparison/")
    assert 0 < sum(bad.values()) < sum(total.values())


@pytest.mark.parametrize(("preset", "name"), cases(LATENCIES))
def test_a_histogram_has_rising_edges_up_to_infinity(preset: str, name: str) -> None:
    known = PRESETS[preset]
    assert isinstance(known, Latency)
    found = matched(known.buckets, name)
    histograms: dict[tuple[str, frozenset[tuple[str, str]]], dict[float, float]] = {}
    for (metric, labels), count in found.items():
        edge = float(dict(labels)["le"])
        key = (metric, frozenset(each for each in labels if each[0] != "le"))
        histograms.setdefault(key, {})[edge] = count
    assert histograms
    for buckets in histograms.values():
        counts = [buckets[edge] for edge in sorted(buckets)]
        assert max(buckets) == math.inf
        assert counts == sorted(counts)
    assert len({tuple(sorted(buckets)) for buckets in histograms.values()}) == 1, "one set of edges"


@pytest.mark.parametrize("preset", LATENCIES)
def test_by_default_p95_under_half_a_second_is_judged_at_this_edge(preset: str) -> None:
    known = PRESETS[preset]
    assert isinstance(known, Latency)
    for name in names_for(preset):
        edges = {float(dict(labels)["le"]) * known.seconds for _, labels in matched(known.buckets, name)}
        assert max(edge for edge in edges if edge <= 0.5) == HALF_A_SECOND_IS_NO_EDGE.get(preset, 0.5)


@pytest.mark.parametrize("server", SERVERS)
def test_what_a_server_does_not_count_is_no_preset(server: str) -> None:
    has = {name.partition("/")[2] for name in PRESETS if name.startswith(f"{server}/")}
    assert ("latency" in has) is (server not in SERVES_NO_LATENCY)
    assert ("errors" in has) is (server not in SERVES_NO_ERRORS)
    assert "requests" in has


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/v2/health/ready", "/health/live", "/-/healthz", "/ping"])
@pytest.mark.parametrize("label", ["handler", "path", "route", "endpoint", "exported_endpoint"])
def test_probes_and_scrapes_are_no_requests(path: str, label: str) -> None:
    probe = Sample("http_requests_total", {label: path, "code": "200"}, 1.0)
    for query in queries("http/errors"):
        assert not any(fits(selector, probe) for selector in selectors(query))


@pytest.mark.parametrize("path", ["/predict", "/v2/models/alive/infer", "/metrics-of-models", "/", "/pingpong"])
def test_other_paths_are(path: str) -> None:
    request = Sample("http_requests_total", {"handler": path, "code": "500"}, 1.0)
    for query in queries("http/errors"):
        assert any(fits(selector, request) for selector in selectors(query))


def test_only_selectors_and_or_are_in_presets_but_for_those_that_rename_pods() -> None:
    for preset in PRESETS:
        if not preset.startswith(("envoy/", "comparison/")):
            for query in queries(preset):
                kinds = {type(node) for node in nodes(parse(query))}
                assert kinds <= {VectorSelector, tree.BinaryExpr}, preset
