"""The composite risk of the wanted version: its files as verified, latency and outputs as shadow traffic shows them.

A part keeps what it was last measured as in this deployment: later steps have no shadow traffic. Until it has been
measured what the candidate's manifest states counts, and without that it is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from ops_commander.api.policy import Objective, RiskPolicy
from ops_commander.api.risk import Part
from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import (
    Interval,
    ObjectiveStatus,
    RiskPartStatus,
    RiskSource,
    RiskStatus,
    StepKind,
    Verdict,
)
from ops_commander.api.verification import VerificationStatus
from ops_commander.core import risk
from ops_commander.core.risk import Bands, LatencyLimits, Measured, Veto, Weights

SHADOW_ONLY = "ShadowOnly"
HIGH = "RiskHigh"
_MILLISECONDS = 1000
_UNKNOWN = Measured(None, "not measured")


@dataclass(frozen=True, slots=True)
class Sources:
    """What a risk is made of."""

    policy: RiskPolicy
    verification: VerificationStatus | None
    rows: tuple[ObjectiveStatus, ...] = ()
    """Of the step under way."""
    before: RiskStatus | None = None
    """The risk as it was written last in this deployment."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part's worst value within its interval, and its best."""

    worst: Measured
    best: Decimal
    source: RiskSource


def assess(sources: Sources) -> RiskStatus:
    """The risk now. Pure: rows and verification in, status out."""
    return _status(*_assessed(sources))


def _status(parts: dict[Part, _Part], total: risk.Risk) -> RiskStatus:
    return RiskStatus(
        value=float(total.value),
        band=total.band,
        verdict=total.verdict,
        message=total.explanation,
        parts=[
            RiskPartStatus(
                name=each.part,
                value=float(risk.rounded(each.value)),
                best=float(risk.rounded(parts[each.part].best))
                if parts[each.part].source is RiskSource.SHADOW
                else None,
                weight=float(each.weight),
                source=parts[each.part].source,
                explanation=each.explanation,
            )
            for each in total.parts
        ],
        vetoes=[f"{veto.kind}: {veto.message}" for veto in total.vetoes],
        weights_version=total.weights_version,
        digest=total.digest,
    )


def judge(objective: Objective, sources: Sources, kind: StepKind) -> ObjectiveStatus:
    """The row of an objective on the risk.

    It is breached where even the best that the intervals allow is too much. A step of shadow is left only at Low
    risk: Medium is for shadow alone.
    """
    parts, total = _assessed(sources)
    now, limit = _status(parts, total), objective.target
    weights = _weights(sources.policy).by_part()
    best = risk.rounded(sum((parts[part].best * weights[part] for part in Part), risk.ZERO))
    verdict, reason = _ruling(now, float(best), limit, kind)
    return ObjectiveStatus(
        name=objective.name,
        slo=objective.slo,
        verdict=verdict,
        reason=reason,
        role=objective.role,
        observed=now.value,
        candidate=now.value,
        target=f"< {limit:.4g}",
        interval=Interval(low=float(best), high=now.value),
        message=_message(now, reason),
        query="composite risk",
        source=f"digest {total.digest[:12]}",
    )


def _ruling(now: RiskStatus, best: float, limit: float, kind: StepKind) -> tuple[Verdict, str]:
    if now.vetoes or best >= limit:
        return Verdict.FAIL, "Breached"
    if now.value >= limit:
        return Verdict.INCONCLUSIVE, HIGH
    if kind is StepKind.SHADOW and now.verdict is not RiskVerdict.SAFE:
        return Verdict.INCONCLUSIVE, SHADOW_ONLY
    return Verdict.PASS, "Met"


def _message(now: RiskStatus, reason: str) -> str:
    missing = [part.name for part in now.parts if part.source is RiskSource.MISSING]
    said = {
        SHADOW_ONLY: "stays in shadow",
        HIGH: f"not measured yet: {', '.join(missing)}" if missing else "not narrowed down yet",
    }
    return f"{now.message}; {said[reason]}" if reason in said else now.message


