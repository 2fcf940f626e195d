"""Verdicts: what the evidence of a step says of each target, and when it says nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.api.policy import (
    DEFAULT_POLICY,
    Compare,
    Correlation,
    Objective,
    OnBreach,
    Pairs,
    Quantile,
    Rate,
    Ratio,
    RolloutPolicySpec,
    Score,
)
from ops_commander.api.v1alpha1 import BaselineStatus, ObjectiveStatus, Role, Trend, Verdict
from ops_commander.core import objectives, presets
from ops_commander.core.counters import Buckets
from ops_commander.core.objectives import Bench
from ops_commander.core.snapshot import Evidence
from ops_commander.core.statistics.rate import RateEvidence
from ops_commander.core.statistics.ratio import RatioEvidence
from ops_commander.core.tally import EMPTY, NOTHING, Arm, Tally, Track

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
TICK = timedelta(seconds=5)
STALE = timedelta(seconds=20)
FIRST = NOW - 120 * TICK
INF = math.inf
EDGES = (0.1, 0.25, 0.5, 0.505, 1.0, INF)

POLICY = {objective.name: objective for objective in presets.resolved(DEFAULT_POLICY).objectives}
ERRORS, RATIO, LATENCY, DRIFT, THROUGHPUT = (
    POLICY[name] for name in ("error-rate", "error-ratio", "p95-latency", "p95-drift", "throughput")
)
FEWER = ERRORS.model_copy(update={"name": "fewer", "compare": Compare.DIFFERENCE, "max": 0.005})
SCORE = Objective(name="score", score=Score(sum="sum", count="count"), min=0.9)
WINS = Objective(name="wins", pairs=Pairs(wins="w", losses="l", ties="t"), min=-0.02)
SAME = Objective(name="same", correlation=Correlation(moments="m"), max=0.95)


def share(bad: float, total: float) -> Arm:
    return Arm((float(bad), float(total)))


def p95_of(*counts: float, edges: tuple[float, ...] = EDGES) -> Arm:
    return Arm((0.0,), Buckets.of(dict(zip(edges, map(float, counts), strict=True))))


def tally(mine: Arm, theirs: Arm = EMPTY, **fields: Any) -> Tally:
    known = {"first": FIRST, "last": NOW, "ticks": 120, "split": (mine.requests, theirs.requests), **fields}
    return Tally(candidate=mine, stable=theirs, **known)


def tally_since(earlier: Arm, whole: Arm) -> Tally:
    """With two ticks that are recent."""
    return tally(whole, recent=(FIRST, NOW), recent_candidate=Track().followed_by(earlier, 2).followed_by(whole, 2))


def ratio_tally(mine: Arm, theirs: Arm, ticks: int = 100) -> Tally:
    """Both arms as evenly as can be over time."""
    evidence = RatioEvidence.empty()
    for _ in range(ticks):
        evidence = evidence.add(*(value / ticks for value in (*mine.values, *theirs.values)))
    return tally(mine, theirs, ratio=evidence)


def rate_tally(objective: Objective, rate: float, windows: int = 60, **fields: Any) -> Tally:
    evidence = RateEvidence.empty(objective.limit * 1.5)
    for _ in range(windows):
        evidence = evidence.add(rate)
    return tally(Arm((rate * 600,)), rate=evidence, **fields)


def judged(objective: Objective, known: Tally, **bench: Any) -> ObjectiveStatus:
    return told(objective, Evidence(known, FIRST, NOW, NOW), **bench)


def told(objective: Objective, evidence: Evidence | None, **bench: Any) -> ObjectiveStatus:
    return objectives.judge(objective, evidence, Bench(NOW, STALE, **bench))


def baseline(**fields: Any) -> BaselineStatus:
    return BaselineStatus(name="any", ticks=720, rate=100, **fields)


# --- S2, S3 and S4 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "total", "verdict", "reason"),
    [
        pytest.param(0, 416, Verdict.INCONCLUSIVE, "InsufficientSample", id="one request too few for a perfect one"),
        pytest.param(0, 417, Verdict.PASS, "Met", id="enough for a perfect one"),
        pytest.param(3, 2000, Verdict.PASS, "Met", id="0.15 %"),
        pytest.param(9, 1000, Verdict.INCONCLUSIVE, "InsufficientSample", id="0.9 % of 1000: more would pass"),
        pytest.param(10, 1000, Verdict.INCONCLUSIVE, "Straddles", id="exactly 1 %: more would not help"),
        pytest.param(1000, 100_000, Verdict.INCONCLUSIVE, "Straddles", id="exactly 1 % of very many"),
        pytest.param(15, 1000, Verdict.INCONCLUSIVE, "Straddles", id="1.5 % of 1000 may be chance"),
        pytest.param(1150, 100_000, Verdict.FAIL, "Breached", id="1.15 % of very many"),
        pytest.param(4, 4, Verdict.FAIL, "Breached", id="all of four"),
        pytest.param(1, 1, Verdict.INCONCLUSIVE, "Straddles", id="the first request"),
    ],
)
def test_s3_is_proved_below_1_percent_and_breached_above(
    bad: float, total: float, verdict: Verdict, reason: str
) -> None:
    row = judged(ERRORS, tally(share(bad, total)))

    assert (row.verdict, row.reason) == (verdict, reason)
    assert row.observed == pytest.approx(bad / total, abs=1e-6)
    assert row.samples == total


@pytest.mark.parametrize(
    ("within", "beyond_limit", "verdict", "reason"),
    [
        pytest.param(1000, 0, Verdict.PASS, "Met", id="all are fast"),
        pytest.param(980, 15, Verdict.PASS, "Met", id="2 % are slow"),
        pytest.param(60, 0, Verdict.INCONCLUSIVE, "InsufficientSample", id="few requests"),
        pytest.param(950, 50, Verdict.INCONCLUSIVE, "Straddles", id="exactly 5 % take longer"),
        pytest.param(900, 20, Verdict.INCONCLUSIVE, "Straddles", id="slow, but within the 5 ms of grace"),
        pytest.param(900, 100, Verdict.FAIL, "Breached", id="10 % take more than 505 ms"),
    ],
)
def test_s2_is_proved_at_500_ms_and_breached_at_505(
    within: float, beyond_limit: float, verdict: Verdict, reason: str
) -> None:
    total = max(within, 1000) if within != 60 else 60
    row = judged(LATENCY, tally(p95_of(0, 0, within, total - beyond_limit, total, total)))

    assert (row.verdict, row.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("rate", "verdict", "reason"),
    [
        pytest.param(120.0, Verdict.PASS, "Met", id="more than 100"),
        pytest.param(100.0, Verdict.INCONCLUSIVE, "InsufficientSample", id="100: never proved"),
        pytest.param(60.0, Verdict.INCONCLUSIVE, "DemandLimited", id="60 of 60 offered"),
    ],
)
def test_s4_holds_and_never_reverts(rate: float, verdict: Verdict, reason: str) -> None:
    row = judged(THROUGHPUT, rate_tally(THROUGHPUT, rate), weight=100)

    assert (row.verdict, row.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("mirror", "stable", "reason"),
    [(100, 120, "BelowTarget"), (100, 80, "DemandLimited"), (50, 120, "DemandLimited"), (50, 240, "BelowTarget")],
)
def test_a_shadow_that_answers_less_than_it_is_sent_is_too_slow_and_one_that_is_sent_less_is_not(
    mirror: int, stable: float, reason: str
) -> None:
    known = rate_tally(THROUGHPUT, 60.0, split=(60.0 * 600, stable * 600))

    row = judged(THROUGHPUT, known, mirror_percent=mirror)

    assert (row.verdict, row.reason) == (Verdict.INCONCLUSIVE, reason)


def test_what_could_not_be_shown_is_said() -> None:
    row = judged(THROUGHPUT, rate_tally(THROUGHPUT, 60.0), weight=100)

    assert row.message.startswith("only 60req/s were offered, so 100req/s could not be shown; 60req/s (CI95 ")


@pytest.mark.parametrize(
    ("on_breach", "verdict"), [(OnBreach.ROLLBACK, Verdict.FAIL), (OnBreach.HOLD, Verdict.INCONCLUSIVE)]
)
def test_what_a_breach_does_is_the_policys_choice(on_breach: OnBreach, verdict: Verdict) -> None:
    row = judged(ERRORS.model_copy(update={"on_breach": on_breach}), tally(share(500, 1000)))

    assert row.verdict is verdict
    assert row.reason == ("Breached" if verdict is Verdict.FAIL else "BelowTarget")


def test_a_breach_needs_no_least_number_of_requests_and_a_pass_does() -> None:
    objective = ERRORS.model_copy(update={"min_samples": 5000})

    assert judged(objective, tally(share(4, 4))).verdict is Verdict.FAIL
    short = judged(objective, tally(share(0, 4999)))
    assert (short.verdict, short.reason) == (Verdict.INCONCLUSIVE, "InsufficientSample")
    assert short.message.endswith("; 5000 requests needed")
    assert judged(objective, tally(share(0, 5000))).verdict is Verdict.PASS


def test_between_target_and_breach_nothing_is_decided() -> None:
    objective = ERRORS.model_copy(update={"breach": 0.05})

    assert judged(objective, tally(share(300, 10_000))).verdict is Verdict.INCONCLUSIVE
    assert judged(objective, tally(share(700, 10_000))).verdict is Verdict.FAIL
    assert judged(objective, tally(share(20, 10_000))).verdict is Verdict.PASS


# --- Evidence that is not there -----------------------------------------------------------------------------

ENOUGH = tally(share(0, 10_000))


@pytest.mark.parametrize(
    ("evidence", "reason", "message"),
    [
        pytest.param(None, "NoData", "Prometheus has not been asked yet", id="not asked"),
        pytest.param(Evidence(), "NoData", "Prometheus has not been asked yet", id="no answer"),
        pytest.param(Evidence(error="refused"), "NoData", "refused", id="an error"),
        pytest.param(
            Evidence(ENOUGH, FIRST, NOW - STALE - TICK, NOW - STALE - TICK, "refused"),
            "StaleData",
            "no answer since 08:59:35: refused",
            id="no answer any more",
        ),
        pytest.param(
            Evidence(ENOUGH, FIRST, NOW - STALE - TICK, NOW - STALE - TICK),
            "StaleData",
            "no answer since 08:59:35: no newer poll",
            id="nobody asks any more",
        ),
        pytest.param(
            Evidence(NOTHING, FIRST, NOW), "NoData", "Prometheus has no series of the candidate's pods", id="no series"
        ),
        pytest.param(
            Evidence(ENOUGH, FIRST, NOW, NOW - STALE - TICK),
            "NoData",
            "Prometheus has no series of the candidate's pods since 08:59:35",
            id="no series any more",
        ),
        pytest.param(
            Evidence(NOTHING, NOW + TICK, NOW, NOW),
            "InsufficientSample",
            "no tick has been counted yet: requests count from 09:00:05 on",
            id="before the origin",
        ),
    ],
)
def test_nothing_is_concluded_from(evidence: Evidence | None, reason: str, message: str) -> None:
    row = told(ERRORS, evidence)

    assert (row.verdict, row.reason, row.message) == (Verdict.INCONCLUSIVE, reason, message)


def test_an_answer_is_good_for_a_while() -> None:
    assert told(ERRORS, Evidence(ENOUGH, FIRST, NOW - STALE, NOW - STALE)).verdict is Verdict.PASS


def test_a_comparison_needs_both_arms_and_says_so() -> None:
    row = told(RATIO, Evidence(NOTHING, FIRST, NOW))

    assert row.message == "Prometheus has no series of the candidate's and the stable pods"


def test_requests_without_an_error_series_are_requests_without_errors() -> None:
    row = judged(ERRORS, tally(share(0, 500)))

    assert (row.verdict, row.observed, row.samples) == (Verdict.PASS, 0.0, 500.0)


@pytest.mark.parametrize(
    "objective", [ERRORS, RATIO, LATENCY, DRIFT, THROUGHPUT, FEWER, SCORE, WINS, SAME], ids=lambda item: item.name
)
def test_ticks_without_requests_prove_nothing(objective: Objective) -> None:
    values = (0.0,) * len(objective.queries)
    row = judged(objective, tally(Arm(values), Arm(values)))

    assert row.verdict is Verdict.INCONCLUSIVE
    assert row.reason in ("InsufficientSample", "DemandLimited")
    assert "None" not in row.message and "nan" not in row.message


# --- Comparisons --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict"),
    [
        pytest.param(share(10, 5000), share(190, 95_000), Verdict.INCONCLUSIVE, id="the same"),
        pytest.param(share(60, 5000), share(190, 95_000), Verdict.FAIL, id="six times as many"),
        pytest.param(share(0, 5000), share(1900, 95_000), Verdict.PASS, id="fewer"),
        pytest.param(share(0, 5000), share(0, 95_000), Verdict.INCONCLUSIVE, id="none in both"),
        pytest.param(share(12, 5000), share(0, 95_000), Verdict.FAIL, id="stable has none"),
    ],
)
def test_errors_against_those_of_stable(mine: Arm, theirs: Arm, verdict: Verdict) -> None:
    row = judged(RATIO, ratio_tally(mine, theirs))

    assert row.verdict is verdict, row.message
    assert row.judged == "ratio"


@pytest.mark.parametrize(
    ("mine", "verdict"),
    [(share(0, 5000), Verdict.PASS), (share(12, 5000), Verdict.INCONCLUSIVE), (share(100, 5000), Verdict.FAIL)],
)
def test_the_difference_to_stable(mine: Arm, verdict: Verdict) -> None:
    row = judged(FEWER, tally(mine, share(190, 95_000)))

    assert row.verdict is verdict, row.message
    assert row.observed == pytest.approx(mine.values[0] / 5000 - 0.002, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((30, 30, 2000), Verdict.PASS), ((0, 0, 20), Verdict.INCONCLUSIVE), ((10, 400, 2000), Verdict.FAIL)],
)
def test_pairs(values: tuple[float, ...], verdict: Verdict) -> None:
    assert judged(WINS, tally(Arm(tuple(map(float, values))))).verdict is verdict


@pytest.mark.parametrize(
    ("total", "verdict"), [(960.0, Verdict.PASS), (900.0, Verdict.INCONCLUSIVE), (800.0, Verdict.FAIL)]
)
def test_a_mean_score(total: float, verdict: Verdict) -> None:
    assert judged(SCORE, tally(share(total, 1000))).verdict is verdict


def moments(pairs: list[tuple[float, float]]) -> Arm:
    powers = [(i, j) for i in range(5) for j in range(5 - i)]
    return Arm((0.0,), moments={(i, j): sum(x**i * y**j for x, y in pairs) for i, j in powers})


def test_a_correlation() -> None:
    alike = [((n % 97) / 97, (n % 97) / 97) for n in range(3000)]
    apart = [((n % 97) / 97, (n % 89) / 89) for n in range(3000)]

    assert judged(SAME, tally(moments(alike))).verdict is Verdict.FAIL
    assert judged(SAME, tally(moments(apart))).verdict is Verdict.PASS
    assert judged(SAME, tally(moments(apart[:300]))).verdict is Verdict.INCONCLUSIVE


def test_drift_by_edges_that_were_fixed_before() -> None:
    """5 % of stable beyond 0.5 s; the candidate's requests beyond 0.505 s are fewer, as many, or twice as many."""

    def row(slow: float) -> ObjectiveStatus:
        stable, mine = p95_of(0, 0, 9500, 9600, 10_000, 10_000), p95_of(0, 0, 9000, 10_000 - slow, 10_000, 10_000)
        evidence = RatioEvidence.empty()
        for _ in range(100):
            evidence = evidence.add(slow / 100, 100, 5, 100)
        known = tally(mine, stable, ratio=evidence, ratio_for_breach=evidence)
        return judged(DRIFT, known, baseline=baseline(edge=0.5))

    assert [row(slow).verdict for slow in (300, 500, 1000)] == [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]
    assert row(500).message.endswith("more than 0.505s against more than 0.5s")


