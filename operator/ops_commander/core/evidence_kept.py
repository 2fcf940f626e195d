"""A deployment's evidence in its status: what was written is noted, and what is not waits in the outbox."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ops_commander.api.evidence import AliasState, AliasStatus, EvidenceRule, EvidenceStatus, OutboxEntry
from ops_commander.api.v1alpha1 import ModelRollout, ModelRolloutStatus, Outcome
from ops_commander.core.changes import CHECK_AGAIN, Change, Occurrence, waiting, with_deployment, with_step
from ops_commander.core.evidence_wanted import AliasWanted, landmark, record_of, rollout_of
from ops_commander.core.situation import Situation
from ops_commander.core.snapshot import Snapshot

OUTBOX_LIMIT = 5
"""Deployments that may wait for MLflow: with each there are some 100 kB of status."""
REASON = "WritingEvidence"


# --- What is to be written ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A deployment of which MLflow does not have all, as far as status knows."""

    deployment_id: str
    known: EvidenceStatus | None
    entry: OutboxEntry | None = None
    """None while it is under way: then the rollout itself tells."""


def unwritten(snapshot: Snapshot) -> list[Unwritten]:
    """What has ended, oldest first, then the deployment under way."""
    status = snapshot.status
    found = [Unwritten(entry.deployment_id, entry.evidence, entry) for entry in status.outbox]
    deployment = status.deployment
    if deployment is not None and deployment.outcome is None:
        found.append(Unwritten(deployment.id, deployment.evidence))
    return found


def alias_of(snapshot: Snapshot, ended: ModelRollout) -> AliasWanted | None:
    """Where the alias is to point after a deployment has ended; None where it is to be left alone.

    It is moved away from versions that this rollout has served or tried, and from no other.
    """
    deployment, alias = ended.status.deployment, snapshot.spec.model.promoted_alias
    if deployment is None or alias is None or deployment.model is None:
        return None
    if deployment.outcome is Outcome.COMPLETED and snapshot.status.stable_revision == deployment.revision:
        own = {entry.model_version for entry in snapshot.status.history} | {deployment.stable_version or ""}
        return AliasWanted(deployment.model, alias, deployment.model_version, frozenset(own - {""}))
    stable, tried = deployment.stable_version, deployment.model_version
    if deployment.outcome is Outcome.ROLLED_BACK and stable and stable != tried:
        return AliasWanted(deployment.model, alias, stable, frozenset({tried}), restores=True)
    return None


# --- What was written ---------------------------------------------------------------------------------------


def noted(snapshot: Snapshot, status: ModelRolloutStatus) -> tuple[ModelRolloutStatus, tuple[Occurrence, ...]]:
    """Status with what this process has written since, and what is worth telling of it."""
    seen: list[Occurrence] = []
    for identity, evidence in snapshot.written.items():
        known = _known(status, identity)
        if known is None or known == evidence:
            continue
        seen += _told(identity, known, evidence)
        status = _with_evidence(status, identity, evidence)
    return status, tuple(seen)


def _known(status: ModelRolloutStatus, identity: str) -> EvidenceStatus | None:
    """What status has of a deployment that something is still to be written of; None for any other."""
    for entry in status.outbox:
        if entry.deployment_id == identity:
            return entry.evidence
    deployment = status.deployment
    if deployment is None or deployment.id != identity or deployment.outcome is not None:
        return None
    return deployment.evidence or EvidenceStatus()


def _with_evidence(status: ModelRolloutStatus, identity: str, evidence: EvidenceStatus) -> ModelRolloutStatus:
    outbox = [
        entry.model_copy(update={"evidence": evidence}) if entry.deployment_id == identity else entry
        for entry in status.outbox
        if entry.deployment_id != identity or not evidence.is_complete
    ]
    history = [
        entry.model_copy(update={"deploy_run_id": evidence.run_id})
        if entry.deployment_id == identity and evidence.is_complete
        else entry
        for entry in status.history
    ]
    status = status.model_copy(update={"outbox": outbox, "history": history})
    if status.deployment is None or status.deployment.id != identity:
        return status
    run_id = evidence.run_id or status.deployment.deploy_run_id
    return with_deployment(status, evidence=evidence, deploy_run_id=run_id)


