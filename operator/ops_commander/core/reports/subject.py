"""What a report is about: one rollout, its latest deployment, and what in its status belongs to that deployment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final

from ops_commander.api.action_plan import ActionPlan
from ops_commander.api.ballot import QuorumStatus, VoteStatus
from ops_commander.api.conditions import Condition, ConditionType
from ops_commander.api.v1alpha1 import (
    DeploymentStatus,
    ModelRollout,
    ModelRolloutStatus,
    ObjectiveStatus,
    Outcome,
    RiskSource,
    RiskStatus,
    Role,
    RollbackStatus,
    StepState,
    Verdict,
)
from ops_commander.api.verification import VerificationStatus
from ops_commander.core import names
from ops_commander.core.objectives import NO_EVIDENCE
from ops_commander.core.reports.provenance import GRAFANA_RUN_ID, STATUS_PATH, Origin, Provenance

RISK_QUERY: Final = "composite risk"
_BOUND: Final = re.compile(r"([<≥]) (-?[0-9]+(?:[.][0-9]+)?(?:e[-+]?[0-9]+)?)")
_NUMBERED: Final = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Bound:
    """The target of an objective, read from its text."""

    is_upper: bool
    """Whether less is better."""
    value: float


@dataclass(frozen=True)
class Subject:
    """All questions that reports ask of a rollout."""

    rollout: ModelRollout
    now: datetime
    plan: ActionPlan | None = None
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def name(self) -> str:
        return str(self.rollout.metadata.get("name", ""))

    @property
    def namespace(self) -> str:
        return str(self.rollout.metadata.get("namespace", ""))

    @property
    def status(self) -> ModelRolloutStatus:
        return self.rollout.status

    @property
    def deployment(self) -> DeploymentStatus | None:
        return self.status.deployment

    @property
    def outcome(self) -> Outcome | None:
        return self.deployment.outcome if self.deployment else None

    @property
    def is_under_way(self) -> bool:
        return self.deployment is not None and self.deployment.outcome is None

    @cached_property
    def revision(self) -> str:
        """The candidate's; without a deployment that which spec asks for."""
        return self.deployment.revision if self.deployment else names.revision_of(self.rollout.spec)

    @property
    def model_version(self) -> str:
        return self.deployment.model_version if self.deployment else self.rollout.spec.model.label

    # --- What belongs to this deployment ----------------------------------------------------------------

    @property
    def rollback(self) -> RollbackStatus | None:
        found = self.status.rollback
        return found if found and self.deployment and found.deployment_id == self.deployment.id else None

    @property
    def verification(self) -> VerificationStatus | None:
        found = self.status.verification
        return found if found and found.revision == self.revision else None

    @property
    def risk(self) -> RiskStatus | None:
        """Status has that of the version which spec asks for; it is left out where this is another one."""
        found, deployment, wanted = self.status.verification, self.deployment, self.rollout.spec.model
        if found and found.revision != self.revision:
            return None
        was_superseded = deployment is not None and deployment.outcome is Outcome.SUPERSEDED
        is_other = deployment is not None and wanted.version not in (None, deployment.model_version)
        return None if is_other and not was_superseded else self.status.risk

    @property
    def quorum(self) -> QuorumStatus | None:
        found = self.status.quorum
        return found if found and self.deployment and found.deployment_id == self.deployment.id else None

    @property
    def votes(self) -> list[VoteStatus]:
        return self.status.votes if self.quorum else []

    @cached_property
    def rows(self) -> list[ObjectiveStatus]:
        """Objectives judged for this deployment, by SLO; those that only earlier steps judged too."""
        earlier = self.deployment.earlier_objectives if self.deployment else []
        return sorted((row for row in (*earlier, *self.status.objectives) if self._is_mine(row)), key=_place)

    def _is_mine(self, row: ObjectiveStatus) -> bool:
        deployment, run = self.deployment, run_of(row)
        if deployment is None:
            return run is not None
        if run and deployment.run_id:
            return run.run_id == deployment.run_id
        return row.last_tick is None or row.last_tick >= deployment.started_at

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((item for item in self.status.conditions if item.type == kind), None)

    # --- Provenance -------------------------------------------------------------------------------------

    @cached_property
    def deploy_run_id(self) -> str | None:
        """MLflow run of the deployment itself."""
        deployment = self.deployment
        evidence = deployment.evidence if deployment else None
        known = (deployment.deploy_run_id if deployment else None) or (evidence.run_id if evidence else None)
        return self.provenance.deploy_run_id or known

    @cached_property
    def grafana_run_id(self) -> str | None:
        annotations = self.rollout.metadata.get("annotations") or {}
        return self.provenance.grafana_run_id or annotations.get(GRAFANA_RUN_ID) or None

    @cached_property
    def origin(self) -> Origin | None:
        """Of what stands in status."""
        return Origin(self.deploy_run_id, STATUS_PATH) if self.deploy_run_id else None

    def origin_of(self, row: ObjectiveStatus) -> Origin | None:
        """Of an objective: the run that it was read from, or the deployment's for live metrics."""
        if is_of_run(row):
            return run_of(row)
        if row.query == RISK_QUERY:
            return self.risk_origin
        path = self.provenance.series_paths.get(row.name, STATUS_PATH)
        return Origin(self.deploy_run_id, path) if self.deploy_run_id else None

    @cached_property
    def risk_origin(self) -> Origin | None:
        """What shadow traffic has not touched is proved by the verified files alone."""
        if self.origin or self.risk is None:
            return self.origin
        is_of_files = all(part.source in (RiskSource.VERIFICATION, RiskSource.MANIFEST) for part in self.risk.parts)
        return self.files_origin if is_of_files else None

    @cached_property
    def files_origin(self) -> Origin | None:
        """Of what was found of the candidate's files."""
        found = self.verification
        if found is None:
            return None
        if found.evidence:
            return Origin(found.evidence[0].run_id, found.evidence[0].path)
        path = self.rollout.spec.preflight.manifest if self.rollout.spec.preflight else "candidate_manifest.yaml"
        return Origin(found.run_id, path) if found.run_id else None

    # --- Judgements -------------------------------------------------------------------------------------

    @cached_property
    def breached(self) -> list[ObjectiveStatus]:
        return [row for row in self.rows if row.verdict is Verdict.FAIL and row.role is not Role.ADVISORY]

    @cached_property
    def unseen(self) -> list[ObjectiveStatus]:
        """Objectives that may revert and of which nothing is known."""
        return [row for row in self.rows if row.reason in NO_EVIDENCE and row.role is not Role.ADVISORY]

    @property
    def is_in_production(self) -> bool:
        """Whether the candidate answers live requests, or did until the end."""
        if self.outcome is not None:
            return self.outcome is Outcome.COMPLETED
        return self.status.weight > 0 or (
            self.status.step is not None and self.status.step.state in (StepState.SWITCHING, StepState.RETURNING)
        )


def is_of_run(row: ObjectiveStatus) -> bool:
    """Whether an MLflow run answers it: such a row has no ticks, and says which run."""
    run = row.message.rpartition(" @ ")[2]
    return row.last_tick is None and bool(row.source) and str(row.source).startswith(f"{run}/")


def run_of(row: ObjectiveStatus) -> Origin | None:
    """The run and the artifact of an objective that a run answers."""
    if not is_of_run(row):
        return None
    run_id, _, path = str(row.source).partition("/")
    return Origin(run_id, path) if run_id and path and run_id != "no run" else None


def bound_of(row: ObjectiveStatus) -> Bound | None:
    """Which side of what is good; None where the text does not say."""
    found = _BOUND.search(row.target)
    return Bound(found[1] == "<", float(found[2])) if found else None


def _place(row: ObjectiveStatus) -> tuple[bool, list[tuple[int, str]], str]:
    """S2 before S10, those without an id last."""
    parts = _NUMBERED.split(row.slo or "")
    return row.slo is None, [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], row.name