def test_without_an_edge_only_the_quantiles_themselves_are_compared() -> None:
    mine = p95_of(0, 0, 0, 0, 10_000, 10_000)
    row = judged(DRIFT, tally(mine, p95_of(9900, 10_000, 10_000, 10_000, 10_000, 10_000)))
    same = judged(DRIFT, tally(mine, mine))

    assert (row.verdict, same.verdict, same.reason) == (Verdict.FAIL, Verdict.INCONCLUSIVE, "Resolution")
    assert "only the difference of quantiles is judged" in same.message


@pytest.mark.parametrize("objective", [LATENCY, DRIFT], ids=lambda item: item.name)
def test_a_sentence_says_nothing_twice(objective: Objective) -> None:
    coarse = p95_of(980, 1000, 1000, edges=(1.0, 2.0, INF))
    parts = judged(objective, tally(coarse, coarse)).message.split("; ")

    assert len(parts) == len(set(parts)), parts


def test_clumps_widen_the_difference_of_quantiles() -> None:
    mine, theirs = (p95_of(0, 0, 9000, 10400, 11000, 11000), p95_of(0, 9000, 10400, 11000, 11000, 11000))
    widths = []
    for dispersion in (1.0, 100.0):
        interval = judged(DRIFT, tally(mine, theirs), baseline=baseline(dispersion=dispersion)).interval
        assert interval is not None
        widths.append(INF if interval.low is None or interval.high is None else interval.high - interval.low)

    assert widths[1] > widths[0]


