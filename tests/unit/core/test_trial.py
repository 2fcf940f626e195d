"""One objective in one step: which ticks count, for which arm, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.api.policy import (
    Compare,
    Correlation,
    Objective,
    Pairs,
    Quantile,
    Rate,
    Ratio,
    Score,
)
from ops_commander.api.v1alpha1 import BaselineStatus
from ops_commander.core import measures
from ops_commander.core.counters import Buckets
from ops_commander.core.histograms import Histogram
from ops_commander.core.question import Question
from ops_commander.core.samples import PodSamples, Sample
from ops_commander.core.tally import Arm, DriftEdges, Tally, Track
from ops_commander.core.trial import RECENT_TICKS, Trial

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TICK = 5 * SECOND
NOTHING: PodSamples = {}
INF = math.inf

ERRORS = Objective(name="errors", ratio=Ratio(bad="bad", total="all"), max=0.01)
AGAINST = Objective(name="against", ratio=Ratio(bad="bad", total="all"), compare=Compare.RATIO, max=1.0)
SLOW = Objective(name="slow", quantile=Quantile(buckets="seconds"), max=0.5, unit="s")
DRIFT = Objective(name="drift", quantile=Quantile(buckets="seconds"), compare=Compare.DIFFERENCE, max=0.005, unit="s")
THROUGHPUT = Objective(name="throughput", rate=Rate(requests="all", window=15 * SECOND), min=100.0)
WINS = Objective(name="wins", pairs=Pairs(wins="wins", losses="losses", ties="ties"), min=0.0)
SCORE = Objective(name="score", score=Score(sum="sum", count="count"), min=0.9)
SAME = Objective(name="same", correlation=Correlation(moments="moments"), max=0.95)

Tick = tuple[Sequence[PodSamples], Sequence[PodSamples]]
"""Readings of the candidate and of stable, by query; an empty one where an arm is away."""


def pod(value: float, name: str = "a") -> PodSamples:
    return {name: (Sample("", float(value)),)}


def ratio(bad: float, total: float, name: str = "a") -> Sequence[PodSamples]:
    """An error series comes with the first error."""
    return [pod(bad, name) if bad else NOTHING, pod(total, name)]


def none(objective: Objective) -> Sequence[PodSamples]:
    return [NOTHING] * len(objective.queries)


def classic(edges: Sequence[float], counts: Sequence[float]) -> Sequence[PodSamples]:
    return [{"a": tuple(Sample(f"le={edge}", float(n), edge) for edge, n in zip(edges, counts, strict=True))}]


def native(edges: Sequence[float], counts: Sequence[float]) -> Sequence[PodSamples]:
    """The same counts in a native histogram, which has no bucket where nothing was observed."""
    bounds = zip([0.0, *edges], edges, [0.0, *counts], counts, strict=False)
    spans = tuple((low, high, float(now - before)) for low, high, before, now in bounds if now > before)
    return [{"a": (Sample("", float(counts[-1]), buckets=spans),)}]


def at(number: int) -> datetime:
    return START + TICK * number


def trial_of(objective: Objective, ticks: Sequence[Tick], baseline: BaselineStatus | None = None) -> Trial:
    """The first tick is the origin."""
    trial = Trial(objective, START, baseline)
    for number, (mine, theirs) in enumerate(ticks):
        trial.advance(at(number), mine or none(objective), theirs or none(objective))
    return trial


def bits(tally: Tally | None) -> object:
    """All of it, to be compared bit for bit."""
    if tally is None:
        return None
    kinds = [tally.ratio, tally.ratio_for_breach]
    curves = [(k.x_c, k.n_c, k.x_b, k.n_b, k.log_likelihoods.tobytes()) if k else None for k in kinds]
    return replace(tally, ratio=None, ratio_for_breach=None, late=None), curves, bits(tally.late)


# --- Which ticks count --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "warm_up", "origin"),
    [
        pytest.param(0.001, 0, 10, id="just after a tick: that which holds the change, and one more"),
        pytest.param(4.999, 0, 10, id="just before the next"),
        pytest.param(5, 0, 10, id="at a tick"),
        pytest.param(2, 60, 70, id="after the warm-up"),
        pytest.param(2, 61, 70, id="a warm-up that ends between ticks"),
    ],
)
def test_the_tick_of_a_change_and_the_one_after_do_not_count(since: float, warm_up: float, origin: int) -> None:
    question = Question("d", START + since * SECOND, ("shop", "c"), ("shop", "s"), (), warm_up * SECOND)

    assert question.origin(TICK) == START + origin * SECOND
    assert question.begins(TICK) == START + (origin - 60) * SECOND


@pytest.mark.parametrize(("interval", "ticks"), [(5, 12), (15, 4), (25, 3), (60, 1), (90, 1)])
def test_a_lead_in_is_a_minute_of_whole_ticks(interval: int, ticks: int) -> None:
    question = Question("d", START, ("shop", "c"), ("shop", "s"), ())
    pace = interval * SECOND

    assert question.origin(pace) - question.begins(pace) == ticks * pace


def test_what_was_counted_at_the_origin_and_before_is_of_the_split_before() -> None:
    trial = Trial(ERRORS, START)
    for number, (bad, total) in enumerate([(50, 1000), (80, 1100), (90, 1200), (91, 1300), (93, 1400)], -2):
        trial.advance(at(number), ratio(bad, total), none(ERRORS))

    assert trial.tally.candidate.values == (3.0, 200.0)
    assert (trial.tally.first, trial.tally.last, trial.tally.ticks, trial.tally.seconds) == (START, at(2), 2, 10.0)


def test_an_arm_that_nobody_has_seen_delays_the_start() -> None:
    """Counting from nothing would take the first sample, whatever it holds, for requests of this step."""
    trial = trial_of(ERRORS, [([], []), (ratio(7, 500), []), (ratio(8, 600), [])])

    assert (trial.tally.first, trial.tally.candidate.values) == (at(1), (1.0, 100.0))


def test_the_first_requests_of_a_candidate_count_from_0() -> None:
    """A library that creates its counters with the first request: stable is seen, so ticks run."""
    ticks = [([], ratio(0, 900)), (ratio(2, 40), ratio(0, 1000))]

    assert trial_of(ERRORS, ticks).tally.candidate.values == (2.0, 40.0)


def test_freshness_is_known_before_anything_counts() -> None:
    trial = Trial(AGAINST, START)
    trial.advance(at(-2), ratio(0, 10), ratio(0, 10))
    trial.advance(at(-1), ratio(0, 10), none(AGAINST))

    assert (trial.fresh_at, trial.seen_at, trial.tally.first) == (at(-2), at(-1), None)


# --- Both arms ----------------------------------------------------------------------------------------------


def test_a_comparison_counts_both_arms_on_the_same_ticks() -> None:
    """A tick without one of them is left out for both, and both catch up together."""
    ticks = [
        (ratio(0, 100), ratio(0, 1000)),
        (ratio(1, 110), ratio(2, 1100)),
        (ratio(2, 120), []),
        ([], ratio(4, 1300)),
        (ratio(4, 140), ratio(5, 1400)),
    ]
    seen = [trial_of(AGAINST, ticks[:number]).tally for number in range(2, 6)]

    assert [(t.ticks, t.candidate.values, t.stable.values) for t in seen] == [
        (1, (1.0, 10.0), (2.0, 100.0)),
        (1, (1.0, 10.0), (2.0, 100.0)),
        (1, (1.0, 10.0), (2.0, 100.0)),
        (2, (4.0, 40.0), (5.0, 400.0)),
    ]


def test_the_candidates_own_value_needs_no_stable_pods() -> None:
    ticks = [(ratio(0, 100), ratio(0, 1000)), (ratio(1, 110), []), (ratio(3, 130), ratio(2, 1500))]
    seen = [trial_of(ERRORS, ticks[:number]).tally for number in (2, 3)]

    assert [(t.candidate.values, t.stable.values, t.split) for t in seen] == [
        ((1.0, 10.0), (), (0.0, 0.0)),
        ((3.0, 30.0), (2.0, 500.0), (30.0, 500.0)),
    ]


def test_a_tick_without_the_candidate_is_answered_and_not_fresh() -> None:
    trial = trial_of(ERRORS, [(ratio(0, 100), ratio(0, 100)), ([], ratio(0, 110))])

    assert (trial.seen_at, trial.fresh_at, trial.tally.ticks) == (at(1), START, 0)


def test_errors_of_a_rate_ratio_are_counted_tick_by_tick() -> None:
    ticks = [(ratio(0, 0, "a"), ratio(0, 0, "s")), (ratio(3, 100), ratio(2, 100, "s"))]
    ticks.append((ratio(3, 150), ratio(2, 100, "s")))  # no exposure of stable: says nothing
    evidence = trial_of(AGAINST, ticks).tally.ratio

    assert evidence is not None
    assert (evidence.x_c, evidence.n_c, evidence.x_b, evidence.n_b) == (3.0, 150.0, 2.0, 100.0)
    assert evidence.estimate() == pytest.approx(1.5, rel=1e-3)


def test_more_errors_than_requests_are_as_many() -> None:
    """Two queries of one tick may be scraped apart."""
    ticks = [(ratio(0, 10), ratio(0, 10)), (ratio(5, 12), ratio(0, 20))]

    assert trial_of(AGAINST, ticks).tally.candidate.bad == 2.0


# --- Measures -----------------------------------------------------------------------------------------------


def test_pairs_scores_and_moments_count_what_they_are_made_of() -> None:
    pairs = trial_of(WINS, [([pod(1), NOTHING, pod(9)], []), ([pod(4), pod(2), pod(19)], [])]).tally
    score = trial_of(SCORE, [([pod(1.5), pod(2)], []), ([pod(3.25), pod(4)], [])]).tally
    rows = [Sample(f"{i}_{j}", 2.0, moment=(i, j)) for i in range(5) for j in range(5 - i)]
    moments = trial_of(SAME, [([{"a": ()}], []), ([{"a": tuple(rows)}], [])]).tally

    assert (pairs.candidate.values, pairs.candidate.requests) == ((3.0, 2.0, 10.0), 15.0)
    assert (score.candidate.values, score.candidate.requests) == ((1.75, 2.0), 2.0)
    assert (len(moments.candidate.moments), moments.candidate.requests) == (15, 2.0)


@pytest.mark.parametrize(
    ("window", "windows"), [(15, [100.0, 100.0]), (5, [100.0] * 6), (12, [100.0, 100.0]), (1000, [])]
)
def test_a_rate_is_taken_over_whole_windows(window: int, windows: list[float]) -> None:
    objective = THROUGHPUT.model_copy(update={"rate": Rate(requests="all", window=window * SECOND)})
    tally = trial_of(objective, [([pod(500 * number)], []) for number in range(7)]).tally

    assert (tally.rate.windows if tally.rate else 0) == len(windows)
    assert tally.rate is None or tally.rate.mean == pytest.approx(100)


def test_a_rate_over_ticks_that_were_missed_is_no_burst() -> None:
    """Counters catch up, and so does time."""
    ticks: list[Tick] = [([pod(500 * number)], []) for number in range(13)]
    for number in (4, 5, 6, 7):
        ticks[number] = ([NOTHING], [])
    tally = trial_of(THROUGHPUT, ticks).tally

    assert tally.rate is not None and tally.rate.mean == pytest.approx(100)


def test_the_latest_ticks_are_kept_for_the_trend() -> None:
    tally = trial_of(ERRORS, [(ratio(0, 10 * number), []) for number in range(40)]).tally

    assert tally.recent == tuple(map(at, range(39 - RECENT_TICKS, 40)))
    assert [tally.recent_candidate.gained(ticks).requests for ticks in (0, 1, RECENT_TICKS)] == [0.0, 10.0, 120.0]


ARMS = st.builds(
    Arm,
    st.tuples(st.integers(0, 99).map(float), st.integers(0, 99).map(float)),
    st.dictionaries(st.sampled_from([0.1, 0.5, INF]), st.integers(1, 9).map(float)).map(Buckets.of),
    st.dictionaries(st.sampled_from([(0.0, 0.1), (0.1, 0.2)]), st.integers(1, 9).map(float)),
    st.dictionaries(st.sampled_from([(0, 0), (1, 2)]), st.integers(1, 9).map(float)),
)


@given(st.lists(ARMS, min_size=1, max_size=9), st.data())
def test_a_track_tells_what_an_arm_has_gained_whatever_it_has(gains: list[Arm], data: st.DataObject) -> None:
    sums = list(accumulate(gains, Arm.joined))
    track = Track()
    for arm in sums:
        track = track.followed_by(arm, 5)
    kept = min(5, len(sums))
    ticks = data.draw(st.integers(0, kept - 1))
    until = data.draw(st.integers(0, ticks))

    expected = sums[-1 - until].since(sums[-1 - ticks])
    found = track.gained(ticks, until)
    assert track.ticks == kept
    assert found.values == expected.values
    assert above_zero(found.buckets) == above_zero(expected.buckets)
    assert above_zero(found.spans) == above_zero(expected.spans)
    assert above_zero(found.moments) == above_zero(expected.moments)


def above_zero(counts: Mapping[Any, float]) -> dict[Any, float]:
    return {key: count for key, count in counts.items() if count}


def test_what_one_arm_has_the_other_one_need_not_have() -> None:
    assert Track().followed_by(Arm(), 3).gained(0) == Arm()


# --- Drift --------------------------------------------------------------------------------------------------

EDGES = (0.1, 0.4, 0.405, 0.5, INF)
BASELINE = BaselineStatus(name="drift", ticks=720, rate=100, edge=0.4)


def test_drift_is_counted_beyond_an_edge_and_beyond_the_edge_and_the_allowed_drift() -> None:
    ticks = [
        (classic(EDGES, (0, 0, 0, 0, 0)), classic(EDGES, (0, 0, 0, 0, 0))),
        (classic(EDGES, (10, 90, 92, 99, 100)), classic(EDGES, (10, 95, 96, 99, 100))),
    ]
    tally = trial_of(DRIFT, ticks, BASELINE).tally

    assert tally.ratio is not None and tally.ratio_for_breach is not None
    assert (tally.ratio.x_c, tally.ratio.n_c, tally.ratio.x_b, tally.ratio.n_b) == (8.0, 100.0, 5.0, 100.0)
    assert tally.ratio_for_breach.x_c == 8.0


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        pytest.param((0.4, 0.405, 0.5, INF), DriftEdges(0.4, 0.405, 0.405), id="an edge at the allowed drift"),
        pytest.param((0.4, 0.5, INF), DriftEdges(0.4, 0.4, 0.5), id="a pass is harder, and a breach too"),
        pytest.param((0.4, INF), None, id="nothing beyond"),
        pytest.param((0.1, 0.5, INF), None, id="the baseline's edge is gone"),
    ],
)
def test_edges_for_drift(edges: tuple[float, ...], expected: DriftEdges | None) -> None:
    known = Histogram(edges, (0.0,) * len(edges))

    assert DriftEdges.of(known, known, 0.4, 0.005, 0.005) == expected


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        pytest.param(
            classic((0.1, 0.4, 0.5, INF), (1, 2, 3, 4)), classic(EDGES, (10, 20, 30, 40, 50)), id="other buckets"
        ),
        pytest.param(
            native(EDGES, (0, 4, 4, 4, 4)), native(EDGES, (10, 20, 30, 40, 50)), id="no bucket where nothing was slow"
        ),
    ],
)
def test_a_candidate_may_have_other_buckets_than_stable(
    mine: Sequence[PodSamples], theirs: Sequence[PodSamples]
) -> None:
    nothing: Sequence[PodSamples] = [{"a": ()}]

    assert trial_of(DRIFT, [(nothing, nothing), (mine, theirs)], BASELINE).tally.ticks == 1


# --- Classic and native histograms --------------------------------------------------------------------------

SIX = (0.1, 0.25, 0.5, 1.0, 2.5, INF)
OBSERVED = st.lists(st.lists(st.integers(0, 60), min_size=6, max_size=6), min_size=2, max_size=8)


def added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(one, other, strict=True)))


def cumulative(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Counts up to each edge, at the origin and at each tick after it."""
    totals = accumulate((tuple(accumulate(row)) for row in rows), added, initial=(0,) * len(rows[0]))
    return [list(counts) for counts in totals]


