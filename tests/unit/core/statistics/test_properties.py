"""What must hold for all counts: direction, order, symmetry, and that no input leads to NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from ops_commander.core.statistics import (
    allocation,
    correlation,
    difference,
    dispersion,
    mixture,
    proportion,
    quantile,
)
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.mixture import Side
from ops_commander.core.statistics.rate import RateEvidence
from ops_commander.core.statistics.ratio import LOG_RATIOS, RatioEvidence, log_likelihood
from ops_commander.core.statistics.solve import root

INF = math.inf
THRESHOLD = math.log(20)
ALPHAS = st.sampled_from([0.5, 0.1, 0.05, 0.01, 1e-6])
BOUNDS = st.one_of(st.sampled_from([0.01, 0.05, 0.5, 0.95]), st.floats(1e-9, 1 - 1e-9))
FACTORS = st.floats(1, 50)

quick = settings(max_examples=60, deadline=None)


def shares(most: float = 1e7) -> st.SearchStrategy[tuple[float, float]]:
    """x and n with x up to n; whole, fractional, none and all."""
    trials = st.one_of(st.integers(0, 1000).map(float), st.floats(0, most))
    parts = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
    return st.tuples(trials, parts).map(lambda pair: (pair[0] * pair[1], pair[0]))


TICKS = st.tuples(st.integers(0, 30), st.integers(1, 500), st.integers(0, 300), st.integers(1, 9000))


def evidence_of(ticks: list[tuple[int, int, int, int]]) -> RatioEvidence:
    evidence = RatioEvidence.empty()
    for tick in ticks:
        evidence = evidence.add(*tick)
    return evidence


def is_within(inner: Interval, outer: Interval, slack: float = 1e-9) -> bool:
    return outer.low <= inner.low + slack and inner.high <= outer.high + slack


# A: one proportion


@quick
@given(shares(), ALPHAS, FACTORS)
def test_a_proportion_lies_in_its_interval_and_in_0_to_1(pair: tuple[float, float], alpha: float, phi: float) -> None:
    x, n = pair
    found = proportion.interval(x, n, alpha=alpha, dispersion=phi)

    assert 0 <= found.low <= found.high <= 1
    assert n == 0 or found.low <= x / n <= found.high
    assert is_within(found, proportion.interval(x, n, alpha=alpha / 2, dispersion=phi))


@quick
@given(shares())
def test_a_proportion_and_that_of_the_rest_mirror_each_other(pair: tuple[float, float]) -> None:
    x, n = pair
    found, mirrored = proportion.interval(x, n), proportion.interval(n - x, n)

    assert (found.low, found.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-9)


@quick
@given(shares(1e9), BOUNDS, FACTORS)
def test_a_proportion_never_shows_both_sides_of_a_bound(pair: tuple[float, float], p0: float, phi: float) -> None:
    x, n = pair
    above, below = (test(x, n, p0, dispersion=phi) for test in (proportion.log_e_above, proportion.log_e_below))

    assert math.isfinite(above) and math.isfinite(below)
    assert min(above, below) < 1e-6
    assert above < THRESHOLD or x > n * p0
    assert below < THRESHOLD or x < n * p0


@quick
@given(shares(1e6), BOUNDS, st.floats(0, 1))
def test_more_events_are_more_evidence_of_a_broken_bound(pair: tuple[float, float], p0: float, more: float) -> None:
    x, n = pair
    y = x + (n - x) * more

    assert proportion.log_e_above(y, n, p0) >= proportion.log_e_above(x, n, p0) - 1e-6
    assert proportion.log_e_below(y, n, p0) <= proportion.log_e_below(x, n, p0) + 1e-6


@quick
@given(shares(1e5), BOUNDS, FACTORS)
def test_dispersion_is_as_if_there_were_fewer_requests(pair: tuple[float, float], p0: float, phi: float) -> None:
    x, n = pair

    assert proportion.log_e_above(x, n, p0, dispersion=phi) == pytest.approx(
        proportion.log_e_above(x / phi, n / phi, p0), abs=1e-9
    )


def test_evidence_stays_finite_and_in_order_far_into_the_tails() -> None:
    events = np.linspace(0, 10_000, 401).tolist()
    above, below = ([f(x, 10_000, 0.01) for x in events] for f in (proportion.log_e_above, proportion.log_e_below))

    assert np.isfinite(above).all() and np.isfinite(below).all()
    assert (np.diff(above) > 0).all() and (np.diff(below) < 0).all()


@pytest.mark.parametrize("p0", [1e-9, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("phi", [1.0, 9.0, 50.0])
def test_smallest_passing_is_the_smallest(p0: float, phi: float) -> None:
    least = proportion.smallest_passing(p0, dispersion=phi)

    assert proportion.log_e_below(0, least, p0, dispersion=phi) >= THRESHOLD
    assert proportion.log_e_below(0, least - 1, p0, dispersion=phi) < THRESHOLD


# B: ratio of two rates


@quick
@given(st.lists(TICKS, max_size=5), ALPHAS, st.sampled_from([0.25, 1.0]), FACTORS)
def test_a_ratio_lies_in_its_interval(
    ticks: list[tuple[int, int, int, int]], alpha: float, tau: float, phi: float
) -> None:
    evidence = evidence_of(ticks)
    found = evidence.interval(alpha, prior_scale=tau, dispersion=phi)
    estimate = evidence.estimate()

    assert 0 <= found.low < found.high
    assert estimate is None or found.contains(estimate)
    assert is_within(found, evidence.interval(alpha / 2, prior_scale=tau, dispersion=phi))


@quick
@given(st.lists(TICKS, max_size=5))
def test_swapping_the_arms_inverts_the_ratio(ticks: list[tuple[int, int, int, int]]) -> None:
    evidence = evidence_of(ticks)
    swapped = evidence_of([(x_b, n_b, x_c, n_c) for x_c, n_c, x_b, n_b in ticks])
    found, mirrored = evidence.interval(), swapped.interval()

    assert found.low * mirrored.high == pytest.approx(1) or (found.low, mirrored.high) == (0, INF)
    assert found.high * mirrored.low == pytest.approx(1) or (found.high, mirrored.low) == (INF, 0)
    assert evidence.log_e_above(1.5) == pytest.approx(swapped.log_e_below(1 / 1.5), abs=1e-6)


@quick
@given(st.lists(TICKS, min_size=1, max_size=5), st.floats(0.01, 100))
def test_a_ratio_never_shows_both_sides(ticks: list[tuple[int, int, int, int]], ratio: float) -> None:
    evidence = evidence_of(ticks)
    above, below = evidence.log_e_above(ratio), evidence.log_e_below(ratio)
    estimate = evidence.estimate()

    assert math.isfinite(above) and math.isfinite(below)
    assert min(above, below) < 1e-3
    if above >= THRESHOLD:
        assert estimate is not None and estimate > ratio
    if below >= THRESHOLD:
        assert estimate is not None and estimate < ratio


@quick
@given(st.lists(TICKS, min_size=1, max_size=5), st.floats(0.01, 100))
def test_an_interval_of_ratios_holds_what_the_evidence_does_not_exclude(
    ticks: list[tuple[int, int, int, int]], ratio: float
) -> None:
    evidence = evidence_of(ticks)
    log_e = evidence.log_e(ratio)

    assert evidence.interval().contains(ratio) == (log_e < THRESHOLD) or log_e == pytest.approx(THRESHOLD, abs=1e-6)


@quick
@given(st.lists(TICKS, max_size=4), TICKS, st.integers(1, 20))
def test_more_events_of_the_candidate_are_more_evidence_that_it_is_worse(
    before: list[tuple[int, int, int, int]], tick: tuple[int, int, int, int], more: int
) -> None:
    x_c, n_c, x_b, n_b = tick
    evidence = evidence_of(before)
    fewer, worse = evidence.add(*tick), evidence.add(x_c + more, n_c, x_b, n_b)

    assert worse.log_e_above(1) >= fewer.log_e_above(1) - 1e-9
    assert worse.log_e_below(1) <= fewer.log_e_below(1) + 1e-9


@quick
@given(st.lists(TICKS, min_size=2, max_size=6))
def test_all_ticks_at_once_say_the_same_as_one_after_another(ticks: list[tuple[int, int, int, int]]) -> None:
    evidence = evidence_of(ticks)
    x_c, n_c, x_b, n_b = (column[:, None] for column in np.array(ticks, dtype=float).T)
    total = log_likelihood(LOG_RATIOS, x_c, n_c, x_b, n_b).sum(axis=0)

    assert float(mixture.log_e(LOG_RATIOS, total, 0.0, Side.ABOVE, 1.0)) == pytest.approx(evidence.log_e_above(1))
    assert (evidence.x_c, evidence.n_b) == (sum(tick[0] for tick in ticks), sum(tick[3] for tick in ticks))


def test_a_tick_in_which_an_arm_has_no_exposure_says_nothing() -> None:
    evidence = RatioEvidence.empty().add(3, 75, 7, 1425)

    for tick in ((0, 0, 5, 1400), (2, 70, 0, 0), (0, 0, 0, 0)):
        assert evidence.add(*tick).interval() == evidence.interval()


def test_ratio_evidence_cannot_be_changed() -> None:
    evidence = RatioEvidence.empty().add(3, 75, 7, 1425)

    with pytest.raises(ValueError, match="read-only"):
        evidence.log_likelihoods[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        RatioEvidence.empty().log_likelihoods[0] = 1


# C: difference of two means


@quick
@given(shares(), shares(), ALPHAS, FACTORS)
def test_a_difference_lies_in_its_interval(
    c: tuple[float, float], b: tuple[float, float], alpha: float, phi: float
) -> None:
    found = difference.interval(*c, *b, alpha=alpha, dispersion=phi)

    assert -1 <= found.low <= found.high <= 1
    assert not (c[1] and b[1]) or found.contains(c[0] / c[1] - b[0] / b[1])
    assert is_within(found, difference.interval(*c, *b, alpha=alpha / 2, dispersion=phi))


@quick
@given(shares(), shares())
def test_swapping_the_arms_negates_the_difference(c: tuple[float, float], b: tuple[float, float]) -> None:
    found, mirrored = difference.interval(*c, *b), difference.interval(*b, *c)

    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-7)


@quick
@given(shares(1e5), shares(1e5), st.floats(-1, 1))
def test_evidence_on_a_difference_agrees_with_its_interval(
    c: tuple[float, float], b: tuple[float, float], delta0: float
) -> None:
    log_e = difference.log_e(*c, *b, delta0)

    assert not math.isnan(log_e)
    found = difference.interval(*c, *b)
    assert found.contains(delta0) == (log_e < THRESHOLD) or log_e == pytest.approx(THRESHOLD, abs=1e-4)


@quick
@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60), st.floats(-0.99, 0.99))
def test_the_largest_likelihood_with_a_difference_is_that_of_a_fine_grid(
    k_c: int, n_c: int, k_b: int, n_b: int, delta0: float
) -> None:
    x_c, x_b = min(k_c, n_c), min(k_b, n_b)
    grid = np.linspace(max(0, -delta0), min(1, 1 - delta0), 20_001)[1:-1]
    likelihoods = x_c * np.log(grid + delta0) + (n_c - x_c) * np.log(1 - grid - delta0)
    likelihoods += x_b * np.log(grid) + (n_b - x_b) * np.log(1 - grid)
    marginal = betaln(0.5 + x_c, 0.5 + n_c - x_c) + betaln(0.5 + x_b, 0.5 + n_b - x_b) - 2 * betaln(0.5, 0.5)
    expected = float(marginal - likelihoods.max())

    assert expected - 0.05 < difference.log_e(x_c, n_c, x_b, n_b, delta0) < expected + 1e-9


PAIRS = st.tuples(*[st.one_of(st.just(0.0), st.floats(0, 1e6))] * 3)


@quick
@given(PAIRS, ALPHAS)
def test_a_paired_difference_lies_in_its_interval_and_mirrors(pairs: tuple[float, ...], alpha: float) -> None:
    wins, losses, ties = pairs
    found = difference.paired_interval(wins, losses, ties, alpha=alpha)
    mirrored = difference.paired_interval(losses, wins, ties, alpha=alpha)
    total = wins + losses + ties

    assert total == 0 or found.contains((wins - losses) / total)
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-7)
    assert is_within(found, difference.paired_interval(wins, losses, ties, alpha=alpha / 2))


@quick
@given(PAIRS, st.floats(-1, 1))
def test_paired_evidence_agrees_with_its_interval(pairs: tuple[float, ...], delta0: float) -> None:
    wins, losses, ties = pairs
    log_e = difference.paired_log_e(wins, losses, ties, delta0)

    assert not math.isnan(log_e)
    found = difference.paired_interval(wins, losses, ties)
    assert found.contains(delta0) == (log_e < THRESHOLD) or log_e == pytest.approx(THRESHOLD, abs=1e-4)


# D: quantiles

EDGES = (0.05, 0.1, 0.25, 0.5, 1.0, INF)
HISTOGRAMS = st.lists(st.integers(0, 2000), min_size=6, max_size=6).map(lambda each: list(accumulate(each)))


@quick
@given(HISTOGRAMS, st.floats(0.01, 0.99), ALPHAS)
def test_a_quantile_lies_in_its_interval(counts: list[int], q: float, alpha: float) -> None:
    found = quantile.interval(EDGES, counts, q, alpha=alpha)
    estimate = quantile.estimate(EDGES, counts, q)

    assert {found.low, found.high} <= {0.0, *EDGES}
    assert estimate is None or found.contains(estimate)
    assert is_within(found, quantile.interval(EDGES, counts, q, alpha=alpha / 2))


@quick
@given(HISTOGRAMS, HISTOGRAMS)
def test_swapping_the_arms_negates_the_difference_of_quantiles(c: list[int], b: list[int]) -> None:
    found = quantile.difference_interval(EDGES, c, EDGES, b, 0.95)
    mirrored = quantile.difference_interval(EDGES, b, EDGES, c, 0.95)

    assert (found.low, found.high) == (-mirrored.high, -mirrored.low)


@quick
@given(HISTOGRAMS, st.integers(1, 500))
def test_slower_answers_never_lower_the_bounds_of_a_quantile(counts: list[int], slow: int) -> None:
    fewer, more = (quantile.interval(EDGES, [*counts[:-1], counts[-1] + extra], 0.95) for extra in (0, slow))

    assert more.low >= fewer.low


@pytest.mark.parametrize(
    ("edges", "counts", "q", "estimate"),
    [
        ((0.1, 0.2, INF), (0, 100, 100), 0.5, 0.15),
        ((0.1, 0.2, INF), (100, 100, 100), 0.9, 0.09),
        ((0.1, 0.2, INF), (0, 10, 100), 0.9, 0.2),
        ((-1, 0, INF), (10, 10, 10), 0.5, -1),
        ((0.1, 0.2), (0, 100), 0.5, 0.15),
        ((0.1, INF), (0, 0), 0.5, None),
        ((INF,), (5,), 0.5, None),
    ],
)
def test_estimates_are_those_of_prometheus(
    edges: tuple[float, ...], counts: tuple[float, ...], q: float, estimate: float | None
) -> None:
    found = quantile.estimate(edges, counts, q)

    assert found is None if estimate is None else found == pytest.approx(estimate)


def test_nothing_is_known_of_a_quantile_without_values() -> None:
    assert quantile.interval(EDGES, [0] * 6, 0.95) == Interval(0, INF)
    assert quantile.interval((-1, 0, INF), [0, 0, 0], 0.95) == Interval(-INF, INF)


# E: rate of windows


@quick
@given(st.lists(st.floats(0, 500), max_size=40), st.floats(0.1, 1000), ALPHAS)
def test_a_rate_lies_in_its_interval(rates: list[float], cap: float, alpha: float) -> None:
    evidence = RateEvidence.empty(cap)
    for rate in rates:
        evidence = evidence.add(rate)
    found, mean = evidence.interval(alpha), evidence.mean

    assert 0 <= found.low <= found.high <= cap
    assert evidence.windows == len(rates)
    assert mean is None or found.contains(mean)
    assert is_within(found, evidence.interval(alpha / 2), 1e-9 * cap)


def test_more_windows_of_a_steady_rate_narrow_its_interval() -> None:
    evidence, widths = RateEvidence.empty(150), []
    for _ in range(200):
        evidence = evidence.add(110)
        widths.append(evidence.interval().high - evidence.interval().low)

    assert widths == sorted(widths, reverse=True)
    assert evidence.interval().low > 100


# F: correlation


def moments_of(x: np.typing.NDArray[np.float64], y: np.typing.NDArray[np.float64]) -> dict[tuple[int, int], float]:
    return {(i, j): float((x**i * y**j).sum()) for i, j in correlation.POWERS}


@quick
@given(st.integers(0, 2**32 - 1), st.sampled_from([20, 499, 500, 3000]), st.floats(0, 2), st.floats(0, 3), ALPHAS)
def test_a_correlation_lies_in_its_interval(seed: int, n: int, noise: float, offset: float, alpha: float) -> None:
    random = np.random.default_rng(seed)
    x = random.random(n)
    y = offset + x + noise * random.random(n)
    found, estimate = correlation.interval(moments_of(x, y), alpha=alpha), correlation.estimate(moments_of(x, y))

    assert estimate is not None and -1 <= found.low <= estimate <= found.high <= 1
    assert (found == Interval(-1, 1)) == (n < 500)
    assert estimate == pytest.approx(float(np.corrcoef(x, y)[0, 1]), abs=1e-8)
    mirrored = correlation.interval(moments_of(x, -y), alpha=alpha)
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-6)


def test_equal_scores_correlate_perfectly_and_constant_ones_not_at_all() -> None:
    x = np.random.default_rng(1).random(1000)
    equal, constant, none = moments_of(x, x), moments_of(x, np.full(1000, 0.3)), moments_of(x[:0], x[:0])

    assert correlation.estimate(equal) == pytest.approx(1)
    assert 0.9999 < correlation.interval(equal).low <= correlation.interval(equal).high <= 1
    for nothing in (constant, none):
        assert correlation.estimate(nothing) is None
        assert correlation.interval(nothing) == Interval(-1, 1)


# Dispersion and the split of traffic


def test_dispersion_is_that_of_the_clumps() -> None:
    random = np.random.default_rng(2)
    requests = random.poisson(1500, 2000)
    single = random.binomial(requests, 0.01)
    in_fives = 5 * random.binomial(requests // 5, 0.01)

    assert dispersion.index_of_dispersion(single, requests) == pytest.approx(1, abs=0.1)
    assert dispersion.index_of_dispersion(in_fives, requests) == pytest.approx(5, abs=0.4)


@pytest.mark.parametrize(
    ("events", "exposures"), [([], []), ([3], [100]), ([0, 0, 0], [9, 9, 9]), ([5, 0], [5, 0]), ([2, 2], [2, 2])]
)
def test_dispersion_is_one_where_nothing_can_be_told(events: list[float], exposures: list[float]) -> None:
    assert dispersion.index_of_dispersion(events, exposures) == 1


@quick
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.01, 0.7), st.floats(0, 0.4))
def test_evidence_on_the_split(n_c: int, n_b: int, share: float, tolerance: float) -> None:
    strict, lenient = (allocation.log_e(n_c, n_b, share, tolerance=within) for within in (0.0, tolerance))
    found = allocation.log_odds_ratio_interval(n_c, n_b, share)

    assert lenient <= strict + 1e-6
    assert 0 <= allocation.p_value(n_c, n_b, share, tolerance=tolerance) <= 1
    assert found.contains(0) == (strict < THRESHOLD) or strict == pytest.approx(THRESHOLD, abs=1e-6)


# Nonsense


@pytest.mark.parametrize(
    ("nonsense", "names"),
    [
        (lambda: proportion.interval(3, 2), "x is 3"),
        (lambda: proportion.interval(-1, 2), "x is -1"),
        (lambda: proportion.interval(math.nan, 2), "x is nan"),
        (lambda: proportion.interval(0, INF), "n is inf"),
        (lambda: proportion.log_e_below(0, 1e13, 0.1), "n is 10000000000000.0, expected a number from 0 to 1e+12"),
        (lambda: proportion.interval(0, 2, alpha=0), "alpha is 0"),
        (lambda: proportion.interval(0, 2, dispersion=0.5), "dispersion is 0.5"),
        (lambda: proportion.log_e_above(0, 2, 1), "p0 is 1"),
        (lambda: proportion.log_e_above(3, 2, 0.1), "x is 3"),
        (lambda: RatioEvidence.empty().add(1, 0, 0, 5), "x_c is 1, expected 0"),
        (lambda: RatioEvidence.empty().add(0, -1, 0, 5), "n_c is -1"),
        (lambda: RatioEvidence.empty().log_e(0), "ratio is 0"),
        (lambda: RatioEvidence.empty().log_e(1e9), "ratio is 1000000000.0, expected a number from 0.0069"),
        (lambda: RatioEvidence.empty().interval(prior_scale=0), "prior_scale is 0"),
        (lambda: difference.log_e(1, 2, 1, 2, 1.5), "delta0 is 1.5"),
        (lambda: difference.paired_interval(-1, 0, 0), "wins is -1"),
        (lambda: quantile.interval([], [], 0.5), "0 edges and 0 counts"),
        (lambda: quantile.interval([1, 1], [1, 2], 0.5), "expected rising numbers"),
        (lambda: quantile.interval([1, 2], [2, 1], 0.5), "do not fall"),
        (lambda: quantile.interval([1, 2], [1, 2], 1.5), "q is 1.5"),
        (lambda: RateEvidence.empty(0), "cap is 0"),
        (lambda: RateEvidence.empty(1).add(-1), "rate is -1"),
        (lambda: correlation.estimate({(0, 0): 3}), "moments lack"),
        (lambda: dispersion.index_of_dispersion([1, 2], [3]), "shapes are"),
        (lambda: allocation.log_e(-1, 2, 0.5), "n_c is -1"),
        (lambda: allocation.log_e(1, 2, 1.5), "share is 1.5"),
        (lambda: Interval(2, 1), "low is 2"),
        (lambda: root(lambda x: 1.0, 0, 1), "expected different signs"),
    ],
)
def test_nonsense_is_refused_by_name(nonsense: Callable[[], object], names: str) -> None:
    with pytest.raises(ValueError) as refused:
        nonsense()

    assert names in str(refused.value)


def test_intervals_meet_or_do_not() -> None:
    assert Interval(0, 2).intersect(Interval(1, INF)) == Interval(1, 2)
    assert Interval(0, 1).intersect(Interval(1, 2)) == Interval(1, 1)
    assert Interval(0, 1).intersect(Interval(1.5, 2)) is None
    assert Interval(-INF, 1).contains(-1e300) and not Interval(0, 1).contains(math.nan)


@quick
@given(
    st.lists(st.tuples(shares(1e4), shares(1e5)), max_size=5),
    st.floats(0.3, 3),
    st.sampled_from([Side.ABOVE, Side.BELOW]),
    FACTORS,
)
def test_no_evidence_of_a_ratio_is_higher_than_its_bound(
    ticks: list[tuple[tuple[float, float], tuple[float, float]]], ratio: float, side: Side, phi: float
) -> None:
    """Of which `measures` makes that a breach need not be worked out."""
    evidence = RatioEvidence.empty()
    for mine, theirs in ticks:
        evidence = evidence.add(*mine, *theirs)
    log_e = evidence.log_e_above if side is Side.ABOVE else evidence.log_e_below

    assert log_e(ratio, dispersion=phi) <= evidence.highest_log_e(ratio, side, dispersion=phi) + 1e-9