# --- Resolution ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "reason", "note"),
    [
        pytest.param(
            (1.0, 2.0, INF), "Resolution", "the histogram has no bucket edge on the good side of 0.5s", id="too coarse"
        ),
        pytest.param((0.4, 1.0, INF), "Met", "judged at the bucket edge 0.4s, next to the target", id="next to it"),
        pytest.param(
            (0.25, 0.5, INF),
            "Met",
            "the histogram has no bucket edge beyond 0.505s: no breach can be seen",
            id="nothing beyond",
        ),
        pytest.param((0.25, 0.5, 0.505, INF), "Met", "", id="both"),
    ],
)
def test_which_bucket_edges_there_are_is_told(edges: tuple[float, ...], reason: str, note: str) -> None:
    counts = (1000.0,) * len(edges)
    row = judged(LATENCY, tally(p95_of(*counts, edges=edges)))

    assert row.reason == reason
    assert row.message.endswith(note)


def test_requests_beyond_all_edges_never_pass() -> None:
    """Prometheus gives the highest finite edge for them: each may take a minute and the number still be 0.4 s."""
    row = judged(LATENCY, tally(p95_of(0, 10, 1000, edges=(0.1, 0.4, INF))))

    assert row.verdict is Verdict.INCONCLUSIVE
    assert row.interval is not None and row.interval.high is None


