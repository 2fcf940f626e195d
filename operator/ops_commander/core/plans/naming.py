"""Names that bind objects to an action of a plan."""

from __future__ import annotations

from typing import Final

from ops_commander.api.v1alpha1 import GROUP

FIELD_MANAGER: Final = "ops-commander-plans"
"""Of what a plan writes into a ModelRollout: its own, so that everybody sees which fields a plan has set."""
PLAN_LABEL: Final = f"{GROUP}/plan"
ACTION_LABEL: Final = f"{GROUP}/plan-action"
BY_PLAN: Final = f"{GROUP}/by-plan"
"""Annotation of a ModelRollout: name of the plan that brought its version."""
BY_ACTION: Final = f"{GROUP}/by-action"
"""Annotation of a ModelRollout: uid of the plan and id of the action that brought its version."""
OWN_STEPS: Final = f"{GROUP}/own-steps"
"""Annotation of a ModelRollout that is held in a step: its steps without the hold, and those with it."""
RUN_TAG: Final = f"{GROUP}/plan-action"
"""Tag of an MLflow run, by which it is found again after a restart."""
ARTIFACT_TAG: Final = f"{GROUP}/artifact"
SHA256_TAG: Final = f"{GROUP}/sha256"
EXPERIMENT: Final = "ops-commander"
"""MLflow experiment of runs whose action names none."""
PROGRESS_FILE: Final = "execution_progress_update.md"


def object_name(plan: str, action: str) -> str:
    """The same after every restart: the API server itself refuses to make it twice."""
    return f"{plan}-{action.lower()}"


def marker(uid: str, action: str = "") -> str:
    """Names an action among all plans that there ever were; without one, the plan itself."""
    return f"{uid}/{action}"