@settings(deadline=None)
@given(OBSERVED)
def test_the_kind_of_histogram_changes_no_verdict(rows: list[list[int]]) -> None:
    found = []
    for kind in (classic, native):
        ticks = [(kind(SIX, counts), [NOTHING]) for counts in cumulative(rows)]
        tally = trial_of(SLOW, ticks).tally
        found.append((tally.candidate.requests, measures.measured(SLOW, tally, None)))

    (requests, one), (others, other) = found
    assert requests == others == sum(map(sum, rows))
    assert (one.meets, one.breaches) == (other.meets, other.breaches)
    if all(rows[-1]):  # no bucket is empty, so both know the same edges
        assert (one.observed, one.interval) == (other.observed, other.interval)


def test_milliseconds_become_seconds() -> None:
    objective = SLOW.model_copy(update={"quantile": Quantile(buckets="ms", scale=0.001)})
    millis = [edge * 1000 for edge in SIX]
    ticks = [(classic(millis, counts), [NOTHING]) for counts in ([0] * 6, [10, 90, 960, 999, 1000, 1000])]
    same = [(classic(SIX, counts), [NOTHING]) for counts in ([0] * 6, [10, 90, 960, 999, 1000, 1000])]

    known = measures.measured(objective, trial_of(objective, ticks).tally, None)
    assert known == measures.measured(SLOW, trial_of(SLOW, same).tally, None)
    assert known.observed == pytest.approx(0.497, abs=0.001)