def test_without_a_bucket_edge_there_is_no_verdict_and_no_crash() -> None:
    row = judged(LATENCY, tally(p95_of(1000, edges=(INF,))))

    assert row.verdict is Verdict.INCONCLUSIVE


# --- Evidence that is not believed --------------------------------------------------------------------------


@pytest.mark.parametrize(("weight", "mine"), [(5, 5000), (5, 5400), (50, 50_000), (1, 1000)])
def test_a_split_as_it_was_ordered_is_believed(weight: int, mine: float) -> None:
    known = tally(share(0, mine), split=(mine, 100_000 - mine))

    assert judged(ERRORS, known, weight=weight).verdict is Verdict.PASS


MISROUTED = (20_000.0, 80_000.0)


def test_another_split_blocks_a_pass() -> None:
    row = judged(ERRORS, tally(share(0, 20_000), split=MISROUTED), weight=5)

    assert (row.verdict, row.reason) == (Verdict.INCONCLUSIVE, "RoutingMismatch")
    assert row.message.startswith("20% of 100000 requests reached the candidate, 5% were to; 0 (CI95 ")


def test_another_split_blocks_a_relative_breach_but_no_absolute_one() -> None:
    """Whoever gets requests that were not meant for it is not to be compared. Errors are errors."""
    mine, theirs = share(4000, 20_000), share(80, 80_000)
    relative = ratio_tally(mine, theirs)

    assert judged(RATIO, relative, weight=20).verdict is Verdict.FAIL
    assert judged(RATIO, relative, weight=5).reason == "RoutingMismatch"
    assert judged(FEWER, tally(mine, theirs), weight=5).reason == "RoutingMismatch"
    assert judged(ERRORS, tally(mine, theirs), weight=5).verdict is Verdict.FAIL


