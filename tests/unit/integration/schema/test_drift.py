"""S = 1 − Π(1 − severity · usage)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.integration.schema import Change, Direction, Kind, Verdict, schema_drift, verdict
from tests.unit.integration.schema.support import api, between, item


def change(severity: float, path: str = "x") -> Change:
    return Change(path, Kind.FIELD_REMOVED, Direction.RESPONSE, severity, None, None, "")


@pytest.mark.parametrize(
    ("severities", "drift"),
    [
        ([], 0.0),
        ([0.05], 0.05),
        ([0.7, 0.05], 0.715),  # FP32 to FP16 and an optional field
        ([1, 0.3], 1.0),
        ([0.3] * 3, 0.657),
        ([0.05] * 2, 0.0975),
        ([0.05] * 3, 0.1426),  # 0.142625: a half is rounded up
        ([0.0] * 9, 0.0),
    ],
)
def test_drift_is_not_diluted_and_rounded_by_decimals(severities: list[float], drift: float) -> None:
    assert schema_drift([change(each) for each in severities]) == drift


def test_the_worked_examples_of_the_composite_risk() -> None:
    before = api([], [item("score"), item("label", "STRING")])

    added = api([], [*before["outputs"], item("more", required=False)])
    halved = api([], [item("score", "FP16"), item("label", "STRING"), item("more", required=False)])
    removed = api([], [item("label", "STRING")])

    assert [schema_drift(between(before, after)) for after in (added, halved, removed)] == [0.05, 0.715, 1.0]


def test_usage_lowers_the_weight_of_what_few_read() -> None:
    changes = [change(1, "a"), change(0.5, "b")]

    assert schema_drift(changes, {"a": 0.1}) == 0.55
    assert schema_drift(changes, {"a": 0, "b": 0}) == 0
    assert schema_drift(changes, {"unknown": 0}) == 1


@pytest.mark.parametrize("usage", [-0.1, 1.1, float("nan"), float("inf")])
def test_usage_outside_of_0_to_1_is_refused(usage: float) -> None:
    with pytest.raises(ValueError, match=r"usage of 'x' is .*: expected 0 to 1"):
        schema_drift([change(1)], {"x": usage})


severities = st.lists(st.sampled_from([0, 0.05, 0.2, 0.3, 0.5, 0.7, 1]), max_size=30)


@given(severities, st.sampled_from([0.05, 0.5, 1]))
def test_drift_is_within_0_and_1_grows_and_has_no_order(found: list[float], more: float) -> None:
    drift = schema_drift([change(each) for each in found])

    assert 0 <= drift <= schema_drift([change(each) for each in [*found, more]]) <= 1
    assert drift == schema_drift([change(each) for each in reversed(found)])


@pytest.mark.parametrize(
    ("severity", "fail_on", "said"),
    [
        (0.7, 1.0, Verdict.COMPATIBLE),
        (1.0, 1.0, Verdict.BREAKING),
        (0.7, 0.7, Verdict.BREAKING),
        (0.5, 0.7, Verdict.COMPATIBLE),
    ],
)
def test_a_change_at_the_threshold_breaks(severity: float, fail_on: float, said: Verdict) -> None:
    assert verdict((change(0), change(severity)), fail_on) is said
