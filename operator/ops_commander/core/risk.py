"""The composite risk of a candidate: four parts in [0, 1], their weighted sum, a band, and a verdict.

What was not measured counts as 1: unknown is the worst. All sums are decimal and rounded half up to four places, so
that two machines never differ and a value at a limit never falls below it. A veto stands outside of the sum, which
alone would cap a broken schema at 0.4.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from ops_commander.api.risk import Band, Part, Verdict

PLACES: Final = Decimal("0.0001")
ONE: Final = Decimal(1)
ZERO: Final = Decimal(0)


_ORDER: Final = tuple(Verdict)
_OF_BAND: Final = {Band.LOW: Verdict.SAFE, Band.MEDIUM: Verdict.SHADOW_ONLY, Band.HIGH: Verdict.REJECT}


@dataclass(frozen=True, slots=True)
class Weights:
    """The share of each part; together 1. The version is noted with each risk that they made."""

    schema: Decimal = Decimal("0.4")
    dependency: Decimal = Decimal("0.3")
    latency: Decimal = Decimal("0.2")
    output: Decimal = Decimal("0.1")
    version: str = "default-1"

    def __post_init__(self) -> None:
        for part, weight in self.by_part().items():
            if not ZERO <= weight <= ONE:
                raise ValueError(f"the weight of {part} is {weight}: expected 0 to 1")
        if (total := sum(self.by_part().values())) != ONE:
            raise ValueError(f"the weights add up to {total}: expected 1")

    def by_part(self) -> dict[Part, Decimal]:
        return dict(zip(Part, (self.schema, self.dependency, self.latency, self.output), strict=True))


@dataclass(frozen=True, slots=True)
class Bands:
    """Where Medium and High begin; a value at a limit belongs to the worse side."""

    medium: Decimal = Decimal("0.3")
    high: Decimal = Decimal("0.6")

    def __post_init__(self) -> None:
        if not ZERO < self.medium <= self.high <= ONE:
            raise ValueError(f"the bands begin at {self.medium} and {self.high}: expected 0 < medium ≤ high ≤ 1")

    def of(self, value: Decimal) -> Band:
        if value >= self.high:
            return Band.HIGH
        return Band.MEDIUM if value >= self.medium else Band.LOW


@dataclass(frozen=True, slots=True)
class Measured:
    """One part as it was measured. `value` is None where it could not be; `digest` names what it was made from."""

    value: Decimal | None
    explanation: str
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Veto:
    """A reason to reject whatever the sum is."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class PartRisk:
    """A part's share of the risk, and why."""

    part: Part
    value: Decimal
    weight: Decimal
    contribution: Decimal
    missing: bool
    explanation: str
    digest: str | None


@dataclass(frozen=True, slots=True)
class Risk:
    """The sum, what it is made of, and what follows from it."""

    value: Decimal
    least: Decimal
    """The sum that is certain: what only shadow traffic can measure, and has not yet, counts 0 in it."""
    band: Band
    verdict: Verdict
    parts: tuple[PartRisk, ...]
    vetoes: tuple[Veto, ...]
    weights_version: str
    digest: str
    """Of all inputs, weights and limits: equal digests mean equal risks."""

    @property
    def explanation(self) -> str:
        terms = " + ".join(f"{part.weight}·{rounded(part.value)}" for part in self.parts)
        vetoed = f"; vetoed by {', '.join(veto.kind for veto in self.vetoes)}" if self.vetoes else ""
        return f"{self.value} = {terms}: {self.band}{vetoed} → {self.verdict}"


@dataclass(frozen=True, slots=True)
class LatencyLimits:
    """Milliseconds: drift that is tolerated, the change that counts as 1, and the target of the P95."""

    tolerated: Decimal = Decimal(5)
    largest: Decimal = Decimal(100)
    target: Decimal = Decimal(500)


MEASURED_IN_SHADOW: Final = frozenset({Part.LATENCY, Part.OUTPUT})
_MISSING: Final = Measured(None, "not measured")