def test_while_another_split_is_on_its_way_any_between_them_is_believed() -> None:
    relative = ratio_tally(share(4000, 20_000), share(80, 80_000))

    assert judged(RATIO, relative, weight=5, next_weight=50).verdict is Verdict.FAIL
    assert judged(RATIO, relative, weight=5, next_weight=10).reason == "RoutingMismatch"


@pytest.mark.parametrize(("tolerance", "reason"), [(0.1, "RoutingMismatch"), (0.6, "Met"), (0.0, "RoutingMismatch")])
def test_how_far_off_a_split_may_be(tolerance: float, reason: str) -> None:
    known = tally(share(0, 7500), split=(7500.0, 92_500.0))

    assert judged(ERRORS, known, weight=5, split_tolerance=tolerance).reason == reason


@pytest.mark.parametrize(("weight", "mirror"), [(0, 100), (100, 0)], ids=["shadow", "full"])
def test_where_one_arm_has_all_live_requests_there_is_no_split(weight: int, mirror: int) -> None:
    known = tally(share(0, 20_000), split=MISROUTED)

    assert judged(ERRORS, known, weight=weight, mirror_percent=mirror).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("weight", "tolerance"),
    [
        (90, 0.1),
        pytest.param(91, 0.1),
        pytest.param(99, 0.1),
        pytest.param(5, 1.0),
    ],
)
def test_every_weight_and_tolerance_that_spec_allows_can_be_judged(weight: int, tolerance: float) -> None:
    known = tally(share(0, 1000 * weight), split=(1000.0 * weight, 1000.0 * (100 - weight)))

    assert judged(ERRORS, known, weight=weight, split_tolerance=tolerance).verdict is Verdict.PASS


