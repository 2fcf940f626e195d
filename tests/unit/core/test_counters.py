"""What counters have gained: resets, births and deaths of series, pods and containers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.core.counters import LEAD_IN, ArmCounters, Increments
from ops_commander.core.histograms import histogram
from ops_commander.core.samples import PodSamples, Sample, owner_of, tick_at_or_after, tick_at_or_before

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
TICK = timedelta(seconds=5)
NOTHING: PodSamples = {}


def pods(**values: float | Mapping[str, float]) -> PodSamples:
    """By pod: one counter, or several by the name of their series."""
    found = {}
    for pod, value in values.items():
        series = value if isinstance(value, Mapping) else {"": value}
        found[pod] = tuple(Sample(name, float(count)) for name, count in series.items())
    return found


def native(*buckets: tuple[float, float, float]) -> PodSamples:
    return {"a": (Sample("", sum(count for _, _, count in buckets), buckets=buckets),)}


def counted(*ticks: PodSamples, lead_in: Sequence[PodSamples] = ()) -> list[float]:
    """One query; the first tick is the origin. What each tick after it adds."""
    return [added[0].value for added in increments([(tick,) for tick in ticks], [(tick,) for tick in lead_in])]


def increments(
    ticks: Sequence[Sequence[PodSamples]], lead_in: Sequence[Sequence[PodSamples]] = (), *, any_query: bool = False
) -> list[tuple[Increments, ...]]:
    counters = ArmCounters(any_query)
    for number, readings in enumerate(lead_in):
        counters.look(START - TICK * (len(lead_in) - number), readings)
    counters.start(START, ticks[0])
    return [counters.advance(START + TICK * number, readings) for number, readings in enumerate(ticks[1:], 1)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param((10, 15, 15, 40), [5, 0, 25], id="what it grew by, not what it stood at"),
        pytest.param((10, 15, 3, 8), [5, 3, 5], id="one that fell began again at 0"),
        pytest.param((10, 0, 4), [0, 4], id="a reset to nothing"),
        pytest.param((10, 2, 1, 1), [2, 1, 0], id="two resets in a row"),
    ],
)
def test_a_counter_counts(values: Sequence[float], expected: list[float]) -> None:
    assert counted(*(pods(a=value) for value in values)) == expected


def test_resets_are_told_series_by_series() -> None:
    """Added up first, the fall of one would hide in the rise of the other, or look like a reset of both."""
    ticks = [pods(a={"200": 100, "500": 7}), pods(a={"200": 3, "500": 200}), pods(a={"200": 5, "500": 1})]

    assert counted(*ticks) == [3 + 193, 2 + 1]


def test_a_container_that_restarts_in_a_pod_resets_its_own_series_alone() -> None:
    ticks = [pods(a={"container=server": 100, "container=proxy": 50})]
    ticks += [pods(a={"container=server": 4, "container=proxy": 60}), pods(a={"container=server": 9})]
    ticks += [pods(a={"container=server": 9, "container=proxy": 75})]

    assert counted(*ticks) == [4 + 10, 5, 15]


def test_a_series_that_comes_later_counts_from_0_in_a_pod_that_was_there() -> None:
    """Libraries create a series with its first event: the first 500 is an error, and no start."""
    errors = [NOTHING, NOTHING, pods(a=3), pods(a=5)]
    totals = [pods(a=100), pods(a=110), pods(a=120), pods(a=130)]

    assert [item.value for item, _ in increments(list(zip(errors, totals, strict=True)))] == [0, 3, 2]


def test_a_pod_without_errors_has_none_and_its_requests_count() -> None:
    gained = increments([(NOTHING, pods(a=100)), (NOTHING, pods(a=150))])

    assert [item.value for item in gained[0]] == [0, 50]


def test_a_pod_that_is_born_counts_from_0() -> None:
    assert counted(pods(a=100), pods(a=100, b=30), pods(a=100, b=45)) == [30, 15]


def test_what_a_pod_counted_before_it_died_stays() -> None:
    assert counted(pods(a=100, b=10), pods(a=110, b=14), pods(a=120), pods(a=130)) == [14, 10, 10]


def test_a_scrape_gap_is_caught_up_with() -> None:
    assert counted(pods(a=100), NOTHING, NOTHING, pods(a=160)) == [0, 0, 60]


def test_a_series_that_is_away_for_a_tick_is_no_new_one() -> None:
    assert counted(pods(a={"x": 100, "y": 50}), pods(a={"x": 110}), pods(a={"x": 120, "y": 58})) == [10, 18]


def test_a_pod_that_misses_the_origin_counts_from_the_sample_after_it() -> None:
    """Its counter holds all it did before the step: counted from 0, an old error would be held against this step."""
    lead_in = [pods(a=900, b=800), pods(a=905)]

    assert counted(pods(a=910), pods(a=911, b=815), pods(a=912, b=820), lead_in=lead_in) == [1, 1 + 5]


def test_the_errors_of_a_pod_that_misses_the_origin_are_old_too() -> None:
    lead_in = [(pods(b=70), pods(b=800))]
    ticks = [(NOTHING, NOTHING), (pods(b=71), pods(b=815)), (pods(b=73), pods(b=820))]

    assert [[item.value for item in both] for both in increments(ticks, lead_in)] == [[0, 0], [2, 5]]


@pytest.mark.parametrize(
    ("before", "expected"),
    [(LEAD_IN, [0]), (LEAD_IN + TICK, [40])],
    ids=["seen within the lead-in", "not seen in all of it"],
)
def test_how_long_a_pod_may_be_away_and_still_be_an_old_one(before: timedelta, expected: list[float]) -> None:
    counters = ArmCounters()
    counters.look(START - before, [pods(a=30)])
    counters.start(START, [NOTHING])

    assert [counters.advance(START + TICK, [pods(a=40)])[0].value] == expected


def test_what_was_seen_in_the_lead_in_does_not_count() -> None:
    assert counted(pods(a=50), pods(a=60), lead_in=[pods(a=10), pods(a=20)]) == [10]


def test_a_pod_whose_requests_are_not_counted_has_no_errors_either() -> None:
    """An error series alone says nothing of how many requests it is a part of."""
    ticks = [(pods(a=1, x=900), pods(a=10)), (pods(a=2, x=950), pods(a=20))]

    assert [item.value for item in increments(ticks)[0]] == [1, 10]


def test_pairs_are_there_with_any_of_their_counters() -> None:
    """Whoever only wins has no series of losses and ties."""
    ticks = [(pods(a=5), NOTHING, NOTHING), (pods(a=9), pods(a=2), NOTHING)]

    assert [item.value for item in increments(ticks, any_query=True)[0]] == [4, 2, 0]
    assert [item.value for item in increments(ticks)[0]] == [0, 0, 0]


def test_buckets_and_moments_are_told_apart() -> None:
    def at(factor: float) -> PodSamples:
        edges = ((0.1, 3.0), (math.inf, 5.0))
        rows = [Sample(f"le={edge}", count * factor, edge) for edge, count in edges]
        return {"a": (*rows, Sample("m", 2.0 * factor, moment=(1, 1)))}

    gained = increments([(at(1),), (at(3),)])[0][0]

    assert dict(gained.buckets) == {0.1: 6.0, math.inf: 10.0}
    assert (dict(gained.moments), gained.value) == ({(1, 1): 4.0}, 0.0)


def test_histograms_of_several_pods_are_added_edge_by_edge() -> None:
    def of(*counts: float) -> tuple[Sample, ...]:
        return tuple(Sample(f"le={edge}", count, edge) for edge, count in zip((0.1, math.inf), counts, strict=True))

    gained = increments([({"a": of(0, 0)},), ({"a": of(1, 3), "b": of(10, 30)},)])[0][0]

    assert gained.buckets == {0.1: 11.0, math.inf: 33.0}


# --- Native histograms --------------------------------------------------------------------------------------


def test_buckets_of_a_native_histogram_count_each_for_itself() -> None:
    gained = increments([(native((0.25, 0.5, 4)),), (native((0.25, 0.5, 6), (0.5, 1, 3)),)])[0][0]

    assert gained.spans == {(0.25, 0.5): 2.0, (0.5, 1): 3.0}


def test_a_resolution_that_is_halved_loses_nothing() -> None:
    fine = native((0.25, 0.35, 4), (0.35, 0.5, 6), (0.5, 0.7, 1))
    coarse = native((0.25, 0.5, 13), (0.5, 1, 2))

    assert increments([(fine,), (coarse,)])[0][0].spans == {(0.25, 0.5): 3.0, (0.5, 1): 1.0}


def test_a_native_histogram_whose_count_fell_began_again() -> None:
    gained = increments([(native((0.25, 0.5, 40)),), (native((0.125, 0.25, 2), (0.25, 0.5, 3)),)])[0][0]

    assert gained.spans == {(0.125, 0.25): 2.0, (0.25, 0.5): 3.0}


def test_after_a_change_of_resolution_only_edges_of_both_stay() -> None:
    known = histogram({}, {(0.25, 0.35): 4.0, (0.35, 0.5): 6.0, (0.25, 0.5): 3.0, (0.5, 1.0): 1.0}, 1.0)

    assert (known.edges, known.counts) == ((0.25, 0.5, 1.0, math.inf), (0.0, 13.0, 14.0, 14.0))


@pytest.mark.parametrize(
    "zero",
    [
        pytest.param((-0.001, 0.001), id="a wide zero bucket"),
        pytest.param(
            (-2.938735877055719e-39, 2.938735877055719e-39),
            id="the zero bucket as clients have it",
        ),
    ],
)
def test_edges_rise_whatever_the_zero_bucket(zero: tuple[float, float]) -> None:
    known = histogram({}, {zero: 3.0, (0.25, 0.5): 10.0}, 1.0)

    assert all(low < high for low, high in pairwise(known.edges)), known.edges


@settings(deadline=None)
@given(st.lists(st.floats(1e-4, 100), min_size=1, max_size=60), st.integers(0, 59))
def test_whenever_the_resolution_is_halved_the_counts_are_the_same(values: list[float], cut: int) -> None:
    """Exponential buckets of factor √2 become those of factor 2, as a client's does to stay small."""

    def buckets(seen: Sequence[float], per_octave: int) -> PodSamples:
        found: dict[tuple[float, float], float] = {}
        for value in seen:
            number = math.ceil(math.log2(value) * per_octave)
            edges = (2 ** ((number - 1) / per_octave), 2 ** (number / per_octave))
            found[edges] = found.get(edges, 0.0) + 1.0
        return native(*((low, high, count) for (low, high), count in sorted(found.items())))

    cut = min(cut, len(values))
    changed = increments([(native(),), (buckets(values[:cut], 2),), (buckets(values, 1),)])
    always = increments([(native(),), (buckets(values[:cut], 1),), (buckets(values, 1),)])

    def together(found: list[tuple[Increments, ...]]) -> dict[tuple[float, float], float]:
        spans: dict[tuple[float, float], float] = {}
        for (item,) in found:
            for span, count in item.spans.items():
                spans[span] = spans.get(span, 0.0) + count
        return spans

    fine, coarse = histogram({}, together(changed), 1.0), histogram({}, together(always), 1.0)
    assert fine.total == coarse.total == len(values)
    common = set(fine.edges) & set(coarse.edges)
    assert [fine.above(edge) for edge in common] == [coarse.above(edge) for edge in common]


