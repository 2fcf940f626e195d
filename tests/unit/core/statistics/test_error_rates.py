"""What a gate does over many rollouts: how often it fails a good candidate, and how soon a bad one.

100 requests a second, 5 % of them to the candidate, a look every 15 s. All with the product's functions, on arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from ops_commander.core.breach import TURN_ALPHA, late_alpha, turn_alpha
from ops_commander.core.statistics import correlation, mixture
from ops_commander.core.statistics.dispersion import MIN_TICKS, index_of_dispersion
from ops_commander.core.statistics.mixture import Side
from ops_commander.core.statistics.proportion import log_e_above
from ops_commander.core.statistics.rate import RateEvidence
from ops_commander.core.statistics.ratio import LOG_RATIOS, log_likelihood
from ops_commander.core.statistics.special import Array
from ops_commander.core.trial import LATE_TICKS, RECENT_TICKS
from tests.unit.core.statistics.reference import log_e_above_each, log_e_below_each

Looks = NDArray[np.bool_]
"""Of each rollout whether a look finds something; shape (rollouts, looks)."""

LOOK = 15
"""Seconds."""

ONE_HOUR = 240
"""Looks."""

GRID = LOG_RATIOS[::4]
"""Coarser than the product's, for speed: a fourth of its points, 0 among them."""

ONE_SIDE = math.log(1 / 0.025)
ABSOLUTE = math.log(1 / 0.05)


@dataclass(frozen=True)
class Arm:
    """Counts of each rollout at each look, not summed; shape (rollouts, looks)."""

    requests: Array
    events: Array


def arm(random: np.random.Generator, rollouts: int, looks: int, per_second: float, chance: float) -> Arm:
    requests = random.poisson(per_second * LOOK, (rollouts, looks))
    return Arm(requests.astype(float), random.binomial(requests, chance).astype(float))


def clumped(random: np.random.Generator, rollouts: int, looks: int, per_second: float, chance: float) -> Arm:
    """The same chance of an event, but events come five at a time on average, geometrically distributed."""
    requests = random.poisson(per_second * LOOK, (rollouts, looks))
    clumps = random.binomial(requests, chance / 5)
    events = clumps + random.negative_binomial(np.maximum(clumps, 1), 1 / 5) * (clumps > 0)
    return Arm(requests.astype(float), np.minimum(events, requests).astype(float))


def ratio_fails(
    candidate: Arm, baseline: Arm, dispersion: Array | float = 1.0, *, threshold: float = ONE_SIDE
) -> Looks:
    """At which looks the candidate is shown to have more events."""
    rollouts, looks = candidate.events.shape
    total, found = np.zeros((rollouts, len(GRID))), np.zeros((rollouts, looks))
    for look in range(looks):
        counts = (candidate.events, candidate.requests, baseline.events, baseline.requests)
        total += log_likelihood(GRID, *(count[:, look, None] for count in counts))
        found[:, look] = mixture.log_e(GRID, total / np.reshape(dispersion, (-1, 1)), 0.0, Side.ABOVE, 1.0)
    return found >= threshold


def bound_fails(candidate: Arm, bound: float, threshold: float = ABSOLUTE) -> Looks:
    x, n = candidate.events.cumsum(axis=1), candidate.requests.cumsum(axis=1)
    return log_e_above_each(x, n, bound) >= threshold


def late_fails(candidate: Arm, baseline: Arm, bound: float) -> Looks:
    """What the short memory finds besides: it begins anew every LATE_TICKS, with a smaller α each time."""
    found = np.zeros(candidate.events.shape, dtype=bool)
    for beginning in range(1, math.ceil(candidate.events.shape[1] / LATE_TICKS)):
        part = slice(beginning * LATE_TICKS, (beginning + 1) * LATE_TICKS)
        late, before = (Arm(arm.requests[:, part], arm.events[:, part]) for arm in (candidate, baseline))
        level = math.log(1 / late_alpha(beginning))
        found[:, part] = bound_fails(late, bound, level) | ratio_fails(late, before, threshold=level)
    return found


def turn_fails(candidate: Arm, baseline: Arm, bound: float) -> Looks:
    """What the search for a sudden turn finds: each stretch of up to RECENT_TICKS looks has its own α."""
    found = np.zeros(candidate.events.shape, dtype=bool)
    counts = np.stack([candidate.events, candidate.requests, baseline.events, baseline.requests]).cumsum(axis=2)
    for length in range(1, RECENT_TICKS + 1):
        stretch = counts[:, :, length:] - counts[:, :, :-length]
        x_c, n_c, x_b, n_b = stretch
        level = np.array([-math.log(turn_alpha(before)) for before in range(1, stretch.shape[2] + 1)])
        share = n_c / (n_c + n_b)
        beyond = (most_log_e(x_c, n_c, bound) >= level) | (most_log_e(x_c, x_c + x_b, share) >= level)
        for rollout, look in zip(*np.nonzero(beyond), strict=True):
            counted = log_likelihood(LOG_RATIOS, *stretch[:, rollout, look])
            ratio = mixture.log_e(LOG_RATIOS, counted, 0.0, Side.ABOVE, 1.0)
            proof = max(log_e_above(x_c[rollout, look], n_c[rollout, look], bound), ratio)
            found[rollout, look + length] |= proof >= level[look]
    return found


def most_log_e(x: Array, n: Array, bound: Array | float) -> Array:
    """No ln E against a share of at most `bound` is higher: the likelihood of the observed share over the bound's."""
    seen = np.maximum(x / np.maximum(n, 1), bound)
    most: Array = xlogy(x, seen / bound) + xlogy(n - x, (1 - seen) / (1 - np.asarray(bound)))
    return most