def test_clumps_that_are_too_large_prove_nothing_good() -> None:
    row = judged(ERRORS, tally(share(0, 1_000_000)), baseline=baseline(dispersion=50.1))

    assert (row.reason, row.dispersion) == ("Overdispersed", 50.1)
    assert row.message.startswith("φ is 50.1: events come in clumps too large to judge; 0 (CI95")
    assert judged(ERRORS, tally(share(0, 1_000_000)), baseline=baseline(dispersion=50)).verdict is Verdict.PASS


def test_clumps_need_as_many_more_requests() -> None:
    known = baseline(dispersion=5.0)

    assert judged(ERRORS, tally(share(0, 417)), baseline=known).verdict is Verdict.INCONCLUSIVE
    assert judged(ERRORS, tally(share(0, 2085)), baseline=known).verdict is Verdict.PASS
    assert judged(ERRORS, tally(share(4, 4)), baseline=known).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("bad", "reason"), [(0, "Overdispersed"), (3000, "Breached")])
def test_a_value_that_changed_under_way_never_passes(bad: float, reason: str) -> None:
    row = judged(ERRORS, tally(share(bad, 10_000), contradicted=True))

    assert row.reason == reason


# --- Whatever a policy or a pod says --------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [0.0, 0.001, 200.0])
def test_any_bound_of_a_ratio_can_be_judged(bound: float) -> None:
    objective = RATIO.model_copy(update={"max": bound})

    assert judged(objective, ratio_tally(share(5, 1000), share(5, 1000))).verdict is not None


def test_a_negative_count_is_no_reason_to_stop_judging() -> None:
    assert judged(ERRORS, tally(share(-3, 1000))).verdict is not None


@pytest.mark.parametrize(
    "arm", [Arm((0.0,), moments={(0, 0): 600.0}), Arm((600.0,))], ids=["one moment", "no label moment"]
)
def test_moments_that_are_not_there_are_unknown(arm: Arm) -> None:
    assert judged(SAME, tally(arm)).verdict is Verdict.INCONCLUSIVE


def test_a_plain_counter_where_a_histogram_should_be_is_unknown() -> None:
    assert judged(LATENCY, tally(Arm((600.0,)))).verdict is Verdict.INCONCLUSIVE


