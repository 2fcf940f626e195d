"""Names, labels and annotations: one place, one name for each thing."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ops_commander.api.v1alpha1 import GROUP, ModelRolloutSpec, Preflight

FIELD_MANAGER = "ops-commander"
FINALIZER = f"{GROUP}/traffic"
ROLLOUT_LABEL = f"{GROUP}/rollout"
REVISION_LABEL = f"{GROUP}/revision"
MODEL_LABEL = f"{GROUP}/model"
MODEL_VERSION_LABEL = f"{GROUP}/model-version"
DEPLOYMENT_ID = f"{GROUP}/deployment-id"
RUN_ID = f"{GROUP}/run-id"
TARGET_PORT = f"{GROUP}/target-port"
TEST_OF = f"{GROUP}/test-of"
"""On pods of test Jobs: the rollout that they test. ROLLOUT_LABEL would make them pods of a revision."""
COMPARER_OF = f"{GROUP}/comparer-of"
"""On the comparer's objects: the rollout whose versions it compares."""
ABORT = f"{GROUP}/abort"
PROMOTE = f"{GROUP}/promote"
RETRY = f"{GROUP}/retry"
SHARD = f"{GROUP}/shard"
"""On a ModelRollout or an ActionPlan: which of several operators serves it. The chart's selectors ask for it."""
PARENT_RUN = f"{GROUP}/parent-run-id"
"""On a ModelRollout: the MLflow run that its deployments' runs belong under, as a plan's."""

_REVISION_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_REVISION_LENGTH = 10


def revision_of(spec: ModelRolloutSpec) -> str:
    """Hash of what makes a revision: pod template, the port it serves and the model. Safe in names and labels."""
    content: dict[str, Any] = {
        "template": spec.template,
        "targetPort": spec.service.target_port,
        "model": spec.model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"promoted_alias"}),
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    number = int.from_bytes(hashlib.sha256(canonical.encode()).digest(), "big")
    letters = []
    for _ in range(_REVISION_LENGTH):
        number, index = divmod(number, len(_REVISION_ALPHABET))
        letters.append(_REVISION_ALPHABET[index])
    return "".join(letters)


def asked_of(preflight: Preflight) -> str:
    """Digest of what decides about a version's files; its tests run later."""
    asked = preflight.model_dump(mode="json", include={"manifest", "manifest_sha256", "waiver"})
    content = json.dumps([asked, bool(preflight.tests)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def replica_set_name(rollout: str, revision: str) -> str:
    return f"{rollout}-{revision}"


def stable_service_name(rollout: str) -> str:
    return f"{rollout}-stable"


def candidate_service_name(rollout: str) -> str:
    return f"{rollout}-candidate"


def comparer_service_name(rollout: str) -> str:
    return f"{rollout}-compare"


def comparer_name(rollout: str, revision: str) -> str:
    """ReplicaSet of the comparer. The presets of `comparison/` tell the candidate from its pods' names."""
    return f"{rollout}-{revision}-compare"


def test_job_name(deployment: str, digest: str) -> str:
    """Job of a test, told apart by six characters of its digest: 63 in all, as a label may have."""
    return f"{deployment}-{digest}"


def deployment_id(rollout: str, revision: str, number: int) -> str:
    """Names one attempt; the number tells attempts with the same revision apart."""
    return f"{rollout}-{revision}-{number}"
