"""FINAL VERDICT and the closing line. A clause that is not true says what is missing instead."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ops_commander.api.risk import Verdict as RiskVerdict
from ops_commander.api.v1alpha1 import Outcome, RiskSource, Role, StepState, Verdict
from ops_commander.core.reports.compatibility import is_rejected
from ops_commander.core.reports.gates import gates, rollback
from ops_commander.core.reports.markup import code, plain
from ops_commander.core.reports.provenance import quoted
from ops_commander.core.reports.subject import Subject


class FinalVerdict(StrEnum):
    GO = "GO"
    SHADOW_ONLY = "SHADOW ONLY"
    PAUSE_AND_FIX = "PAUSE_AND_FIX"
    REJECT = "REJECT"


_STOPPED: Final = (StepState.HELD, StepState.PAUSED, StepState.REVERTING)
_BREACHED: Final = "ObjectiveBreached"


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of the closing line."""

    true: str
    missing: str | None
    """What is to be said instead; None where it is true."""

    @property
    def text(self) -> str:
        return self.missing or self.true


def verdict(subject: Subject) -> FinalVerdict:
    """What may happen to this candidate. Anything that speaks against it comes first."""
    if is_rejected(subject) or (subject.rollback and subject.rollback.reason == _BREACHED):
        return FinalVerdict.REJECT
    if subject.outcome is Outcome.COMPLETED:
        return FinalVerdict.GO
    if not subject.is_under_way or subject.breached or subject.unseen or _is_stopped(subject):
        return FinalVerdict.PAUSE_AND_FIX
    if subject.risk and subject.risk.verdict is RiskVerdict.SHADOW_ONLY:
        return FinalVerdict.SHADOW_ONLY
    is_let_go = subject.quorum is not None and subject.quorum.reached_at is not None
    if subject.is_in_production or (is_let_go and subject.status.verdict is Verdict.PASS):
        return FinalVerdict.GO
    return FinalVerdict.SHADOW_ONLY


def _is_stopped(subject: Subject) -> bool:
    step = subject.status.step
    return step is not None and step.state in _STOPPED


def clauses(subject: Subject) -> list[Clause]:
    """The four claims of the closing line."""
    return [
        Clause("all production metrics verified through MLflow and Grafana evidence", _metrics(subject)),
        Clause("integration risk assessed", _risk(subject)),
        Clause("team consensus achieved", _consensus(subject)),
        Clause("rollback ready", _rollback(subject)),
    ]


def closing_line(subject: Subject) -> str:
    said = ", ".join(clause.text for clause in clauses(subject))
    return f"**Ops Commander Final Verdict:** {verdict(subject)} — {said}."


def _metrics(subject: Subject) -> str | None:
    what = "production metrics not verified"
    rows = [row for row in subject.rows if row.role is not Role.ADVISORY]
    if not rows:
        return f"{what} (no objective was judged)"
    lacks = []
    without = [row.name for row in rows if subject.origin_of(row) is None]
    if without:
        lacks.append(f"no MLflow run for {_few(without)}")
    unknown = [row.name for row in rows if row.verdict is not Verdict.PASS and subject.origin_of(row)]
    if unknown:
        lacks.append(f"not passed: {_few(unknown)}")
    if not subject.grafana_run_id:
        lacks.append("no Grafana run")
    return f"{what} ({'; '.join(lacks)})" if lacks else None


def _risk(subject: Subject) -> str | None:
    what, risk = "integration risk not assessed", subject.risk
    if risk is None:
        return f"{what} (nothing asks for the composite risk)"
    missing = [part.name for part in risk.parts if part.source is RiskSource.MISSING]
    if missing:
        return f"{what} (not measured: {', '.join(missing)})"
    return f"{what} (no run proves it)" if subject.risk_origin is None else None


def _consensus(subject: Subject) -> str | None:
    what, quorum = "team consensus not achieved", subject.quorum
    if quorum is None:
        return f"{what} (no votes were asked for)"
    if quorum.reached_at:
        return None
    absent = [row.agent for row in subject.votes if row.vote is None]
    return f"{what} ({f'missing: {_few(absent)}' if absent else 'too few GO votes'})"


def _rollback(subject: Subject) -> str | None:
    gate = rollback(subject)
    return None if gate.passed else f"rollback not ready ({plain(gate.observed)})"


def _few(names: list[str]) -> str:
    shown = ", ".join(plain(name, 80) for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


# --- The section --------------------------------------------------------------------------------------


def lines(subject: Subject) -> list[str]:
    return [
        f"- **Deployment status:** {_state(subject)}",
        f"- **Justification:** {_why(subject)}",
        f"- **Next actions:** {_next(subject)}",
        f"- **Risk mitigation:** {_mitigation(subject)}",
        f"- **Evidence summary:** {_evidence(subject)}",
    ]


def _state(subject: Subject) -> str:
    deployment, status = subject.deployment, subject.status
    if deployment is None:
        return f"{status.phase}: no deployment has started"
    if deployment.outcome:
        return f"{deployment.outcome} ({plain(deployment.reason or 'no reason')})"
    return f"{status.phase}, step {plain(status.step_name or 'none')}"


def _why(subject: Subject) -> str:
    if subject.rollback:
        return f"{plain(subject.rollback.reason)}: {plain(quoted(subject.rollback.message, subject.origin))}"
    failed = [gate.name for gate in gates(subject) if gate.passed is False]
    passed = sum(row.verdict is Verdict.PASS for row in subject.rows)
    said = f"{passed} of {len(subject.rows)} objectives pass" if subject.origin else "objectives as in the SLO table"
    said = f"{said} @ {subject.origin.mark}" if subject.origin else said
    return f"{said}; gates failed: {', '.join(plain(name) for name in failed) or 'none'}"


def _next(subject: Subject) -> str:
    if subject.outcome is Outcome.COMPLETED:
        return "none for this version: it is the stable one"
    if subject.outcome is Outcome.ROLLED_BACK:
        return "correct the cause named in `reports/post_incident_report.md`, then ship another version or retry"
    if subject.outcome is Outcome.SUPERSEDED:
        return "none: spec asks for another revision"
    if is_rejected(subject):
        return "correct what verification rejects, then ship another version"
    return plain(quoted(subject.status.next, subject.origin)) if subject.status.next else "none is due"


def _mitigation(subject: Subject) -> str:
    gate = rollback(subject)
    ready = "rollback is ready" if gate.passed else "rollback is not ready"
    policy = "a breach reverts traffic and pods without a vote" if subject.is_under_way else "no traffic is shifted now"
    return f"{ready} ({plain(gate.observed)}); {policy}"


def _evidence(subject: Subject) -> str:
    deployment = subject.deployment
    run = code(subject.deploy_run_id) if subject.deploy_run_id else "none"
    model_run = deployment.run_id if deployment else None
    return (
        f"MLflow run {run}; deployment {code(deployment.id) if deployment else 'none'};"
        f" model run {code(model_run) if model_run else 'none'};"
        f" Grafana run {code(subject.grafana_run_id) if subject.grafana_run_id else 'none'}"
    )
