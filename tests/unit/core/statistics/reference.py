"""Independent implementations of published boundaries and tests, to hold ours against; plain rather than quick.

Boundaries are those of Howard, Ramdas, McAuliffe & Sekhon (AoS 49(2), 2021) and Howard & Ramdas (Bernoulli 28(3), 2022)
in the parametrisation of their package confseq, so that its published constants apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from ops_commander.core.statistics.special import Array

STITCHES = 2.0
"""η: how much longer each epoch of a stitched boundary is than the one before."""

FAINT = 1e-290

DECAY = 1.4
"""s: how quickly later epochs get less of α."""


def normal_rho(v_opt: float, alpha: float, *, one_sided: bool) -> float:
    """The mixture's precision that is best at the variance v_opt."""
    log_term = -2 * math.log(2 * alpha if one_sided else alpha)
    return v_opt / (log_term + math.log1p(log_term))


def normal_log_mixture(s: float, v: float, rho: float, *, one_sided: bool) -> float:
    two_sided = 0.5 * math.log(rho / (v + rho)) + s * s / (2 * (v + rho))
    return two_sided + (math.log(2) + float(special.log_ndtr(s / math.sqrt(v + rho))) if one_sided else 0)


def gamma_exponential_log_mixture(s: float, v: float, rho: float, c: float) -> float:
    kappa, shape, rate = rho / c**2, (v + rho) / c**2, (c * s + v + rho) / c**2
    prior = kappa * math.log(kappa) - math.lgamma(kappa) - math.log(special.gammainc(kappa, kappa))
    posterior = math.lgamma(shape) + math.log(special.gammainc(shape, rate)) - shape * math.log(rate)
    return prior + posterior + (c * s + v) / c**2


def gamma_poisson_log_mixture(s: float, v: float, rho: float, c: float) -> float:
    kappa, rate, shape = rho / c**2, (v + rho) / c**2, s / c + (v + rho) / c**2
    prior = kappa * math.log(kappa) - math.lgamma(kappa) - math.log(special.gammaincc(kappa, kappa))
    posterior = math.lgamma(shape) + math.log(special.gammaincc(shape, rate)) - shape * math.log(rate)
    return prior + posterior + v / c**2


def beta_binomial_r(v_opt: float, alpha: float, g: float, h: float, *, one_sided: bool) -> float:
    return max(normal_rho(v_opt, alpha, one_sided=one_sided) - g * h, 1e-3 * g * h)


def beta_binomial_log_mixture(s: float, v: float, r: float, g: float, h: float, *, one_sided: bool) -> float:
    """For steps between −g and h with the variance g·h."""

    def log_part(a: float, b: float) -> float:
        share = math.log(special.betainc(a, b, h / (g + h))) if one_sided else 0.0
        return share + float(special.betaln(a, b))

    down, up = 1 / (g * (g + h)), 1 / (h * (g + h))
    steps = v / (g * h) * math.log(g + h) - (v + h * s) * up * math.log(g) - (v - g * s) * down * math.log(h)
    return steps + log_part((r + v - g * s) * down, (r + v + h * s) * up) - log_part(r * down, r * up)


def bound(log_mixture: Callable[[float], float], alpha: float, highest: float = 1e6) -> float:
    """The sum at which a mixture reaches 1/α; the highest possible where it never does."""
    if log_mixture(highest) < -math.log(alpha):
        return highest
    return float(optimize.brentq(lambda s: log_mixture(s) + math.log(alpha), 0, highest, xtol=1e-10))


def poly_stitching(v: float, alpha: float, v_min: float, c: float = 0.0) -> float:
    v = max(v, v_min)
    epochs = DECAY * math.log(math.log(STITCHES * v / v_min))
    level = epochs + math.log(special.zeta(DECAY) / math.log(STITCHES) ** DECAY) - math.log(alpha)
    k1 = (STITCHES**0.25 + STITCHES**-0.25) / math.sqrt(2)
    linear = (math.sqrt(STITCHES) + 1) / 2 * c * level
    return math.sqrt(k1**2 * v * level + linear**2) + linear


def empirical_process_lil(t: float, alpha: float, t_min: float, a: float) -> float:
    """How far an empirical distribution function ever is from the true one after t values."""

    def log_error(c: float, eta: float) -> float:
        gamma = 2 / eta * (a - math.sqrt(2 * (eta - 1) / c)) ** 2
        return math.inf if gamma <= 1 else math.log(4) - gamma * c + math.log1p(1 / ((gamma - 1) * math.log(eta)))

    def least_log_error(c: float) -> float:
        most = optimize.brentq(lambda eta: math.sqrt(eta / 2) + math.sqrt(2 * (eta - 1) / c) - a, 1, 2 * a * a)
        found = optimize.minimize_scalar(
            lambda eta: log_error(c, eta), bounds=(1 + 1e-9, most - 1e-9), method="bounded", options={"xatol": 1e-10}
        )
        return float(found.fun)

    c = optimize.brentq(lambda c: least_log_error(c) - math.log(alpha), 2, 100)
    return a * math.sqrt((math.log1p(math.log(t / t_min)) + c) / t)


def double_stitching(p: float, t: float, alpha: float, t_opt: float, delta: float = 0.5) -> float:
    """How far the count of values up to any quantile ever is from its expectation."""
    late = max(t, t_opt)
    r = p if p >= 0.5 else min(0.5, special.expit(special.logit(p) + 2 * delta * math.sqrt(t_opt * STITCHES / late)))
    variance = r * (1 - r)
    cells = math.sqrt(late / t_opt) * abs(special.logit(p)) / (2 * delta) + 1
    zeta = special.zeta(DECAY)
    epochs = DECAY * (math.log(math.log(STITCHES * late / t_opt)) + math.log(cells))
    level = epochs + math.log(2 * zeta * (2 * zeta + 1) / (alpha * math.log(STITCHES) ** DECAY))
    k1 = (STITCHES**0.25 + STITCHES**-0.25) / math.sqrt(2)
    linear = (math.sqrt(STITCHES) + 1) / 2 * (1 - 2 * p) / 3 * level
    discretised = delta * math.sqrt(STITCHES * late * variance / t_opt)
    return discretised + math.sqrt(k1**2 * variance * late * level + linear**2) + linear