def _assessed(sources: Sources) -> tuple[dict[Part, _Part], risk.Risk]:
    parts = {
        Part.SCHEMA: _verified(sources.verification, "schema_drift", "change of the API"),
        Part.DEPENDENCY: _verified(sources.verification, "dependency_mismatch", "mismatch of dependencies"),
        Part.LATENCY: _latency(sources),
        Part.OUTPUT: _output(sources),
    }
    policy, verification = sources.policy, sources.verification
    total = risk.composite(
        {part: each.worst for part, each in parts.items()},
        [_veto(text) for text in verification.vetoes] if verification else [],
        weights=_weights(policy),
        bands=Bands(risk.exact(policy.medium), risk.exact(policy.high)),
    )
    return parts, total


def _veto(text: str) -> Veto:
    kind, _, message = text.partition(": ")
    return Veto(kind, message)


def _weights(policy: RiskPolicy) -> Weights:
    """Rounded, and the last one what is left: as floats they need not add up."""
    shares = policy.weights
    schema, dependency, latency = (
        risk.exact(round(each, 6)) for each in (shares.schema_drift, shares.dependency, shares.latency)
    )
    output = risk.ONE - schema - dependency - latency
    given = Weights(schema, dependency, latency, output)
    return given if given == Weights() else replace(given, version=f"policy:{schema}:{dependency}:{latency}:{output}")


def _verified(verification: VerificationStatus | None, field: str, what: str) -> _Part:
    value: float | None = getattr(verification, field) if verification else None
    if verification is None or value is None:
        return _Part(Measured(None, f"{what} was not verified"), risk.ONE, RiskSource.MISSING)
    exact = risk.exact(value)
    said = f"{what} {value:g} @ {verification.run_id}"
    return _Part(Measured(exact, said, verification.manifest_sha256), exact, RiskSource.VERIFICATION)


def _latency(sources: Sources) -> _Part:
    row, limits = _row(sources.rows, sources.policy.latency), LatencyLimits()
    if row and row.interval and row.interval.high is not None and row.stable is not None:
        upper = row.interval.high * _MILLISECONDS
        if row.verdict is Verdict.PASS:  # a test of its own proved it, and is sharper than the interval
            upper = min(upper, float(limits.tolerated))
        baseline = round(row.stable * _MILLISECONDS, 3)
        lowest = row.interval.low
        best = risk.latency_change(round(lowest * _MILLISECONDS, 3), baseline).value if lowest is not None else None
        return _live(risk.latency_change(round(upper, 3), baseline), best, row)
    stated = sources.verification
    return _as_before(sources, Part.LATENCY) or _stated(
        risk.latency_change(stated.latency_upper_ms, stated.baseline_p95_ms) if stated else _UNKNOWN
    )


def _output(sources: Sources) -> _Part:
    row = _row(sources.rows, sources.policy.output)
    if row and row.interval and row.interval.high is not None:
        best = risk.output_deviation(max(row.interval.low or 0.0, 0.0)).value
        return _live(risk.output_deviation(max(row.interval.high, 0.0)), best, row)
    stated = sources.verification
    return _as_before(sources, Part.OUTPUT) or _stated(
        risk.output_deviation(stated.output_upper) if stated else _UNKNOWN
    )


def _row(rows: Iterable[ObjectiveStatus], name: str) -> ObjectiveStatus | None:
    return next((row for row in rows if row.name == name), None)


def _live(worst: Measured, best: Decimal | None, row: ObjectiveStatus) -> _Part:
    said = f"{worst.explanation}, {row.samples or 0:.0f} requests"
    return _Part(Measured(worst.value, said), best if best is not None else risk.ZERO, RiskSource.SHADOW)


def _as_before(sources: Sources, part: Part) -> _Part | None:
    known = next((each for each in sources.before.parts if each.name is part), None) if sources.before else None
    if known is None or known.source is not RiskSource.SHADOW:
        return None
    return _Part(Measured(risk.exact(known.value), known.explanation), risk.exact(known.best or 0.0), RiskSource.SHADOW)


def _stated(measured: Measured) -> _Part:
    """As the manifest states it. What is missing may still turn out to be nothing."""
    if measured.value is None:
        return _Part(measured, risk.ZERO, RiskSource.MISSING)
    return _Part(
        Measured(measured.value, f"{measured.explanation}, as the manifest states"), measured.value, RiskSource.MANIFEST
    )
