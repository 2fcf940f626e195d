"""Published numbers must come out. Each table names where its numbers are from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ops_commander.core.statistics import allocation, beta, correlation, difference, proportion, quantile
from ops_commander.core.statistics.interval import Interval
from ops_commander.core.statistics.rate import TUNED_FOR, RateEvidence, boundary
from ops_commander.core.statistics.ratio import RatioEvidence
from tests.unit.core.statistics import reference

V_OPT, ALPHA = 100, 0.05


def near(value: float, digits: float = 1e-5) -> Any:
    return pytest.approx(value, abs=digits)


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


# Own numbers, frozen: of the ratio found by scipy's brentq on the exact likelihood, the rest by an earlier prototype.


@pytest.mark.parametrize(
    ("tick", "low", "high", "log_e"),
    [
        ((15, 750, 95, 14250), 1.1343114, 6.5986625, 4.1499),
        ((30, 1500, 143, 28500), 1.9338710, 7.4492601, 14.8864),
        ((5, 750, 71, 14250), 0.2721062, 3.9998990, -0.6945),
        ((90, 4500, 428, 85500), 2.6135676, 5.8928084, 49.2691),
    ],
)
def test_ratio_of_two_arms(tick: tuple[float, float, float, float], low: float, high: float, log_e: float) -> None:
    evidence = RatioEvidence.empty().add(*tick)

    assert ends(evidence.interval()) == pytest.approx((low, high), rel=1e-5)
    assert evidence.log_e(1) == near(log_e, 5e-5)


@pytest.mark.parametrize(
    ("x", "n", "low", "high"),
    [
        (700, 1000, 0.64544, 0.75102),
        (12, 2000, 0.001610, 0.014950),
        (0, 2000, 0, 0.003678),
        (40, 2000, 0.010415, 0.034053),
    ],
)
def test_proportion_of_one_arm(x: float, n: float, low: float, high: float) -> None:
    assert ends(proportion.interval(x, n)) == (near(low, 6e-6), near(high, 6e-6))


@pytest.mark.parametrize(
    ("p0", "errors", "least"), [(0.01, 0, 417), (0.01, 1, 657), (0.01, 5, 1396), (0.01, 10, 2180), (0.05, 0, 82)]
)
def test_requests_that_a_pass_needs(p0: float, errors: int, least: int) -> None:
    assert proportion.log_e_below(errors, least, p0) >= math.log(20) > proportion.log_e_below(errors, least - 1, p0)
    if errors == 0:
        assert proportion.smallest_passing(p0) == least


# mpmath 1.4 at 60 digits, on the formula as it stands.


@pytest.mark.parametrize(
    ("x", "n", "p0", "above", "below"),
    [
        (5000, 10000, 0.01, 16078.383653851, -9.0404218280217),
        (0, 10000, 0.01, -4.625071837892, 96.339893102188),
        (10000, 10000, 0.01, 45499.513985305, -9.7437182365054),
        (300, 300, 0.05, 830.04223168593, -6.204765025091),
        (99999, 100000, 0.5, 69292.385342245, -11.51291546512),
        (1000, 2000, 1e-6, 5911.6298431568, -7.4490793436043),
    ],
)
def test_evidence_far_into_the_tails(x: float, n: float, p0: float, above: float, below: float) -> None:
    assert proportion.log_e_above(x, n, p0) == pytest.approx(above, rel=1e-9)
    assert proportion.log_e_below(x, n, p0) == pytest.approx(below, rel=1e-9)


def test_four_errors_at_the_start_fail_a_bound_of_one_percent() -> None:
    assert proportion.log_e_above(4, 4, 0.01) >= math.log(20)


def test_difference_of_two_arms_and_of_pairs() -> None:
    canary = difference.interval(0.82 * 1500, 1500, 0.70 * 28500, 28500)
    unpaired = difference.interval(0.82 * 3000, 3000, 0.70 * 3000, 3000)
    paired = difference.paired_interval(0.15 * 3000, 0.03 * 3000, 0.82 * 3000)

    assert ends(canary) == (near(0.066, 5e-4), near(0.168, 5e-4))
    assert ends(unpaired) == (near(0.068, 5e-4), near(0.172, 5e-4))
    assert ends(paired) == (near(0.086, 5e-4), near(0.156, 5e-4))


# savvi 0.3.1 (MIT): Lindon & Malek's multinomial test, shares .95 and .05, concentration 100.


@pytest.mark.parametrize(
    ("n_b", "n_c", "p_value", "low", "high"),
    [
        (95, 15, 0.0530895, -0.00630, 1.97199),
        (190, 30, 0.000319697, 0.29144, 1.77434),
        (950, 90, 5.93017e-05, 0.20693, 0.93250),
    ],
)
def test_split_of_traffic(n_b: float, n_c: float, p_value: float, low: float, high: float) -> None:
    assert allocation.p_value(n_c, n_b, 0.05) == pytest.approx(p_value, rel=2e-6)
    assert ends(allocation.log_odds_ratio_interval(n_c, n_b, 0.05)) == (near(low, 6e-6), near(high, 6e-6))


# confseq (MIT), test/uniform_boundaries_unittest.cpp at 70b1ef3, "from a reference implementation in R".


def test_normal_mixtures() -> None:
    two, one = (reference.normal_rho(V_OPT, ALPHA, one_sided=side) for side in (False, True))

    assert two == near(12.60056)
    assert reference.normal_log_mixture(10, 100, two, one_sided=False) == near(-0.6510052)
    assert reference.bound(lambda s: reference.normal_log_mixture(s, 100, two, one_sided=False), ALPHA) == near(
        30.35209
    )
    assert reference.normal_log_mixture(10, 100, one, one_sided=True) == near(-0.06502391)
    assert reference.bound(lambda s: reference.normal_log_mixture(s, 100, one, one_sided=True), ALPHA) == near(27.66071)


def test_gamma_mixtures() -> None:
    rho = reference.normal_rho(V_OPT, ALPHA, one_sided=True)
    exponential, poisson = reference.gamma_exponential_log_mixture, reference.gamma_poisson_log_mixture

    assert exponential(10, 100, rho, 2) == near(-0.2490165)
    assert reference.bound(lambda s: exponential(s, 100, rho, 2), ALPHA, 1e3) == near(33.02017)
    assert poisson(10, 100, rho, 2) == near(-0.06991219)
    assert reference.bound(lambda s: poisson(s, 100, rho, 2), ALPHA, 1e3) == near(30.1949)


@pytest.mark.parametrize(
    ("one_sided", "log_mixture", "bound"), [(False, -0.6941012, 31.4308), (True, -0.07134019, 28.41238)]
)
def test_beta_binomial_mixtures(one_sided: bool, log_mixture: float, bound: float) -> None:
    r = reference.beta_binomial_r(V_OPT, ALPHA, 0.2, 0.8, one_sided=one_sided)

    def mixture(s: float) -> float:
        return reference.beta_binomial_log_mixture(s, 100, r, 0.2, 0.8, one_sided=one_sided)

    assert mixture(10) == near(log_mixture)
    assert reference.bound(mixture, ALPHA, 100 / 0.2) == near(bound)


def test_beta_binomial_bound_where_no_sum_is_too_large() -> None:
    r, v = reference.beta_binomial_r(V_OPT, ALPHA, 0.2, 0.8, one_sided=True), 2 * 0.2 * 0.8

    def mixture(s: float) -> float:
        return reference.beta_binomial_log_mixture(s, v, r, 0.2, 0.8, one_sided=True)

    assert reference.bound(mixture, ALPHA, v / 0.2) == near(2 * 0.8)


def test_stitched_boundaries() -> None:
    assert reference.poly_stitching(100, ALPHA, 10, 3) == near(64.48755)
    assert reference.poly_stitching(100, ALPHA, 10, -1) == near(28.99389)
    assert reference.empirical_process_lil(1000, ALPHA, 100, 0.85) == near(0.08204769)
    for p, bound in ((0.5, 68.62803), (0.9, 43.72119), (0.1, 59.96521)):
        assert reference.double_stitching(p, 1000, ALPHA, 100) == near(bound)


@pytest.mark.parametrize(
    ("x", "n", "t_opt", "low", "high"),
    [
        (700, 1000, 100, 0.651629, 0.745949),
        (15, 50, 50, 0.129556, 0.511896),
        (5, 50, 50, 0.013021, 0.269264),
        (1, 50, 50, 0, 0.13489),
        (1, 2, 50, 0, 1),
        (100, 200, 1, 0.328923, 0.671076),
        (0, 1, 50, 0, 1),
        (1, 1, 50, 0, 1),
    ],
)
def test_bernoulli_intervals(x: int, n: int, t_opt: float, low: float, high: float) -> None:
    assert reference.bernoulli_interval(x, n, ALPHA, t_opt) == (near(low), near(high))


@pytest.mark.parametrize(
    ("p", "offset", "p_value"),
    [(0.5, 70, 0.814704), (0.5, 85, 0.0838055), (0.5, 100, 0.0054947), (0.9, 55, 0.0340463)],
)
def test_quantile_ab_p_values(p: float, offset: int, p_value: float) -> None:
    values = np.arange(1, 1001)

    assert reference.quantile_ab_p_value(values, values + offset, p, V_OPT) == near(p_value)  # type: ignore[arg-type]


# Ours against the boundaries above, where they share mathematics.


@pytest.mark.parametrize("p0", [0.01, 0.05, 0.5, 0.9])
@pytest.mark.parametrize(("share", "n"), [(0.0, 300), (0.03, 300), (0.3, 40), (1.0, 20)])
def test_one_sided_proportion_is_the_one_sided_beta_binomial_mixture(p0: float, share: float, n: float) -> None:
    x, r = share * n, max(p0, 1 - p0)
    s, v = x - n * p0, n * p0 * (1 - p0)
    above = reference.beta_binomial_log_mixture(s, v, r, p0, 1 - p0, one_sided=True)
    below = reference.beta_binomial_log_mixture(-s, v, r, 1 - p0, p0, one_sided=True)

    assert proportion.log_e_above(x, n, p0) == pytest.approx(above, abs=1e-8)
    assert proportion.log_e_below(x, n, p0) == pytest.approx(below, abs=1e-8)


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_evidence_about_a_quantile_is_the_two_sided_beta_binomial_mixture(q: float) -> None:
    r, x, n = quantile.CONCENTRATION * q * (1 - q), 930.0, 1000.0
    expected = reference.beta_binomial_log_mixture(x - n * q, n * q * (1 - q), r, q, 1 - q, one_sided=False)

    ours = beta.log_e(x, n, q, quantile.CONCENTRATION * q, quantile.CONCENTRATION * (1 - q))

    assert ours == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("variance", [0.0, 0.003, 0.1, 2.0, 500.0])
@pytest.mark.parametrize("alpha", [0.025, 0.001])
def test_rate_boundary_is_the_gamma_exponential_mixture(variance: float, alpha: float) -> None:
    rho = reference.normal_rho(TUNED_FOR, alpha, one_sided=True)
    expected = reference.bound(
        lambda s: reference.gamma_exponential_log_mixture(s, variance, rho, 1), alpha, 10 + 20 * math.sqrt(variance)
    )

    assert boundary(variance, alpha) == pytest.approx(expected, rel=1e-8)


def test_rate_adds_up_windows_as_the_empirical_bernstein_theorem_does() -> None:
    rates = [90.0, 130.0, 400.0, 105.0, 0.0, 99.5]
    shares = [min(rate, 150) / 150 for rate in rates]
    predictions = [(0.5 + sum(shares[:k])) / (k + 1) for k in range(len(shares))]
    evidence = RateEvidence.empty(150)
    for rate in rates:
        evidence = evidence.add(rate)

    assert evidence.mean == pytest.approx(150 * np.mean(shares))
    assert evidence.variance == pytest.approx(sum((y - p) ** 2 for y, p in zip(shares, predictions, strict=True)))


def test_correlation_from_sums_is_that_of_the_pairs() -> None:
    random = np.random.default_rng(5)
    x = random.beta(2, 3, 4000)
    y = np.clip(x + random.normal(0, 0.08, 4000), 0, 1)
    moments = {(i, j): float((x**i * y**j).sum()) for i, j in correlation.POWERS}
    n, scale = 4000, (-2 * math.log(0.05) + math.log(1 - 2 * math.log(0.05))) / 5000
    growth = n * scale + 1
    radius = math.sqrt(2 * growth / (n**2 * scale) * math.log(math.sqrt(growth) / 0.05))
    radius *= reference.correlation_deviation(x, y)
    rho = float(np.corrcoef(x, y)[0, 1])

    assert correlation.estimate(moments) == pytest.approx(rho, rel=1e-9)
    assert ends(correlation.interval(moments)) == (
        near(math.tanh(math.atanh(rho) - radius), 1e-8),
        near(math.tanh(math.atanh(rho) + radius), 1e-8),
    )


# Kayenta (Apache-2.0), tests of kayenta-judge and kayenta-mannwhitney at a69573b; its percentile's data are NIST's.


def test_mann_whitney_interval_and_hodges_lehmann_estimate() -> None:
    low, high, estimate = reference.mann_whitney([10, 20, 30, 40], [1, 2, 3, 4], 0.95)

    assert (low, high, estimate) == (near(6.0), near(39.0), near(22.5))


def test_effect_sizes() -> None:
    assert reference.cohen_d([5, 5, 5, 10, 10, 10], [1, 1, 1, 2, 2, 2]) == near(3.03821)
    assert reference.common_language_effect([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == 0.5


def test_percentiles() -> None:
    nist = [95.1772, 95.1567, 95.1937, 95.1959, 95.1442, 95.0610, 95.1591, 95.1195, 95.1772, 95.0925, 95.1990, 95.1682]

    assert np.percentile(nist, 90) == near(95.19568, 1e-9)
    assert np.percentile(np.arange(8) / 2, 5) == near(0.175)