@settings(deadline=None)
@given(
    st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from([ERRORS, RATIO, FEWER])
)
def test_a_pass_lies_on_the_good_side(a: float, b: float, c: float, d: float, objective: Objective) -> None:
    mine, theirs = share(min(a, b), b), share(min(c, d), d)
    row = judged(objective, ratio_tally(mine, theirs, 1))

    if row.verdict is Verdict.PASS:
        assert row.observed is not None and objective.max is not None
        assert row.observed <= objective.max
    if row.verdict is Verdict.FAIL:
        assert row.observed is None or row.observed >= objective.limit


# --- Rows together ------------------------------------------------------------------------------------------


def row_with(verdict: Verdict, role: Role = Role.REQUIRED, last: datetime | None = NOW) -> ObjectiveStatus:
    changes = {"verdict": verdict, "role": role, "last_tick": last}
    return judged(ERRORS, ENOUGH).model_copy(update=changes)


PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([row_with(PASS), row_with(PASS)], PASS, id="all pass"),
        pytest.param([row_with(PASS), row_with(PASS, last=NOW - TICK)], OPEN, id="all pass, on different ticks"),
        pytest.param([row_with(PASS), row_with(PASS, last=None)], PASS, id="a run has no ticks"),
        pytest.param([row_with(PASS), row_with(OPEN)], OPEN, id="one is open"),
        pytest.param([row_with(OPEN), row_with(FAIL)], FAIL, id="one fails"),
        pytest.param([row_with(PASS), row_with(FAIL, Role.GUARD)], FAIL, id="a guard fails"),
        pytest.param([row_with(PASS), row_with(OPEN, Role.GUARD)], PASS, id="a guard is open"),
        pytest.param([row_with(PASS), row_with(OPEN, Role.GUARD, NOW - TICK)], PASS, id="a guard is late"),
        pytest.param([row_with(PASS), row_with(FAIL, Role.ADVISORY)], PASS, id="one fails that is shown only"),
        pytest.param([row_with(PASS, Role.GUARD)], OPEN, id="none is required"),
        pytest.param([], OPEN, id="nothing is judged"),
    ],
)
def test_all_together(rows: list[ObjectiveStatus], expected: Verdict) -> None:
    assert objectives.overall(rows) is expected


def test_bonferroni_shares_alpha_among_those_that_can_revert() -> None:
    advisory = ERRORS.model_copy(update={"role": Role.ADVISORY})
    guard = ERRORS.model_copy(update={"role": Role.GUARD})

    assert objectives.share_of_alpha([ERRORS, guard, advisory]) == pytest.approx(0.025)
    assert objectives.share_of_alpha([advisory]) == objectives.share_of_alpha([]) == 0.05


def test_a_smaller_alpha_needs_more_evidence() -> None:
    assert judged(ERRORS, tally(share(4, 4))).verdict is Verdict.FAIL
    assert judged(ERRORS, tally(share(4, 4)), alpha=1e-6).verdict is Verdict.INCONCLUSIVE
    assert judged(ERRORS, tally(share(0, 417)), alpha=0.01).verdict is Verdict.INCONCLUSIVE


# --- What people read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "known", "message"),
    [
        (ERRORS, tally(share(3, 400)), "0.0075 (CI95 0.0003641 to 0.03407), target < 0.01, 400 requests"),
        (
            ERRORS,
            tally(share(3, 400), share(2, 1000)),
            "0.0075 (CI95 0.0003641 to 0.03407), target < 0.01, 400 requests, stable 0.002",
        ),
        (
            LATENCY,
            tally(p95_of(0, 0, 0, 0, 1000, 1000)),
            "0.9752s (CI95 0.505 to 1), target < 0.5s, 1000 requests; shown at odds over 9999 to 1",
        ),
        (
            RATIO,
            ratio_tally(share(5, 1000), share(5, 1000)),
            "1 (CI95 0.1648 to 6.069), target ratio to stable < 1, 1000 requests, stable 0.005",
        ),
        (
            FEWER,
            tally(share(5, 1000), share(5, 1000)),
            "0 (CI95 -0.01911 to 0.01911), target difference to stable < 0.005, 1000 requests, stable 0.005",
        ),
        (
            THROUGHPUT,
            rate_tally(THROUGHPUT, 100.0, windows=10),
            "100req/s (CI95 21.2 to 150), target ≥ 100req/s, 60000 requests, stable 0req/s",
        ),
    ],
    ids=["one arm", "both arms", "a quantile", "a ratio", "a difference", "a rate"],
)
def test_the_verdict_in_a_sentence(objective: Objective, known: Tally, message: str) -> None:
    assert judged(objective, known, weight=100).message == message


