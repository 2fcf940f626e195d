"""Windows of metrics: values, coverage, and the baseline that a deployment would have taken from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.api.fields import parse_time
from ops_commander.api.policy import Objective
from ops_commander.api.v1alpha1 import BaselineStatus
from ops_commander.core.plans.window import MOST_TICKS, UnknownMetric, Window, collected, metrics_of, window_until
from ops_commander.core.samples import Reading, Sample

OWNER = ("shop", "ranker-abc")
SECOND = timedelta(seconds=1)
START = datetime(2025, 10, 14, 12, tzinfo=UTC)
ERRORS = Objective.model_validate({"name": "error-rate", "ratio": {"bad": "bad", "total": "all"}, "max": 0.01})
LATENCY = Objective.model_validate(
    {"name": "p95-latency", "quantile": {"q": 0.5, "buckets": "seconds_bucket"}, "max": 0.5, "unit": "s"}
)
RATE = Objective.model_validate({"name": "throughput", "rate": {"requests": "all"}, "min": 100, "unit": "req/s"})
RUN = Objective.model_validate(
    {"name": "gain", "run": {"metric": "gain", "exact": True, "artifact": "a.json"}, "min": 0.1}
)
BUCKETS = ((0.1, 5.0), (0.5, 10.0), (float("inf"), 10.0))
EVERY = [ERRORS, LATENCY, RATE, RUN]


def readings(count: int, *, absent: frozenset[int] = frozenset()) -> dict[str, list[Reading]]:
    """A tick a second: 10 requests, one of them bad, half of them below 0.1 s."""
    found: dict[str, list[Reading]] = {"bad": [], "all": [], "seconds_bucket": []}
    for tick in range(count):
        samples = {
            "bad": (Sample("", tick * 1.0),),
            "all": (Sample("", tick * 10.0),),
            "seconds_bucket": tuple(
                Sample(str(edge), tick * rate, edge=edge)
                for edge, rate in ((0.1, 5.0), (0.5, 10.0), (float("inf"), 10.0))
            ),
        }
        for query, rows in samples.items():
            there = {} if tick in absent else {OWNER: {"ranker-abc-1": rows}}
            found[query].append(Reading(START + tick * SECOND, there))
    return found


def test_values_of_the_window_by_the_names_of_criteria() -> None:
    metrics = metrics_of(["error_rate", "p95_latency_ms", "throughput_rps"], EVERY)

    found = collected(metrics, readings(11), OWNER, Window(START, START + 10 * SECOND, SECOND))

    assert found.metrics == {
        "coverage": 1.0,
        "error_rate": 0.1,
        "error_rate_requests": 100.0,
        "p95_latency_ms": pytest.approx(100.0),
        "p95_latency_ms_requests": 100.0,
        "throughput_rps": 10.0,
        "throughput_rps_requests": 100.0,
    }
    rows = found.document["metrics"]
    assert [row["objective"] for row in rows] == ["error-rate", "p95-latency", "throughput"]
    assert len(rows[0]["series"]) == 10 and rows[0]["series"][0] == ["2025-10-14T12:00:01.000Z", 0.1]


def test_the_document_is_usable_as_a_baseline() -> None:
    metrics = metrics_of(["error_rate"], EVERY)

    found = collected(metrics, readings(31), OWNER, Window(START, START + 30 * SECOND, SECOND))

    (row,) = found.document["baseline"]
    baseline = BaselineStatus.model_validate(row)
    assert (baseline.name, baseline.ticks, baseline.rate, baseline.value) == ("error-rate", 30, 10.0, 0.1)
    assert parse_time(found.document["to"]) - parse_time(found.document["from"]) == 30 * SECOND


def test_ticks_that_were_not_seen_are_not_covered() -> None:
    absent = frozenset({3, 4})

    found = collected(
        metrics_of(["error_rate"], EVERY),
        readings(11, absent=absent),
        OWNER,
        Window(START, START + 10 * SECOND, SECOND),
    )

    assert found.metrics["coverage"] == 0.7  # 2→3, 3→4 and 4→5 are not known tick by tick


def test_a_window_without_rows_has_no_value() -> None:
    found = collected(metrics_of(["error_rate"], EVERY), {}, OWNER, Window(START, START + 10 * SECOND, SECOND))

    assert found.metrics == {"coverage": 0.0, "error_rate_requests": 0.0} and found.document["baseline"] == []


@pytest.mark.parametrize("name", ["errors", "error_rate_ms", "gain", "p95_latency_rps"])
def test_a_metric_without_an_objective_is_named_with_those_that_there_are(name: str) -> None:
    with pytest.raises(UnknownMetric) as refused:
        metrics_of([name], EVERY)

    assert repr(name) in str(refused.value)
    assert "error_rate, p95_latency, p95_latency_ms, throughput, throughput_rps" in str(refused.value)


@given(
    length=st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=365)),
    interval=st.sampled_from([1, 5, 15, 60]),
    now=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
def test_ticks_are_bounded_and_shared(length: timedelta, interval: int, now: datetime) -> None:
    window = window_until(now, length, interval * SECOND)

    assert 1 <= window.gains <= MOST_TICKS
    assert window.end <= now < window.end + window.tick
    assert window.end.timestamp() % window.tick.total_seconds() == 0
    assert window.gains * window.tick <= max(length, window.tick)