def _told(identity: str, known: EvidenceStatus, evidence: EvidenceStatus) -> list[Occurrence]:
    told = []
    if evidence.error and not known.error:
        told.append(Occurrence("EvidenceDelayed", f"{identity}: {evidence.error}", warning=True))
    if evidence.is_complete and not known.is_complete:
        files = f"{len(evidence.files)} file(s)"
        told.append(Occurrence("EvidenceKept", f"{identity}: {files} in MLflow run {evidence.run_id}"))
    if evidence.alias and evidence.alias != known.alias:
        told.append(_of_alias(identity, evidence.alias))
    return told


def _of_alias(identity: str, alias: AliasStatus) -> Occurrence:
    is_bad = alias.state in (AliasState.KEPT, AliasState.REFUSED)
    return Occurrence(f"Alias{alias.state}", f"{identity}: {alias.message}", warning=is_bad)


# --- What waits ---------------------------------------------------------------------------------------------


def is_required(situation: Situation) -> bool:
    """Whether promotions wait for evidence: the policy asks for it and there is an MLflow."""
    policy = situation.snapshot.policy
    has_mlflow = bool(situation.snapshot.installation.mlflow_url)
    return policy is not None and policy.evidence is EvidenceRule.REQUIRED and has_mlflow


def awaiting_evidence(situation: Situation, rule: str) -> Change | None:
    """Before the promotion: None once what was judged last is in MLflow, or where nothing asks for that."""
    step, deployment = situation.step, situation.deployment
    if step is None or deployment is None or not situation.is_last_step or not is_required(situation):
        return None
    status, evidence = situation.snapshot.status, deployment.evidence
    if step.proved_at is None:
        change = waiting(situation, rule, REASON, "evidence is written to MLflow", next_="promotion")
        return replace(change, status=with_step(change.status, proved_at=situation.now))
    if evidence is not None and evidence.landmark == landmark(status):
        return None
    message = "evidence is written to MLflow before the promotion"
    if evidence and evidence.error:
        message += f": {evidence.error}"
    return waiting(situation, rule, REASON, message, next_="promotion", every=CHECK_AGAIN)


def is_blocked(situation: Situation) -> bool:
    """Whether no deployment may start because too many wait for MLflow."""
    return is_required(situation) and len(situation.snapshot.status.outbox) >= OUTBOX_LIMIT


def with_outbox(situation: Situation, status: ModelRolloutStatus) -> tuple[ModelRolloutStatus, tuple[Occurrence, ...]]:
    """A deployment that this decision has ended is put into the outbox as it is now."""
    before = situation.deployment
    if before is None or not situation.snapshot.installation.mlflow_url:
        return status, ()
    ended = status.deployment
    if ended is None or ended.id != before.id or ended.outcome is None or ended.ended_at is None:
        return status, ()
    entry = OutboxEntry(
        deployment_id=ended.id,
        ended_at=ended.ended_at,
        evidence=ended.evidence or EvidenceStatus(),
        rollout=_frozen(situation, status),
    )
    outbox = [*status.outbox, entry]
    lost = tuple(
        Occurrence(
            "EvidenceLost", f"{item.deployment_id}: MLflow was away for {OUTBOX_LIMIT} deployments", warning=True
        )
        for item in outbox[:-OUTBOX_LIMIT]
    )
    return status.model_copy(update={"outbox": outbox[-OUTBOX_LIMIT:]}), lost


def _frozen(situation: Situation, status: ModelRolloutStatus) -> dict[str, object]:
    """As it was at the end: what is said of risk, files and votes may be about the next version by now."""
    before = situation.snapshot.status
    about = {name: getattr(before, name) for name in ("verification", "risk", "quorum", "votes", "verdict")}
    whole = rollout_of(situation.snapshot).model_copy(update={"status": status.model_copy(update=about)})
    return record_of(whole).model_dump(mode="json", by_alias=True, exclude_none=True)