def test_a_bucket_may_be_a_counter_of_a_ratio() -> None:
    """Such as the share of requests within half a second. Counted as none it would be a false pass."""

    def within(fast: float, total: float) -> Sequence[PodSamples]:
        return [{"a": (Sample("le=0.5", fast, 0.5),)}, pod(total)]

    assert trial_of(ERRORS, [(within(0, 0), []), (within(900, 1000), [])]).tally.candidate.bad == 900.0


# --- A value that moves -------------------------------------------------------------------------------------


def test_intervals_that_exclude_each_other_contradict_the_model() -> None:
    bad = [0, *range(1, RECENT_TICKS + 1)]
    calm: list[Tick] = [(ratio(number, 1000 * number), []) for number in bad]
    storm: list[Tick] = [(ratio(12 + 500 * n, 1000 * (12 + n)), []) for n in range(1, RECENT_TICKS * 4)]

    assert not trial_of(ERRORS, calm).tally.contradicted
    assert trial_of(ERRORS, [*calm, *storm]).tally.contradicted


def test_a_steady_value_contradicts_nothing() -> None:
    ticks: list[Tick] = [(ratio(2 * number, 1000 * number), []) for number in range(400)]
    tally = trial_of(ERRORS, ticks).tally

    assert not tally.contradicted and tally.common is not None and tally.common.contains(0.002)