def exact(value: float | int | str | Decimal) -> Decimal:
    """The decimal that a person would write for it: 0.1 is 0.1, not its binary neighbour."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


def rounded(value: Decimal) -> Decimal:
    """To four places, half up."""
    return value.quantize(PLACES, rounding=ROUND_HALF_UP)


def noisy_or(values: Iterable[float | Decimal]) -> Decimal:
    """1 − Π(1 − v), rounded: many harmless items do not dilute a bad one, and one 1 makes it exactly 1."""
    rest = ONE
    for value in values:
        rest *= ONE - _in_range("an item", exact(value))
    return rounded(ONE - rest)


def latency_change(
    upper_ms: float | Decimal | None, baseline_p95_ms: float | Decimal | None, limits: LatencyLimits | None = None
) -> Measured:
    """L, from the upper CI95 bound of P95 candidate − P95 baseline: what is uncertain counts as risk too."""
    limits = limits or LatencyLimits()
    if not _is_known(upper_ms) or not _is_known(baseline_p95_ms):
        return Measured(None, "the change of the P95 latency was not measured")
    assert upper_ms is not None and baseline_p95_ms is not None
    upper, baseline = exact(upper_ms), exact(baseline_p95_ms)
    largest = min(limits.largest, limits.target - baseline)
    said = f"P95 changes by at most {upper} ms (upper CI95) from {baseline} ms"
    if largest <= limits.tolerated:
        value = ONE if upper > limits.tolerated else ZERO
        return Measured(value, f"{said}; no more than {limits.tolerated} ms is left below {limits.target} ms")
    value = _clipped((upper - limits.tolerated) / (largest - limits.tolerated))
    return Measured(value, f"{said}; {limits.tolerated} ms count 0, {largest} ms count 1")


def output_deviation(upper: float | Decimal | None, allowed: Decimal = Decimal("0.10")) -> Measured:
    """O, from the upper CI95 bound of the mean deviation of pairs in shadow; `allowed` counts as 1."""
    if not _is_known(upper):
        return Measured(None, "the deviation of outputs was not measured")
    assert upper is not None
    bound = exact(upper)
    return Measured(_clipped(bound / allowed), f"outputs deviate by at most {bound} (upper CI95); {allowed} counts 1")


def composite(
    measured: Mapping[Part, Measured],
    vetoes: Iterable[Veto] = (),
    *,
    weights: Weights | None = None,
    bands: Bands | None = None,
) -> Risk:
    """The risk. A part that is absent, None or not a number counts 1; outside of [0, 1] is a ValueError."""
    weights, bands, vetoes = weights or Weights(), bands or Bands(), tuple(vetoes)
    parts = tuple(_part(part, measured.get(part, _MISSING), weight) for part, weight in weights.by_part().items())
    value = rounded(sum((part.value * part.weight for part in parts), ZERO))
    open_parts = [part.contribution for part in parts if part.missing and part.part in MEASURED_IN_SHADOW]
    least = rounded(sum((part.value * part.weight for part in parts), ZERO) - sum(open_parts, ZERO))
    band = bands.of(value)
    return Risk(
        value=value,
        least=least,
        band=band,
        verdict=Verdict.REJECT if vetoes else _verdict(band, bands.of(least)),
        parts=parts,
        vetoes=vetoes,
        weights_version=weights.version,
        digest=_digest(parts, vetoes, weights, bands),
    )


def _verdict(band: Band, least: Band) -> Verdict:
    """A risk that is High only for what shadow traffic has yet to measure may go there, and no further."""
    return Verdict.SHADOW_ONLY if band is Band.HIGH and least is not Band.HIGH else _OF_BAND[band]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them; Reject where there is none, because nothing was looked at."""
    return max(verdicts, key=_ORDER.index, default=Verdict.REJECT)


def _part(part: Part, measured: Measured, weight: Decimal) -> PartRisk:
    missing = measured.value is None or not measured.value.is_finite()
    value = ONE if missing or measured.value is None else _in_range(str(part), measured.value)
    explanation = f"{measured.explanation}: counts 1" if missing else measured.explanation
    return PartRisk(part, value, weight, rounded(value * weight), missing, explanation, measured.digest)


def _in_range(name: str, value: Decimal) -> Decimal:
    if not ZERO <= value <= ONE:
        raise ValueError(f"{name} is {value}: expected 0 to 1")
    return value


def _clipped(value: Decimal) -> Decimal:
    return max(ZERO, min(ONE, value))


def _is_known(value: float | Decimal | None) -> bool:
    return value is not None and math.isfinite(value)


def _digest(parts: tuple[PartRisk, ...], vetoes: tuple[Veto, ...], weights: Weights, bands: Bands) -> str:
    content = {
        "parts": [[part.part, str(part.value), str(part.weight), part.missing, part.digest] for part in parts],
        "vetoes": [[veto.kind, veto.message] for veto in vetoes],
        "weights": weights.version,
        "bands": [str(bands.medium), str(bands.high)],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
