"""What is learnt of the stable version before a deployment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import numpy as np
import pytest

from ops_commander.api.policy import Compare, Objective, Quantile, Rate, Ratio
from ops_commander.api.v1alpha1 import BaselineStatus
from ops_commander.core.baseline import FEWEST_TICKS, summarised
from ops_commander.core.samples import Owner, PodSamples, Reading, Sample

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
TICK = timedelta(seconds=5)
STABLE: Owner = ("shop", "ranker-1")
INF = math.inf
EDGES = (0.1, 0.25, 0.5, INF)

ERRORS = Objective(name="errors", ratio=Ratio(bad="bad", total="all"), max=0.01)
SLOW = Objective(name="slow", quantile=Quantile(buckets="seconds"), max=0.5)
THROUGHPUT = Objective(name="throughput", rate=Rate(requests="all"), min=100.0)


def drift(allowed: float) -> Objective:
    return Objective(
        name="drift", quantile=Quantile(buckets="seconds"), compare=Compare.DIFFERENCE, max=allowed, unit="s"
    )


def readings(rows: Sequence[PodSamples], owner: Owner = STABLE) -> list[Reading]:
    return [Reading(START + TICK * number, {owner: pods} if pods else {}) for number, pods in enumerate(rows)]


def counter(*values: float) -> list[PodSamples]:
    return [{"ranker-1-a": (Sample("", float(value)),)} for value in values]


def buckets(edges: Sequence[float], *rows: Sequence[float]) -> list[PodSamples]:
    """Cumulative counts at each tick."""
    return [
        {"ranker-1-a": tuple(Sample(f"le={edge}", float(n), edge) for edge, n in zip(edges, counts, strict=True))}
        for counts in rows
    ]


def learnt(objective: Objective, **rows: Sequence[PodSamples]) -> BaselineStatus:
    found = summarised(objective, {query: readings(of) for query, of in rows.items()}, STABLE)
    assert found is not None
    return found


def test_rate_and_value() -> None:
    found = learnt(ERRORS, bad=counter(0, 1, 1, 4), all=counter(0, 500, 1000, 1500))

    assert found == BaselineStatus(name="errors", ticks=3, rate=100.0, value=4 / 1500, dispersion=1.0)


def test_an_error_series_that_is_not_there_is_no_error() -> None:
    found = learnt(ERRORS, bad=[{}, {}, {}], all=counter(0, 500, 1000))

    assert (found.value, found.rate) == (0.0, 100.0)


def test_a_gap_is_time_too() -> None:
    found = learnt(THROUGHPUT, all=[*counter(0, 500), {}, {}, *counter(2000, 2500)])

    assert (found.rate, found.ticks) == (100.0, 3)


def test_a_restart_is_no_loss() -> None:
    assert learnt(THROUGHPUT, all=counter(10_000, 10_500, 500, 1000)).rate == 100.0


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param({"bad": [], "all": []}, id="no ticks"),
        pytest.param({"bad": [{}, {}], "all": [{}, {}]}, id="no series"),
        pytest.param({"bad": [{}], "all": counter(5)}, id="one tick"),
        pytest.param({"bad": [{}, {}], "all": counter(5, 5)}, id="no request"),
    ],
)
def test_nothing_is_known_from(rows: Mapping[str, Sequence[PodSamples]]) -> None:
    assert summarised(ERRORS, {query: readings(of) for query, of in rows.items()}, STABLE) is None


def test_pods_of_others_do_not_count() -> None:
    rows = {"bad": readings([{}, {}], ("shop", "other")), "all": readings(counter(0, 500), ("shop", "other"))}

    assert summarised(ERRORS, rows, STABLE) is None


# --- Dispersion ---------------------------------------------------------------------------------------------


def clumped(size: int, ticks: int = 2000, seed: int = 1) -> Sequence[PodSamples]:
    """Clumps of a fixed size have φ = size."""
    clumps = np.random.default_rng(seed).poisson(10 / size, ticks) * size
    return counter(0, *accumulate(clumps.tolist()))


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_the_dispersion_of_clumps_is_their_size(size: int) -> None:
    found = learnt(ERRORS, bad=clumped(size), all=counter(*(1000 * number for number in range(2001))))

    assert found.dispersion == pytest.approx(size, rel=0.15)
    assert found.dispersion >= 1.0


def test_the_dispersion_of_slow_requests_is_taken_beyond_the_edge() -> None:
    slow = [row["ranker-1-a"][0].value for row in clumped(5)]
    rows = [(0, 0, 200 * number - count, 200 * number) for number, count in enumerate(slow)]
    found = learnt(SLOW, seconds=buckets(EDGES, *rows))

    assert found.edge == 0.5
    assert found.dispersion == pytest.approx(5, rel=0.15)
    assert found.share_beyond_edge == pytest.approx(0.05, rel=0.05)


def test_few_ticks_say_nothing_of_clumps() -> None:
    bad = [0, *accumulate([50, 0] * FEWEST_TICKS)]
    few, enough = FEWEST_TICKS, FEWEST_TICKS + 1

    def dispersion(ticks: int) -> float:
        return learnt(ERRORS, bad=counter(*bad[:ticks]), all=counter(*(100 * n for n in range(ticks)))).dispersion

    assert dispersion(few) == 1.0
    assert dispersion(enough) > 20


# --- The edge at which drift is measured --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "counts", "allowed", "edge"),
    [
        pytest.param(EDGES, (10, 950, 990, 1000), 0.005, 0.25, id="next to the quantile"),
        pytest.param(EDGES, (10, 500, 990, 1000), 0.005, 0.5, id="next to the quantile, above"),
        pytest.param((0.1, 0.25, 0.3, 0.4, INF), (0, 900, 960, 990, 1000), 0.1, 0.3, id="one with a partner"),
        pytest.param((0.1, 0.2, 0.3, INF), (940, 960, 990, 1000), 0.1, 0.2, id="a partner that is near enough"),
        pytest.param((0.1, 0.2, 0.5, 0.6, INF), (0, 990, 990, 999, 1000), 0.1, 0.2, id="a partner that is too far"),
        pytest.param((0.1, 0.25, INF), (1000, 1000, 1000), 0.005, 0.1, id="all in the first bucket"),
        pytest.param((0.1, INF), (0, 1000), 0.005, 0.1, id="all beyond"),
    ],
)
def test_the_edge_is_next_to_the_quantile(
    edges: Sequence[float], counts: Sequence[float], allowed: float, edge: float
) -> None:
    nothing = [0.0] * len(edges)

    assert learnt(drift(allowed), seconds=buckets(edges, nothing, counts)).edge == edge


def test_shares_beyond_the_edge_and_beyond_the_allowed_drift() -> None:
    edges, counts = (0.1, 0.3, 0.4, INF), (0, 950, 990, 1000)
    found = learnt(drift(0.1), seconds=buckets(edges, (0, 0, 0, 0), counts))

    assert found.edge == 0.3
    assert found.share_beyond_edge == pytest.approx(0.05)
    assert found.share_beyond_drift == pytest.approx(0.01)


def test_without_a_finite_edge_there_is_none() -> None:
    found = learnt(drift(0.1), seconds=buckets((INF,), (0,), (1000,)))

    assert (found.edge, found.value, found.share_beyond_edge) == (None, None, None)


def test_edges_are_in_the_unit_of_the_objective() -> None:
    objective = SLOW.model_copy(update={"quantile": Quantile(buckets="ms", scale=0.001)})
    found = learnt(objective, ms=buckets((100, 250, 500, INF), (0, 0, 0, 0), (10, 950, 990, 1000)))

    assert found.edge == 0.25
    assert found.value == pytest.approx(0.25)