def test_the_row_says_what_was_asked_of_whom_and_when() -> None:
    evidence = Evidence(tally(share(0, 1000)), FIRST, NOW, NOW, None, "main")
    row = told(ERRORS, evidence)

    assert (row.source, row.first_tick, row.last_tick, row.ticks) == ("main", FIRST, NOW, 120)
    assert (row.slo, row.role, row.judged, row.target, row.dispersion) == (
        "S3",
        Role.REQUIRED,
        "candidate",
        "< 0.01",
        1,
    )
    assert row.query == "; ".join(ERRORS.queries) and len(ERRORS.queries) == 2


def test_an_end_without_a_bound_is_left_out() -> None:
    row = judged(LATENCY, tally(p95_of(0, 0, 0, 0, 0, 100)))

    assert row.interval is not None and (row.interval.low, row.interval.high) == (1.0, None)
    assert "(CI95 1 to ∞)" in row.message


@pytest.mark.parametrize(
    ("earlier", "trend"),
    [(share(5, 500), Trend.STEADY), (share(0, 500), Trend.RISING), (share(9, 500), Trend.FALLING)],
)
def test_the_trend_holds_the_latest_ticks_against_the_whole_step(earlier: Arm, trend: Trend) -> None:
    assert judged(ERRORS, tally_since(earlier, share(10, 1000))).trend is trend


@pytest.mark.parametrize("earlier", [Arm(), share(10, 990)], ids=["the whole step is recent", "few recent requests"])
def test_no_trend_of(earlier: Arm) -> None:
    assert judged(ERRORS, tally_since(earlier, share(10, 1000))).trend is None


# --- The policy as shipped ----------------------------------------------------------------------------------


def test_what_is_shipped_does_what_the_slos_say() -> None:
    found: Mapping[str, tuple[float, float, OnBreach, Role]] = {
        item.slo or "": (item.target, item.limit, item.on_breach, item.role)
        for item in POLICY.values()
        if item.name != "p95-drift" and item.name != "error-ratio"
    }

    assert found["S1"] == (0.10, -0.02, OnBreach.ROLLBACK, Role.REQUIRED)
    assert found["S2"] == (0.5, 0.505, OnBreach.ROLLBACK, Role.REQUIRED)
    assert found["S3"] == (0.01, 0.01, OnBreach.ROLLBACK, Role.REQUIRED)
    assert found["S4"] == (100.0, 100.0, OnBreach.HOLD, Role.REQUIRED)
    assert found["S5"][1:] == (0.0, OnBreach.ROLLBACK, Role.REQUIRED)
    assert found["S6"] == (0.05, 0.05, OnBreach.ROLLBACK, Role.REQUIRED)
    assert found["S7"] == (0.95, 0.95, OnBreach.ROLLBACK, Role.REQUIRED)
    assert found["S8"] == (0.6, 0.6, OnBreach.ROLLBACK, Role.REQUIRED)


def test_presets_become_queries() -> None:
    policy = RolloutPolicySpec.model_validate(
        {"objectives": [{"name": "e", "preset": {"name": "http/errors", "labels": {"model": "a"}}, "max": 0.01}]}
    )
    (objective,) = presets.resolved(policy).objectives

    assert policy.objectives[0].queries == ()
    assert objective.preset is None and len(objective.queries) == 2
    assert all('model="a"' in query for query in objective.queries)


def test_the_counter_of_requests_stands_last() -> None:
    rate, seconds = Rate(requests=" all "), Quantile(buckets="seconds", q=0.5, scale=2)
    made = [
        Objective(name="a", ratio=Ratio(bad="bad", total="all"), max=0.1),
        Objective(name="b", rate=rate, min=1),
        Objective(name="c", quantile=seconds, max=1),
        WINS,
        SCORE,
    ]

    assert [item.queries for item in made] == [
        ("bad", "all"),
        ("all",),
        ("seconds",),
        ("w", "l", "t"),
        ("sum", "count"),
    ]
