"""The language of success criteria: what it says, and that nothing else gets through."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.core.plans.criteria import BadCriterion, metric_name, named, parse

METRICS = {"a": 1.0, "b": 2.5, "zero": 0.0, "nan": math.nan}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("a < 2", True),
        ("a == 1", True),
        ("a != 1", False),
        ("0 <= a <= b < 3", True),
        ("0 <= a <= 0.5", False),
        ("a - 1 >= 0 and b / 2 < 1.3", True),
        ("not (a > b) or missing > 1", True),
        ("a > b and missing > 1", False),
        ("a < b and missing > 1", None),
        ("missing < 1", None),
        ("nan < 1", None),
        ("a / zero > 1", None),
        ("abs(a - b) <= 1.5", True),
        ("max(a, b, 2) == b and min(a, -b) == -2.5", True),
        ("a < 1e3 and a > .5", True),
        ("  a\t<  2 ", True),
    ],
)
def test_criteria_are_held_against_metrics(text: str, holds: bool | None) -> None:
    assert parse(text).judged(METRICS).holds is holds


def test_what_is_said_names_each_metric_and_its_value() -> None:
    assert parse("a < 2 and other > 1").judged(METRICS).values == "a = 1, other is not known"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("1 < 2", "names no metric"),
        ("a", "is neither true nor false"),
        ("a + b", "is neither true nor false"),
        ("a < b <", "cannot be read"),
        ("a < True", "no number in range"),
        ("a < 1e999", "no number in range"),
        ("a < " + "9" * 400, "no number in range"),
        ("a ** b < 1", "is no number"),
        ("a is b", "compares by another operator"),
        ("f(a) < 1", "calls what is not there"),
        ("abs(a, b) < 1", "abs of one number"),
        ("min(a) < 1", "min and max of several"),
        ("__import__(a) < 1", "calls what is not there"),
        ("a.b < 1", "is not part of the language"),
        ("a['b'] < 1", "is not part of the language"),
        ("a < 0x10", "is not part of the language"),
        ("1if a < 1", "is not part of the language"),
        ("a < 1 # x", "is not part of the language"),
        ("(lambda a) < 1", "cannot be read"),
        ("(a if b < 1 else a) < 1", "is no number"),
        ("(yield) < 1", "is no number"),
        ("a < 1\nand b < 1", "cannot be read"),
        ("(" * 230 + "a < 1" + ")" * 230, "cannot be read"),
        ("a < 1 or " * 60 + "a < 1", "characters: expected at most 500"),
        ("a<1 or " * 70 + "a<1", "too large"),
        ("ä < 1", "is not part of the language"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(BadCriterion) as refused:
        parse(text)

    assert said in str(refused.value) and "expected" in str(refused.value)


@given(st.text(max_size=120) | st.text("ab01<>=!()+-*/., andortNnml_", max_size=60))
def test_any_text_is_a_criterion_or_refused(text: str) -> None:
    try:
        criterion = parse(text)
    except BadCriterion:
        return
    assert criterion.judged({}).holds in (None, True, False)
    assert criterion.judged(dict.fromkeys(criterion.names, 1.0)).holds in (None, True, False)


@given(st.floats(allow_nan=True), st.floats(allow_nan=True, allow_infinity=True))
def test_a_comparison_is_that_of_floats_or_not_known(left: float, right: float) -> None:
    judged = parse("x < y").judged({"x": left, "y": right})

    known = math.isfinite(left) and math.isfinite(right)
    assert judged.holds == (left < right if known else None)


def test_names_of_mlflow_become_names_of_the_language() -> None:
    assert metric_name("ndcg@10/val-set") == "ndcg_10_val_set"
    assert metric_name("5xx share") == "_5xx_share"
    assert named([("a/b", 1.0), ("a b", 2.0), ("c", 3.0)]) == {"c": 3.0}