def bernoulli_interval(x: int, n: int, alpha: float, t_opt: float) -> tuple[float, float]:
    """With a prior that depends on the tested chance, unlike ours."""

    def excess(p: float) -> float:
        r = beta_binomial_r(p * (1 - p) * t_opt, 0.05, p, 1 - p, one_sided=False)
        mixed = beta_binomial_log_mixture(x - p * n, p * (1 - p) * n, r, p, 1 - p, one_sided=False)
        return mixed + math.log(alpha)

    def end(edge: float) -> float:
        near, mean = abs(edge - 1e-9), x / n
        if mean == edge or excess(near) < 0:
            return edge
        return float(optimize.brentq(excess, near, mean))

    return end(0.0), end(1.0)


def quantile_ab_p_value(values_a: Sequence[float], values_b: Sequence[float], p: float, t_opt: float) -> float:
    """Against "both have the same p-quantile": the least evidence that any common value of it leaves."""
    r = beta_binomial_r(t_opt * p * (1 - p), 0.05, p, 1 - p, one_sided=False)

    def evidence(values: Sequence[float], quantile: float) -> float:
        n = len(values)

        def log_mixture(share: float) -> float:
            return beta_binomial_log_mixture((share - p) * n, p * (1 - p) * n, r, p, 1 - p, one_sided=False)

        likeliest = optimize.minimize_scalar(log_mixture, bounds=(0, 1), method="bounded").x
        least, most = (np.searchsorted(values, quantile, side=side) / n for side in ("left", "right"))
        return log_mixture(float(np.clip(likeliest, least, most)))

    least_evidence = min(evidence(values_a, x) + evidence(values_b, x) for x in _candidates(values_a, values_b, p))
    return min(1.0, math.exp(-least_evidence))


def _candidates(values_a: Sequence[float], values_b: Sequence[float], p: float) -> Sequence[float]:
    """All values between both samples' quantiles, and some beyond."""
    quantiles = np.quantile(values_a, p), np.quantile(values_b, p)
    every = np.union1d(values_a, values_b)
    near: Sequence[float] = every[(every >= min(quantiles) - 10) & (every <= max(quantiles) + 10)].tolist()
    return near


def mann_whitney(x: Sequence[float], y: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Interval and Hodges-Lehmann estimate of the shift of x against y, as R's wilcox.test without exact p-values."""
    m, n = len(x), len(y)

    def statistic(shift: float) -> float:
        ranks = stats.rankdata([value - shift for value in x] + list(y))
        _, ties = np.unique(ranks, return_counts=True)
        excess = ranks[:m].sum() - m * (m + 1) / 2 - m * n / 2
        tied = (ties**3 - ties).sum() / ((m + n) * (m + n - 1))
        return float((excess - math.copysign(0.5, excess) * (excess != 0)) / math.sqrt(m * n / 12 * (m + n + 1 - tied)))

    def where(level: float) -> float:
        least, most = min(x) - max(y), max(x) - min(y)
        if statistic(least) <= level or statistic(most) >= level:
            return least if statistic(least) <= level else most
        return float(optimize.brentq(lambda shift: statistic(shift) - level, least, most, xtol=1e-9))

    z = float(stats.norm.ppf(0.5 + confidence / 2))
    return where(z), where(-z), where(0.0)


def common_language_effect(x: Sequence[float], y: Sequence[float]) -> float:
    """The share of pairs in which x is higher; half of the ties."""
    return float(np.mean(np.greater.outer(x, y)) + np.mean(np.equal.outer(x, y)) / 2)


def cohen_d(x: Sequence[float], y: Sequence[float]) -> float:
    spread = [(len(values) - 1) * np.var(values, ddof=1) for values in (x, y)]
    return float(abs(np.mean(x) - np.mean(y)) / math.sqrt(sum(spread) / (len(x) + len(y) - 2)))


def correlation_deviation(x: Any, y: Any) -> float:
    """Standard deviation of the influence of one pair on Fisher's z, from the pairs themselves."""
    z_x, z_y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    rho = float((z_x * z_y).mean())
    return float(((z_x * z_y - rho / 2 * (z_x**2 + z_y**2)) / (1 - rho**2)).std())


def log_e_above_each(x: Array, n: Array, p0: float) -> Array:
    """`proportion.log_e_above`, of many at once and by scipy."""
    return -log_beta_binomial(x, n, p0, special.betaincc)


def log_e_below_each(x: Array, n: Array, p0: float) -> Array:
    return -log_beta_binomial(x, n, p0, special.betainc)


def log_beta_binomial(x: Array, n: Array, p0: float, share: Callable[..., Array]) -> Array:
    """Less ln E; not a number where scipy's share of the distribution has hardly a digit any more."""
    a, b = p0 / min(p0, 1 - p0), (1 - p0) / min(p0, 1 - p0)
    mixed = special.betaln(a + x, b + n - x) - special.betaln(a, b)
    held = share(a + x, b + n - x, p0)
    mixed += np.log(np.where(held > FAINT, held, np.nan)) - np.log(share(a, b, p0))
    result: Array = special.xlogy(x, p0) + special.xlog1py(n - x, -p0) - mixed
    return result
