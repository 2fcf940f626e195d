"""Special functions without scipy, held against scipy over all counts that are accepted."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special as theirs

from ops_commander.core.statistics import proportion
from ops_commander.core.statistics.special import log_beta, log_beta_cdf, log_beta_sf, log_gammainc
from tests.unit.core.statistics.reference import log_e_above_each, log_e_below_each

SIZES = np.logspace(-2, 9, 23).tolist()
DISTANCES = (-30.0, -8.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 8.0, 30.0)
"""From the mean, in standard deviations."""

NEAR = 1e-8
"""Of the logarithm: scipy loses digits of its betaln where one argument is large."""


@pytest.mark.parametrize("a", SIZES)
def test_log_beta(a: float) -> None:
    for b in SIZES:
        lost = 4e-16 * abs(math.lgamma(a + b))  # by scipy, as a difference of large numbers
        assert log_beta(a, b) == pytest.approx(float(theirs.betaln(a, b)), rel=1e-12, abs=1e-13 + 4 * lost)


@pytest.mark.parametrize("a", SIZES)
def test_both_tails_of_a_beta_distribution(a: float) -> None:
    for b in SIZES:
        mean = a / (a + b)
        for distance in DISTANCES:
            p = mean + distance * math.sqrt(mean * (1 - mean) / (a + b + 1))
            if not 1e-12 < p < 1 - 1e-12:
                continue
            for mine, of_scipy in ((log_beta_cdf, theirs.betainc), (log_beta_sf, theirs.betaincc)):
                expected = float(of_scipy(a, b, p))
                if expected > 1e-290:
                    assert mine(a, b, p) == pytest.approx(math.log(expected), rel=NEAR, abs=NEAR), (a, b, p)


@pytest.mark.parametrize(("a", "b", "p", "expected"), [(1e4, 1.0, 1e-3, 1e4 * math.log(1e-3)), (2.0, 1e6, 0.5, None)])
def test_tails_far_below_what_a_float_holds(a: float, b: float, p: float, expected: float | None) -> None:
    if expected is not None:
        assert log_beta_cdf(a, b, p) == pytest.approx(expected, rel=1e-13)
    else:  # P(X > p) = (1 − p)^b · (1 + b·p), for a = 2
        assert log_beta_sf(a, b, p) == pytest.approx(b * math.log1p(-p) + math.log1p(b * p), rel=1e-9)


@pytest.mark.parametrize("shape", SIZES[:18])
def test_the_lower_incomplete_gamma_function(shape: float) -> None:
    for further in (0.0, 1e-3, 0.1, 1.0, 3.0, 10.0):
        x = shape + further * max(math.sqrt(shape), 0.1)
        assert log_gammainc(shape, x) == pytest.approx(math.log(theirs.gammainc(shape, x)), rel=NEAR, abs=NEAR)


@settings(deadline=None)
@given(st.integers(0, 10**7), st.floats(0, 1), st.floats(1e-4, 1 - 1e-4))
def test_a_proof_is_what_scipy_makes_of_it(n: int, share: float, p0: float) -> None:
    x = round(n * share)
    for mine, of_scipy in (
        (proportion.log_e_above, log_e_above_each),
        (proportion.log_e_below, log_e_below_each),
    ):
        expected = float(of_scipy(np.array(x), np.array(n), p0))
        if math.isfinite(expected):
            assert mine(x, n, p0) == pytest.approx(expected, rel=1e-7, abs=1e-5)


@settings(deadline=None)
@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(1e-4, 1 - 1e-4))
def test_nothing_is_proved_of_what_was_not_seen(n: int, share: float, p0: float) -> None:
    """A share on one side of p0 proves none on the other: `measures` relies on it."""
    x = n * share
    if x <= p0 * n:
        assert proportion.log_e_above(x, n, p0) < 1e-6
    if x >= p0 * n:
        assert proportion.log_e_below(x, n, p0) < 1e-6


def test_the_product_does_not_import_scipy() -> None:
    code = "import sys; from ops_commander.core import measures, run_objectives; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
