"""The composite risk: the worked examples to the digit, unknown is worst, never falls when a part rises."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops_commander.api.risk import Band, Part, Verdict
from ops_commander.core import risk
from ops_commander.core.risk import Bands, Measured, Veto, Weights

shares = st.decimals(0, 1, places=6)


def schema(*severities: float) -> Measured:
    return Measured(risk.noisy_or(severities), "schema")


def dependency(*items: tuple[float, float]) -> Measured:
    return Measured(risk.noisy_or(Decimal(str(k)) * Decimal(str(m)) for k, m in items), "dependencies")


CLEAN = Measured(Decimal(0), "clean")


@pytest.mark.parametrize(
    ("s", "d", "latency", "output", "parts", "total"),
    [
        pytest.param(
            schema(0.05),
            dependency((1, 0.1), (0.5, 0.4)),
            risk.latency_change(30, 400),
            risk.output_deviation(0.01495),
            ("0.0500", "0.2800", "0.2632", "0.1495"),
            "0.1716",
            id="optional field, numpy patch, requests minor",
        ),
        pytest.param(
            schema(0.7, 0.05),
            dependency((1, 1)),
            risk.latency_change(4, 400),
            risk.output_deviation(0.03405),
            ("0.7150", "1.0000", "0.0000", "0.3405"),
            "0.6201",
            id="FP16 scores, other CUDA family",
        ),
        pytest.param(
            schema(1),
            CLEAN,
            CLEAN,
            risk.output_deviation(0.00368),
            ("1.0000", "0.0000", "0.0000", "0.0368"),
            "0.4037",
            id="field removed",
        ),
        pytest.param(
            CLEAN,
            CLEAN,
            risk.latency_change(None, 400),
            risk.output_deviation(0.00368),
            ("0.0000", "0.0000", "1.0000", "0.0368"),
            "0.2037",
            id="latency missing",
        ),
    ],
)
def test_worked_examples(
    s: Measured, d: Measured, latency: Measured, output: Measured, parts: tuple[str, ...], total: str
) -> None:
    result = risk.composite(dict(zip(Part, (s, d, latency, output), strict=True)))

    assert tuple(str(risk.rounded(part.value)) for part in result.parts) == parts
    assert str(result.value) == total


@pytest.mark.parametrize(
    ("value", "band", "verdict"),
    [
        ("0", Band.LOW, Verdict.SAFE),
        ("0.2999", Band.LOW, Verdict.SAFE),
        ("0.29995", Band.MEDIUM, Verdict.SHADOW_ONLY),
        ("0.3", Band.MEDIUM, Verdict.SHADOW_ONLY),
        ("0.5999", Band.MEDIUM, Verdict.SHADOW_ONLY),
        ("0.6", Band.HIGH, Verdict.REJECT),
        ("1", Band.HIGH, Verdict.REJECT),
    ],
)
def test_a_value_at_a_limit_belongs_to_the_worse_side(value: str, band: Band, verdict: Verdict) -> None:
    result = risk.composite(dict.fromkeys(Part, Measured(Decimal(value), "same")))

    assert (result.band, result.verdict) == (band, verdict)


def test_nothing_measured_is_the_worst() -> None:
    result = risk.composite({Part.SCHEMA: Measured(Decimal("NaN"), "schema")})

    assert result.value == 1
    assert all(part.missing and part.explanation.endswith("counts 1") for part in result.parts)
    assert result.verdict is Verdict.REJECT


def test_a_veto_rejects_whatever_the_sum_is() -> None:
    result = risk.composite(dict.fromkeys(Part, CLEAN), [Veto("hash", "numpy differs")])

    assert (str(result.value), result.band, result.verdict) == ("0.0000", Band.LOW, Verdict.REJECT)
    assert "vetoed by hash" in result.explanation


@pytest.mark.parametrize(
    ("upper", "baseline", "value"),
    [
        (None, 400, None),
        (10, None, None),
        (float("nan"), 400, None),
        (float("inf"), 400, None),
        (-40, 400, "0"),
        (5, 400, "0"),
        (100, 400, "1"),
        (1000, 400, "1"),
        (30, 470, "1"),
        (17.5, 470, "0.5"),
        (5, 495, "0"),
        (5.1, 495, "1"),
        (5.1, 600, "1"),
        (4, 600, "0"),
    ],
)
def test_latency_counts_from_what_is_tolerated_to_what_is_left(
    upper: float | None, baseline: float | None, value: str | None
) -> None:
    assert risk.latency_change(upper, baseline).value == (None if value is None else Decimal(value))


@pytest.mark.parametrize(("upper", "value"), [(None, None), (0, "0"), (0.05, "0.5"), (0.1, "1"), (0.9, "1")])
def test_output_counts_up_to_a_tenth(upper: float | None, value: str | None) -> None:
    assert risk.output_deviation(upper).value == (None if value is None else Decimal(value))


@pytest.mark.parametrize("value", ["-0.01", "1.01"])
def test_a_part_out_of_range_is_named(value: str) -> None:
    with pytest.raises(ValueError, match=f"SchemaDrift is {value}: expected 0 to 1"):
        risk.composite({Part.SCHEMA: Measured(Decimal(value), "schema")})


def test_weights_and_bands_are_checked() -> None:
    with pytest.raises(ValueError, match=r"the weights add up to 1\.1: expected 1"):
        Weights(schema=Decimal("0.5"))
    with pytest.raises(ValueError, match=r"expected 0 to 1"):
        Weights(schema=Decimal("-0.4"), dependency=Decimal("1.1"))
    with pytest.raises(ValueError, match=r"expected 0 < medium"):
        Bands(medium=Decimal("0.7"))


def test_other_weights_and_bands_are_used_and_noted() -> None:
    weights = Weights(Decimal(0), Decimal(0), Decimal(1), Decimal(0), version="latency-only")
    measured = {Part.LATENCY: Measured(Decimal("0.2"), "latency")}

    result = risk.composite(measured, weights=weights, bands=Bands(Decimal("0.1"), Decimal("0.2")))

    assert (str(result.value), result.band, result.weights_version) == ("0.2000", Band.HIGH, "latency-only")


def test_the_digest_follows_the_inputs() -> None:
    clean = dict.fromkeys(Part, CLEAN)
    changed = {**clean, Part.OUTPUT: Measured(Decimal(0), "clean", digest="abc")}

    assert risk.composite(clean).digest == risk.composite(dict(reversed(clean.items()))).digest
    assert risk.composite(clean).digest != risk.composite(changed).digest
    assert risk.composite(clean).digest != risk.composite(clean, [Veto("a", "b")]).digest


def test_the_worst_of_no_verdict_is_reject() -> None:
    assert risk.worst([]) is Verdict.REJECT
    assert risk.worst([Verdict.SAFE, Verdict.SHADOW_ONLY]) is Verdict.SHADOW_ONLY


@given(st.lists(shares, min_size=4, max_size=4), st.sampled_from(range(4)), shares)
def test_risk_never_falls_when_a_part_rises(values: list[Decimal], index: int, other: Decimal) -> None:
    raised = [max(value, other) if place == index else value for place, value in enumerate(values)]

    before, after = (
        risk.composite({part: Measured(value, "x") for part, value in zip(Part, row, strict=True)})
        for row in (values, raised)
    )

    assert 0 <= before.value <= after.value <= 1
    assert risk.worst([before.verdict, after.verdict]) is after.verdict


@given(st.lists(shares, max_size=8), shares)
def test_noisy_or_never_falls_with_another_item(values: list[Decimal], more: Decimal) -> None:
    assert 0 <= risk.noisy_or(values) <= risk.noisy_or([*values, more]) <= 1
    assert risk.noisy_or([*values, Decimal(1)]) == 1


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
def test_any_float_gives_a_part(upper: float, baseline: float) -> None:
    for measured in (risk.latency_change(upper, baseline), risk.output_deviation(upper)):
        assert measured.value is None or 0 <= measured.value <= 1
