"""Precision that was lost, and what only looks like it."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from ops_commander.integration.outputs.findings import Kind
from tests.unit.integration.outputs.answers import answer, binary, compared, found, raw

Change = Callable[[float], float]


def as_float32(value: float) -> float:
    return float(np.float32(value))


def written_as_float32(value: float) -> float:
    return float(str(np.float32(value)))


def as_float16(value: float) -> float:
    return float(np.float16(value))


def as_bfloat16(value: float) -> float:
    bits = np.array([value], "<f4").view("<u4") & np.uint32(0xFFFF0000)
    return float(bits.view("<f4")[0])


def scores(count: int, seed: int = 1) -> list[float]:
    chosen = random.Random(seed)
    return [chosen.random() for _ in range(count)]


LOSSES: dict[str, Change] = {
    "float32": as_float32,
    "float32 in short": written_as_float32,
    "float16": as_float16,
    "bfloat16": as_bfloat16,
    "four decimals": lambda value: round(value, 4),
    "two decimals": lambda value: round(value, 2),
    "six decimals": lambda value: round(value, 6),
}


@pytest.mark.parametrize(
    ("name", "count"), [(name, count) for name in LOSSES for count in (1, 10, 1000) if (name, count) != ("bfloat16", 1)]
)
def test_a_loss_is_found_in_one_number_and_in_many(name: str, count: int) -> None:
    change = LOSSES[name]
    hits = 0
    for seed in range(20):
        stable = scores(count, seed)
        kinds = compared({"p": stable}, {"p": [change(each) for each in stable]}).kinds
        hits += Kind.PRECISION_LOSS in kinds
    assert hits >= 18, "one in a while looks round by chance"


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_found_across_the_elements_of_an_array(name: str) -> None:
    stable = [{"id": index, "score": score} for index, score in enumerate(scores(5))]
    candidate = [{**each, "score": LOSSES[name](float(each["score"]))} for each in stable]
    each = compared(stable, candidate)
    assert each.kinds == {Kind.PRECISION_LOSS}
    assert each.findings[0].path == ("*", "score")


@pytest.mark.parametrize("name", ["float32", "float32 in short", "float16"])
def test_another_model_of_lower_precision_is_found_too(name: str) -> None:
    stable, other = scores(20, 1), scores(20, 2)
    assert Kind.PRECISION_LOSS in compared(stable, [LOSSES[name](each) for each in other]).kinds


@pytest.mark.parametrize("change", [lambda value: value * (1 + 1e-15), lambda value: value * 1.01, lambda value: value])
def test_other_values_of_the_same_precision_are_none(change: Change) -> None:
    for seed in range(200):
        stable = scores(3, seed)
        for one, other in ((stable, [change(each) for each in stable]), (stable[0], change(stable[0]))):
            assert Kind.PRECISION_LOSS not in found(one, other)[1]


@pytest.mark.parametrize("name", LOSSES)
def test_stable_with_the_same_low_precision_has_lost_nothing_to_the_candidate(name: str) -> None:
    change = LOSSES[name]
    for count in (1, 20):
        stable, other = ([change(each) for each in scores(count, seed)] for seed in (1, 2))
        assert Kind.PRECISION_LOSS not in found(stable, other)[1]


@pytest.mark.parametrize(("stable", "candidate"), [(7, 5), (5, 7), (300, 128), (300, 64), (7, 10), (300, 8)])
def test_models_of_few_steps_have_lost_nothing(stable: int, candidate: int) -> None:
    """Neighbours that vote, or trees: scores are whole numbers of parts."""
    chosen = random.Random(1)
    for count in (1, 10):
        kinds = [
            found(*([chosen.randint(0, parts) / parts for _ in range(count)] for parts in (stable, candidate)))[1]
            for _ in range(300)
        ]
        assert sum(Kind.PRECISION_LOSS in each for each in kinds) == 0


@pytest.mark.parametrize(
    ("stable", "candidate"),
    [
        ([1 / 3, 2 / 3], [0.25, 0.75]),
        ([0.123456789012345] * 5, [0.5, 1.0, 0.0, 2.0, 0.25]),
        ([0.9312345678901234], [1.0]),
        ([1234567.0], [1234000.0]),
        ([1.5, 2.5], [1.0, 2.0]),
        ([0.12, 0.35], [0.1, 0.4]),
        ([1e-320], [0.0]),
    ],
)
def test_round_and_short_numbers_say_nothing(stable: list[float], candidate: list[float]) -> None:
    assert Kind.PRECISION_LOSS not in found(stable, candidate)[1]


def test_some_round_numbers_do_not_hide_a_loss_and_some_long_ones_do() -> None:
    stable = scores(20)
    lost = [as_float32(each) for each in stable]
    assert Kind.PRECISION_LOSS in found(stable, [1.0, 0.0, 0.5, *lost[3:]])[1]
    assert Kind.PRECISION_LOSS not in found(stable, [*stable[:10], *lost[10:]])[1]


def test_tensors_that_only_seem_to_have_their_precision() -> None:
    values = scores(64)
    stable = binary(("y", "FP32", [64], raw(values, "<f4")))
    halved = binary(("y", "FP32", [64], raw(raw_as(values, "<f2"), "<f4")))
    assert compared(stable, halved).kinds == {Kind.PRECISION_LOSS}
    assert compared(stable, binary(("y", "FP32", [64], raw(scores(64, 3), "<f4")))).kinds == frozenset()


def raw_as(values: list[float], dtype: str) -> list[float]:
    return [float(each) for each in np.asarray(values, dtype=dtype)]


def test_the_widest_format_that_explains_it_is_named() -> None:
    stable = scores(64)
    (finding,) = compared(answer(stable), answer([as_float16(each) for each in stable])).findings
    assert finding.said == "no more digits than float16 holds"