@pytest.mark.parametrize(
    "objective",
    [
        pytest.param(ERRORS, id="errors"),
        pytest.param(AGAINST, id="errors, against stable"),
        pytest.param(SLOW.model_copy(update={"quantile": Quantile(buckets="seconds", q=0.99)}), id="P99"),
        pytest.param(ERRORS.model_copy(update={"max": None, "min": 0.99}), id="a minimum"),
    ],
)
@pytest.mark.parametrize("good", [1, 30, 59, 60, 119, 500])
def test_a_hard_breach_is_proved_by_the_second_tick_however_long_all_was_well(objective: Objective, good: int) -> None:
    """20 of 200 requests a second, 5 s a tick; the fault begins in the middle of a tick."""

    def arm(events: float, total: float) -> Sequence[PodSamples]:
        if objective.quantile:
            return classic((0.5, INF), (total - events, total))
        return ratio(total - events if objective.min else events, total)

    seen = [(0.4 * tick, 100.0 * tick) for tick in range(good + 1)]
    events, total = seen[-1]
    seen += [(events + 10, total + 100), (events + 30, total + 200)]
    ticks = [(arm(*counts), arm(0.036 * counts[1], 9 * counts[1])) for counts in seen]
    before, after = (trial_of(objective, ticks[:end]).tally for end in (good + 1, good + 3))

    assert not measures.breached(objective, before, None)
    known = measures.measured(objective, after, None)
    assert measures.breached(objective, after, None) and known.breaches and not known.meets
    began = [f"counted since {at(tick):%H:%M:%S} alone: the whole step has " for tick in (good, good + 1)]
    assert good < 500 or known.note.startswith(tuple(began))