# --- Any stream of readings ---------------------------------------------------------------------------------

COUNTS = st.integers(0, 50)
SERIES = st.dictionaries(st.sampled_from(["x", "y", "z"]), COUNTS, max_size=3)
TICKS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), SERIES, max_size=3), min_size=2, max_size=12)


def increase(values: Sequence[float]) -> float:
    """As Prometheus has it, without extrapolation: the last less the first, and what stood before each fall."""
    fallen = sum(before for before, now in pairwise(values) if now < before)
    return values[-1] - values[0] + fallen


@settings(deadline=None)
@given(TICKS)
def test_all_gains_together_are_the_increase_of_each_series(ticks: list[dict[str, dict[str, int]]]) -> None:
    found = counted(*(pods(**{pod: dict(series) for pod, series in tick.items() if series}) for tick in ticks))

    expected = 0.0
    for pod in "abc":
        for series in "xyz":
            values = [float(tick[pod][series]) for tick in ticks[1:] if series in tick.get(pod, {})]
            expected += increase([float(ticks[0].get(pod, {}).get(series, 0)), *values])
    assert sum(found) == pytest.approx(expected)
    assert all(gain >= 0 for gain in found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(pods(a=0.1, b=0.2, c=0.3), pods(c=0.3, b=0.2, a=0.1), id="of pods"),
        pytest.param(
            pods(a={"x": 0.1, "y": 0.2, "z": 0.3}),
            pods(a={"z": 0.3, "y": 0.2, "x": 0.1}),
            id="of a pod's series",
        ),
    ],
)
def test_the_order_of_rows_changes_no_bit(one: PodSamples, other: PodSamples) -> None:
    """An instant answer and a range have their rows in different orders; sums of scores are no whole numbers."""
    assert counted(NOTHING, one) == counted(NOTHING, other)


def test_a_difference_that_falls_below_0_is_no_gain() -> None:
    """`a - b` may be asked, and two counters are not read at the same instant."""
    assert min(counted(pods(a=0), pods(a=-3), pods(a=2))) >= 0


# --- Ticks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1, 5, 7, 15, 60, 3600])
def test_every_process_has_the_same_ticks(seconds: int) -> None:
    interval = timedelta(seconds=seconds)
    moment = START + timedelta(seconds=1234, milliseconds=567)
    before, after = tick_at_or_before(moment, interval), tick_at_or_after(moment, interval)

    assert before < moment < after and after - before == interval
    assert before.timestamp() % seconds == 0
    assert tick_at_or_before(before, interval) == tick_at_or_after(before, interval) == before


def test_a_pod_belongs_to_the_replica_set_that_its_name_begins_with() -> None:
    assert owner_of("shop", "ranker-7f9c-x2x4z") == ("shop", "ranker-7f9c")
