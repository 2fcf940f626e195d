"""All reports of a deployment or a plan as files: path → text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from ops_commander.api.action_plan import ActionPlan, ReportKind
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.core.plans import naming, progress
from ops_commander.core.reports.audit import audit_records, json_lines
from ops_commander.core.reports.execution import execution_report
from ops_commander.core.reports.incident import post_incident_report
from ops_commander.core.reports.innovation import innovation_report
from ops_commander.core.reports.plots import objectives_svg, weights_svg
from ops_commander.core.reports.provenance import AUDIT_PATH, FOLDER, Provenance
from ops_commander.core.reports.subject import Subject

EXECUTION_PATH: Final = f"{FOLDER}/execution_report.md"
INNOVATION_PATH: Final = f"{FOLDER}/innovation_report.md"
INCIDENT_PATH: Final = f"{FOLDER}/post_incident_report.md"
WEIGHTS_PATH: Final = f"{FOLDER}/weights.svg"
OBJECTIVES_PATH: Final = f"{FOLDER}/objectives.svg"
_OF_KIND: Final[Mapping[ReportKind, tuple[str, ...]]] = {
    ReportKind.EXECUTION: (EXECUTION_PATH, WEIGHTS_PATH, OBJECTIVES_PATH),
    ReportKind.INNOVATION: (INNOVATION_PATH,),
    ReportKind.PROGRESS: (),
}
PROGRESS_PATH: Final = f"{FOLDER}/{naming.PROGRESS_FILE}"


def deployment_files(
    rollout: ModelRollout,
    now: datetime,
    plan: ActionPlan | None = None,
    provenance: Provenance | None = None,
) -> dict[str, str]:
    """Reports of the latest deployment; that of an incident only where it was reverted."""
    provenance = provenance or Provenance()
    subject = Subject(rollout, now, plan, provenance)
    files = {
        EXECUTION_PATH: execution_report(subject),
        INNOVATION_PATH: innovation_report(subject),
        AUDIT_PATH: json_lines(audit_records(rollout, provenance)),
    }
    if subject.deployment:
        files[WEIGHTS_PATH] = weights_svg(subject)
        files[OBJECTIVES_PATH] = objectives_svg(subject)
    if subject.rollback:
        files[INCIDENT_PATH] = post_incident_report(subject)
    return files | (plan_files(plan, now) if plan else {})


def action_files(
    kinds: Collection[ReportKind], plan: ActionPlan, rollouts: Sequence[ModelRollout], now: datetime
) -> dict[str, str]:
    """What an action of kind report asks for: of each rollout its own, in a folder of its name where there are several.

    The plots belong to the execution report, which shows them.
    """
    files = plan_files(plan, now) if ReportKind.PROGRESS in kinds else {}
    for rollout in rollouts:
        folder = FOLDER if len(rollouts) == 1 else f"{FOLDER}/{rollout.metadata['name']}"
        made = deployment_files(rollout, now, plan)
        for path in (path for kind in kinds for path in _OF_KIND[kind] if path in made):
            files[f"{folder}/{path.removeprefix(f'{FOLDER}/')}"] = made[path]
    return files


def plan_files(plan: ActionPlan, now: datetime) -> dict[str, str]:
    """`execution_progress_update.md`."""
    name = str(plan.metadata.get("name", ""))
    return {PROGRESS_PATH: progress.markdown(name, plan.spec, plan.status, now)}