def test_a_turn_that_the_latest_tick_does_not_share_is_none() -> None:
    """It is over: whatever it was, a revert would mend nothing."""
    calm = [(2.0 * tick, 1000.0 * tick) for tick in range(200)]
    burst = [(calm[-1][0] + 100, calm[-1][1] + 1000), (calm[-1][0] + 102, calm[-1][1] + 2000)]
    ticks: list[Tick] = [(ratio(*counts), []) for counts in [*calm, *burst]]

    assert measures.breached(ERRORS, trial_of(ERRORS, ticks[:-1]).tally, None)
    assert not measures.breached(ERRORS, trial_of(ERRORS, ticks).tally, None)


# --- The same ticks give the same tally, and a breach is a breach ---------------------------------------------

STREAM = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 200), st.integers(0, 30), st.integers(0, 200)), min_size=2, max_size=40
)


@settings(deadline=None)
@given(STREAM, st.sampled_from([ERRORS, AGAINST, AGAINST.model_copy(update={"compare": Compare.DIFFERENCE})]))
def test_a_breach_is_seen_on_the_fast_way_as_on_the_long_one(
    rows: list[tuple[int, int, int, int]], objective: Objective
) -> None:
    totals = [(0, 0, 0, 0)]
    for a, b, c, d in rows:
        bad, total, worse, more = totals[-1]
        totals.append((bad + min(a, b), total + b, worse + min(c, d), more + d))
    ticks = [(ratio(bad, total), ratio(worse, more, "s")) for bad, total, worse, more in totals]
    tally = trial_of(objective, ticks).tally

    baseline = BaselineStatus(name="x", ticks=100, rate=1, dispersion=1.5)
    for known in (None, baseline):
        found = measures.measured(objective, tally, known)
        assert measures.breached(objective, tally, known) is found.breaches
        assert not (found.meets and found.breaches)


