"""Verdicts at the edges of the shipped objectives, and on evidence that is not there."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.api.v1alpha1 import DEFAULT_POLICY, Objective, ObjectiveStatus, Verdict
from ops_commander.core import objectives
from ops_commander.core.snapshot import Buckets, Evidence, Value

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
INF = math.inf
EDGES = (0.1, 0.25, 0.5, 1.0, INF)
POLICY = {objective.name: objective for objective in DEFAULT_POLICY.objectives}
LATENCY, ERRORS, THROUGHPUT, DRIFT = (POLICY[name] for name in ("p95-latency", "error-rate", "throughput", "p95-drift"))


def judged(
    objective: Objective,
    *candidate: Value,
    stable: tuple[Value, ...] = (),
    at: datetime | None = NOW,
    since: datetime | None = LONG_AGO,
    error: str | None = None,
) -> ObjectiveStatus:
    evidence = Evidence(at, tuple(candidate), stable or tuple(candidate), error)
    return objectives.judge(objective, evidence, since=since, now=NOW, stale_after=timedelta(seconds=20))


def p95_of(seconds: float, samples: float = 1000) -> Buckets:
    """A histogram with that P95: 95 % of the requests are within that edge."""
    return Buckets((seconds, 10.0, INF), (samples * 0.95, samples, samples))


@pytest.mark.parametrize(
    ("p95", "verdict", "reason"),
    [
        (0.499, Verdict.PASS, "Met"),
        (0.500, Verdict.INCONCLUSIVE, "WithinTolerance"),
        (0.5049, Verdict.INCONCLUSIVE, "WithinTolerance"),
        (0.505, Verdict.INCONCLUSIVE, "WithinTolerance"),
        (0.5051, Verdict.FAIL, "Breached"),
        (4.2, Verdict.FAIL, "Breached"),
    ],
)
def test_s2_is_met_below_500_ms_and_breached_more_than_5_ms_above(p95: float, verdict: Verdict, reason: str) -> None:
    row = judged(LATENCY, p95_of(p95))

    assert (row.verdict, row.reason) == (verdict, reason)
    assert row.observed == pytest.approx(p95)


@pytest.mark.parametrize(
    ("errors", "total", "verdict", "reason"),
    [
        (0.0, 10_000.0, Verdict.PASS, "Met"),
        (99.0, 10_000.0, Verdict.PASS, "Met"),
        (100.0, 10_000.0, Verdict.INCONCLUSIVE, "WithinTolerance"),
        (3.0, 300.0, Verdict.INCONCLUSIVE, "WithinTolerance"),
        (101.0, 10_000.0, Verdict.FAIL, "Breached"),
        (10_000.0, 10_000.0, Verdict.FAIL, "Breached"),
        (10_001.0, 10_000.0, Verdict.FAIL, "Breached"),
    ],
)
def test_s3_holds_at_exactly_1_percent(errors: float, total: float, verdict: Verdict, reason: str) -> None:
    row = judged(ERRORS, errors, total)

    assert (row.verdict, row.reason) == (verdict, reason)
    assert row.observed is not None and row.observed <= 1.0


@pytest.mark.parametrize(
    ("rate", "verdict", "reason"),
    [
        (100.0, Verdict.PASS, "Met"),
        (99.9, Verdict.INCONCLUSIVE, "BelowTarget"),
        (0.0, Verdict.INCONCLUSIVE, "InsufficientSample"),
    ],
)
def test_s4_holds_and_never_reverts(rate: float, verdict: Verdict, reason: str) -> None:
    row = judged(THROUGHPUT, rate)

    assert (row.verdict, row.reason) == (verdict, reason)


def test_a_series_of_errors_that_does_not_exist_is_no_error_while_requests_are_counted() -> None:
    row = judged(ERRORS, None, 500.0)

    assert (row.verdict, row.observed, row.samples) == (Verdict.PASS, 0.0, 500.0)


@pytest.mark.parametrize(
    ("objective", "values", "reason"),
    [
        pytest.param(ERRORS, (None, None), "NoData", id="no rows"),
        pytest.param(ERRORS, (5.0, None), "NoData", id="errors without requests"),
        pytest.param(ERRORS, (), "NoData", id="nothing"),
        pytest.param(ERRORS, (0.0, math.nan), "NoData", id="requests are NaN"),
        pytest.param(ERRORS, (math.nan, 500.0), "NoData", id="errors are NaN"),
        pytest.param(ERRORS, (0.0, INF), "NoData", id="requests without end"),
        pytest.param(ERRORS, (0.0, 0.0), "InsufficientSample", id="zero requests"),
        pytest.param(ERRORS, (99.0, 99.0), "InsufficientSample", id="one request too few"),
        pytest.param(LATENCY, (None,), "NoData", id="no histogram"),
        pytest.param(LATENCY, (0.3,), "NoData", id="a number where a histogram should be"),
        pytest.param(LATENCY, (Buckets((), ()),), "InsufficientSample", id="a histogram without buckets"),
        pytest.param(LATENCY, (Buckets(EDGES, (0.0,) * 5),), "InsufficientSample", id="an empty histogram"),
        pytest.param(LATENCY, (Buckets(EDGES, (math.nan,) * 5),), "InsufficientSample", id="a histogram of NaN"),
        pytest.param(LATENCY, (p95_of(9.0, 99),), "InsufficientSample", id="too few for a P95"),
        pytest.param(THROUGHPUT, (None,), "NoData", id="no rate"),
        pytest.param(THROUGHPUT, (math.nan,), "NoData", id="a rate that is NaN"),
    ],
)
def test_nothing_is_concluded_from(objective: Objective, values: tuple[Value, ...], reason: str) -> None:
    row = judged(objective, *values)

    assert (row.verdict, row.reason) == (Verdict.INCONCLUSIVE, reason)
    assert row.message


@pytest.mark.parametrize("breached", [False, True])
def test_a_stale_answer_says_nothing(breached: bool) -> None:
    row = judged(ERRORS, 500.0 * breached, 500.0, at=NOW - timedelta(seconds=21), error="connection refused")

    assert (row.verdict, row.reason) == (Verdict.INCONCLUSIVE, "StaleData")
    assert row.message == "no answer since 08:59:39: connection refused"
    assert judged(ERRORS, 0.0, 500.0, at=NOW - timedelta(seconds=20)).verdict is Verdict.PASS


def test_before_the_first_answer_the_error_is_told() -> None:
    assert judged(ERRORS, at=None).message == "Prometheus has not been asked yet"
    assert judged(ERRORS, at=None, error="no answer within 6.0s").message == "no answer within 6.0s"
    row = objectives.judge(ERRORS, None, since=None, now=NOW, stale_after=timedelta(seconds=20))
    assert (row.verdict, row.reason) == (Verdict.INCONCLUSIVE, "NoData")


@pytest.mark.parametrize(
    ("errors", "age", "verdict"),
    [
        (0.0, 59.9, Verdict.INCONCLUSIVE),
        (0.0, 60.0, Verdict.PASS),
        (500.0, 0.0, Verdict.FAIL),
    ],
    ids=["too early for a pass", "a whole window", "a breach needs no window"],
)
def test_a_window_that_reaches_back_before_the_split_never_passes(errors: float, age: float, verdict: Verdict) -> None:
    row = judged(ERRORS, errors, 500.0, since=NOW - timedelta(seconds=age))

    assert row.verdict is verdict
    if verdict is Verdict.INCONCLUSIVE:
        assert row.reason == "Warmup"


def test_no_split_no_pass() -> None:
    assert judged(ERRORS, 0.0, 500.0, since=None).reason == "Warmup"


@pytest.mark.parametrize(
    ("candidate", "stable", "reason", "observed"),
    [
        pytest.param(0.304, 0.3, "Met", 0.004, id="4 ms slower"),
        pytest.param(0.305, 0.3, "WithinTolerance", 0.005, id="exactly 5 ms slower"),
        pytest.param(0.306, 0.3, "Breached", 0.006, id="6 ms slower"),
        pytest.param(0.2, 0.3, "Met", -0.1, id="faster"),
    ],
)
def test_a_relative_objective_judges_the_difference(
    candidate: float, stable: float, reason: str, observed: float
) -> None:
    row = judged(DRIFT, p95_of(candidate), stable=(p95_of(stable),))

    assert row.reason == reason
    assert row.observed == pytest.approx(observed)
    assert row.stable == pytest.approx(stable)
    assert row.target == "difference to stable < 0.005s"


@pytest.mark.parametrize(
    ("stable", "reason"),
    [((None,), "NoData"), ((Buckets(EDGES, (0.0,) * 5),), "InsufficientSample")],
    ids=["no series", "no requests"],
)
def test_a_relative_objective_needs_both_arms(stable: tuple[Value, ...], reason: str) -> None:
    assert judged(DRIFT, p95_of(0.3), stable=stable).reason == reason


@pytest.mark.parametrize(
    ("highest", "verdict", "reason"),
    [(0.4, Verdict.INCONCLUSIVE, "BeyondBuckets"), (0.6, Verdict.FAIL, "Breached")],
    ids=["the edges end below the target", "the edges end above it"],
)
def test_a_quantile_beyond_the_histograms_edges_never_passes(highest: float, verdict: Verdict, reason: str) -> None:
    """Prometheus gives the highest finite edge: every request may take a minute and the number still be 0.4 s."""
    slow = Buckets((0.1, highest, INF), (0.0, 10.0, 1000.0))

    row = judged(LATENCY, slow)

    assert (row.verdict, row.reason) == (verdict, reason)


def test_numbers_target_and_sample_are_told() -> None:
    row = judged(LATENCY, p95_of(0.6), stable=(p95_of(0.1),))

    assert row.message == "0.6s, target < 0.5s, 1000 requests, stable 0.1s"
    assert (row.target, row.unit, row.window, row.slo, row.evidence_at) == ("< 0.5s", "s", "1m", "S2", NOW)
    assert "[1m]" in row.query and "$window" not in row.query


def row_with(verdict: Verdict, *, required: bool = True) -> ObjectiveStatus:
    return judged(ERRORS, 0.0, 500.0).model_copy(update={"verdict": verdict, "required": required})


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row_with(Verdict.PASS), row_with(Verdict.PASS)], Verdict.PASS),
        ([row_with(Verdict.PASS), row_with(Verdict.INCONCLUSIVE)], Verdict.INCONCLUSIVE),
        ([row_with(Verdict.INCONCLUSIVE), row_with(Verdict.FAIL)], Verdict.FAIL),
        ([row_with(Verdict.PASS), row_with(Verdict.FAIL, required=False)], Verdict.PASS),
    ],
    ids=["all pass", "one is open", "one fails", "one fails that is reported only"],
)
def test_all_required_ones_together(rows: list[ObjectiveStatus], expected: Verdict) -> None:
    assert objectives.overall(rows) is expected


# --- Quantiles --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "q", "expected"),
    [
        ((100.0, 100.0, 100.0, 100.0, 100.0), 0.95, 0.095),
        ((0.0, 100.0, 100.0, 100.0, 100.0), 0.5, 0.175),
        ((50.0, 50.0, 100.0, 100.0, 100.0), 0.5, 0.1),
        ((50.0, 50.0, 100.0, 100.0, 100.0), 0.75, 0.375),
        ((0.0, 0.0, 90.0, 100.0, 100.0), 0.95, 0.75),
        ((0.0, 0.0, 0.0, 0.0, 100.0), 0.95, 1.0),
        ((94.0, 94.0, 94.0, 94.0, 100.0), 0.95, 1.0),
    ],
)
def test_quantiles_are_those_of_prometheus(counts: tuple[float, ...], q: float, expected: float) -> None:
    assert objectives.quantile_of(Buckets(EDGES, counts), q) == pytest.approx(expected)


HISTOGRAMS = st.lists(st.integers(0, 10_000), min_size=len(EDGES), max_size=len(EDGES)).map(
    lambda counts: Buckets(EDGES, tuple(float(count) for count in accumulate(counts)))
)
QUANTILES = st.floats(0.001, 0.999)


@given(HISTOGRAMS, QUANTILES, QUANTILES)
def test_a_higher_quantile_is_no_smaller(buckets: Buckets, one: float, other: float) -> None:
    low, high = (objectives.quantile_of(buckets, q) for q in sorted((one, other)))

    assert (low is None) == (high is None) == (buckets.total == 0)
    if low is not None and high is not None:
        assert low <= high + 1e-12


@given(HISTOGRAMS, QUANTILES)
def test_a_quantile_lies_within_the_bucket_that_holds_its_rank(buckets: Buckets, q: float) -> None:
    value = objectives.quantile_of(buckets, q)
    if value is None:
        return

    rank = q * buckets.total
    holder = next(number for number, count in enumerate(buckets.counts) if count >= rank)
    low = EDGES[holder - 1] if holder else 0.0
    assert low - 1e-12 <= value <= (EDGES[holder] if EDGES[holder] < INF else low) + 1e-12


@given(st.floats(), st.floats(), st.sampled_from([ERRORS, DRIFT, LATENCY, THROUGHPUT]))
def test_whatever_prometheus_says_a_pass_is_a_finite_number_that_meets_the_target(
    first: float, second: float, objective: Objective
) -> None:
    row = judged(objective, *([first, second] if objective.ratio else [first]))

    if row.verdict is Verdict.PASS:
        assert row.observed is not None and row.samples is not None
        assert objective.max is None or row.observed <= objective.max
        assert objective.min is None or row.observed >= objective.min