def gate_fails(random: np.random.Generator, rollouts: int, looks: int, errors: tuple[float, float]) -> Looks:
    """Errors of candidate and baseline as given, 3 % of both arms' answers slow, against 1 % and 5 %."""
    candidate_errors, baseline_errors = (
        arm(random, rollouts, looks, rate, chance) for rate, chance in zip((5, 95), errors, strict=True)
    )
    candidate_slow, baseline_slow = (arm(random, rollouts, looks, rate, 0.03) for rate in (5, 95))
    return (
        bound_fails(candidate_errors, 0.01)
        | ratio_fails(candidate_errors, baseline_errors)
        | bound_fails(candidate_slow, 0.05)
        | ratio_fails(candidate_slow, baseline_slow)
        | late_fails(candidate_errors, baseline_errors, 0.01)
        | late_fails(candidate_slow, baseline_slow, 0.05)
        | turn_fails(candidate_errors, baseline_errors, 0.01)
        | turn_fails(candidate_slow, baseline_slow, 0.05)
    )


def test_a_candidate_like_its_baseline_is_rarely_failed() -> None:
    fails = gate_fails(np.random.default_rng(20260105), 2000, ONE_HOUR, errors=(0.005, 0.005))

    assert fails.any(axis=1).mean() <= 0.025


def test_a_rise_of_errors_from_half_a_percent_to_two_is_found_within_two_minutes() -> None:
    fails = gate_fails(np.random.default_rng(20260106), 1000, 80, errors=(0.02, 0.005))
    seconds = np.where(fails.any(axis=1), (fails.argmax(axis=1) + 1) * LOOK, math.inf)

    assert np.median(seconds) <= 120
    assert np.isfinite(seconds).mean() >= 0.99


def test_what_gets_worse_late_is_found_by_the_second_look() -> None:
    random, rollouts = np.random.default_rng(20260111), 300
    good, bad = (arm(random, rollouts, 160, 5, chance) for chance in (0.005, 0.2))
    turned = np.where(np.arange(160) < 150, good.events, bad.events)
    candidate = Arm(np.where(np.arange(160) < 150, good.requests, bad.requests), turned)
    baseline = arm(random, rollouts, 160, 95, 0.005)
    whole = bound_fails(candidate, 0.01)[:, 150:]
    late = whole | late_fails(candidate, baseline, 0.01)[:, 150:]
    turn = turn_fails(candidate, baseline, 0.01)[:, 150:]

    assert turn[:, :2].any(axis=1).all(), "by the second look after 37 minutes without a fault"
    assert np.median(late.argmax(axis=1)) <= 1
    assert np.median(np.where(whole.any(axis=1), whole.argmax(axis=1), 10)) >= 3


def test_a_share_just_at_its_bound_is_rarely_taken_for_a_sudden_turn() -> None:
    random, rollouts = np.random.default_rng(20260112), 2000
    candidate, baseline = (arm(random, rollouts, ONE_HOUR, rate, 0.01) for rate in (5, 95))

    assert turn_fails(candidate, baseline, 0.01).any(axis=1).mean() <= 2 * TURN_ALPHA


def test_clumped_events_need_the_dispersion_of_the_time_before() -> None:
    random, rollouts = np.random.default_rng(20260107), 300
    before = clumped(random, rollouts, 2 * MIN_TICKS, 100, 0.005)
    phi = np.array([index_of_dispersion(x, n) for x, n in zip(before.events, before.requests, strict=True)])
    candidate, baseline = (clumped(random, rollouts, ONE_HOUR, rate, 0.005) for rate in (5, 95))

    unguarded = ratio_fails(candidate, baseline).any(axis=1).mean()
    guarded = ratio_fails(candidate, baseline, phi).any(axis=1).mean()

    assert 7 < np.median(phi) < 11
    assert unguarded > 0.3
    assert guarded <= 0.025


def test_a_chance_just_at_its_bound_is_rarely_shown_on_either_side() -> None:
    at_bound = arm(np.random.default_rng(20260108), 2000, ONE_HOUR, 5, 0.01)
    x, n = at_bound.events.cumsum(axis=1), at_bound.requests.cumsum(axis=1)

    for log_e in (log_e_above_each(x, n, 0.01), log_e_below_each(x, n, 0.01)):
        assert (log_e >= ABSOLUTE).any(axis=1).mean() <= 0.05


def test_the_average_of_a_drifting_rate_is_rarely_outside_its_interval() -> None:
    random, windows, misses = np.random.default_rng(20260109), 120, 0
    expected = 100 + 20 * np.sin(np.arange(windows) / 15)
    averages = expected.cumsum() / np.arange(1, windows + 1)
    for _ in range(200):
        evidence, inside = RateEvidence.empty(300), True
        for rate, average in zip(random.poisson(expected * LOOK) / LOOK, averages, strict=True):
            evidence = evidence.add(rate)
            inside = inside and evidence.interval().contains(average)
        misses += not inside

    assert misses / 200 <= 0.05


def test_the_correlation_of_heavy_tailed_scores_is_rarely_outside_its_interval() -> None:
    random, rollouts, pairs, rho = np.random.default_rng(20260110), 300, 4000, 0.8
    scale = np.sqrt(3 / random.chisquare(5, (rollouts, pairs)))
    x, other = random.normal(size=(2, rollouts, pairs))
    y = rho * x + math.sqrt(1 - rho**2) * other
    x, y = x * scale, y * scale
    sums = {(i, j): (x**i * y**j).cumsum(axis=1) for i, j in correlation.POWERS}
    looks = range(499, pairs, 250)

    def is_missed(rollout: int) -> bool:
        moments = ({power: float(total[rollout, look]) for power, total in sums.items()} for look in looks)
        return not all(correlation.interval(each).contains(rho) for each in moments)

    assert sum(map(is_missed, range(rollouts))) / rollouts <= 0.05