@settings(deadline=None)
@given(OBSERVED, st.sampled_from([0.25, 0.5, 0.3]))
def test_a_breached_quantile_is_seen_on_the_fast_way(rows: list[list[int]], target: float) -> None:
    objective = SLOW.model_copy(update={"max": target})
    tally = trial_of(objective, [(classic(SIX, c), [NOTHING]) for c in cumulative(rows)]).tally

    assert measures.breached(objective, tally, None) is measures.measured(objective, tally, None).breaches


@settings(deadline=None)
@given(STREAM)
def test_the_same_ticks_give_the_same_tally(rows: list[tuple[int, int, int, int]]) -> None:
    def ticks() -> list[Tick]:
        return [(ratio(min(a, b), b), ratio(min(c, d), d, "s")) for a, b, c, d in rows]  # counters fall: resets

    assert bits(trial_of(AGAINST, ticks()).tally) == bits(trial_of(AGAINST, ticks()).tally)


def test_what_an_arm_gained_since_is_what_was_added() -> None:
    one = Arm((1.0, 5.0), Buckets.of({0.1: 2.0}), {(0.0, 0.1): 1.0}, {(0, 0): 3.0})
    both = Arm((4.0, 9.0), Buckets.of({0.1: 3.0, INF: 5.0}), {(0.0, 0.1): 4.0}, {(0, 0): 4.0})

    assert both.since(one) == Arm((3.0, 4.0), Buckets.of({0.1: 1.0, INF: 5.0}), {(0.0, 0.1): 3.0}, {(0, 0): 1.0})
    assert both.since(Arm()) == both


@settings(deadline=None)
@given(
    st.sampled_from([ERRORS, AGAINST, SLOW, ERRORS.model_copy(update={"max": None, "min": 0.02})]),
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60), st.integers(0, 9), st.integers(1, 60)), max_size=80),
)
def test_a_breach_that_is_looked_for_alone_is_that_of_the_whole_measure(
    objective: Objective, rows: list[tuple[int, int, int, int]]
) -> None:
    """It is worked out only where one is possible."""
    sums = list(accumulate(rows, lambda one, other: tuple(map(sum, zip(one, other, strict=True)))))

    def arm(bad: int, good: int) -> Sequence[PodSamples]:
        if objective.quantile:
            return classic((0.5, INF), (good, good + bad))
        return ratio(bad, good + bad)

    ticks = [(arm(0, 0), arm(0, 0)), *((arm(a, b), arm(c, d)) for a, b, c, d in sums)]
    tally = trial_of(objective, ticks).tally

    known = measures.measured(objective, tally, None)
    assert measures.breached(objective, tally, None) == known.breaches
    assert measures.interval(objective, tally, None) == known.interval
