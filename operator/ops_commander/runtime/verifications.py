"""Which files are to be verified, by a process of their own, and what came of it. No reconcile waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from ops_commander.api.risk import Verdict
from ops_commander.api.v1alpha1 import Preflight
from ops_commander.api.verification import VerificationStatus, VerifiedFile
from ops_commander.core import comparers, names
from ops_commander.core.snapshot import Snapshot, Verified
from ops_commander.integration.verification_request import RequestedModel, VerificationRequest
from ops_commander.runtime.workqueue import Key

log = logging.getLogger(__name__)

AGAIN = timedelta(seconds=15)
REJECTED_AGAIN = timedelta(minutes=5)
"""A rejected version is looked at anew: its files may have been mended in place."""
MOST_REMEMBERED = 1000


class NotVerifiedNow(Exception):
    """It could not be done now; the text says why."""


class FileVerifier(Protocol):
    """Verifies in a process of its own. Both raise NotVerifiedNow."""

    async def verify(self, request: VerificationRequest) -> VerificationStatus: ...

    async def recheck(self, request: VerificationRequest, files: list[VerifiedFile]) -> list[str]: ...


Question = tuple[str, ...]


@dataclass
class Verifications:
    """Questions under way and their answers, by rollout and by what they are about."""

    verifier: FileVerifier | None
    clock: Callable[[], datetime]
    wake: Callable[[Key], None]
    _answers: dict[Question, Verified] = field(default_factory=dict)
    _tasks: dict[Question, asyncio.Task[None]] = field(default_factory=dict)
    _not_before: dict[Question, datetime] = field(default_factory=dict)

    def of(self, key: Key, snapshot: Snapshot) -> Verified | None:
        """What is known of the question that the rollout has now, which is begun if it is due."""
        if self.verifier is None or snapshot.spec.preflight is None or snapshot.deleted_at is not None:
            return None
        question = self._question(snapshot, snapshot.spec.preflight)
        if question is None:
            return None
        answer = self._answers.get(question)
        is_due = self.clock() >= self._not_before.get(question, self.clock())
        if question not in self._tasks and (answer is None or answer.error) and is_due:
            self._tasks[question] = asyncio.create_task(self._ask(self.verifier, key, question, snapshot))
        return answer or Verified()

    def _question(self, snapshot: Snapshot, preflight: Preflight) -> Question | None:
        status, revision = snapshot.status, names.revision_of(snapshot.spec)
        deployment = status.deployment
        if status.step is not None and deployment is not None:
            leaving = status.step.leaving_since
            return ("files", snapshot.uid, deployment.id, leaving.isoformat()) if leaving else None
        if revision == status.stable_revision:
            return None
        asked = names.asked_of(preflight)
        found = status.verification
        if found and (found.revision, found.asked) == (revision, asked):
            if found.verdict is not Verdict.REJECT or self.clock() < found.checked_at + REJECTED_AGAIN:
                return None
            return ("verify", snapshot.uid, revision, asked, found.checked_at.isoformat())
        return ("verify", snapshot.uid, revision, asked)

    async def _ask(self, verifier: FileVerifier, key: Key, question: Question, snapshot: Snapshot) -> None:
        try:
            answer = await self._answer(verifier, question, snapshot)
        except NotVerifiedNow as error:
            log.warning("files not verified, again in %.0fs: %s", AGAIN.total_seconds(), error)
            self._not_before[question] = self.clock() + AGAIN
            answer = Verified(error=str(error))
        finally:
            del self._tasks[question]
        if len(self._answers) > MOST_REMEMBERED:
            self._answers.clear()
            self._not_before.clear()
        self._answers[question] = answer
        self.wake(key)

    async def _answer(self, verifier: FileVerifier, question: Question, snapshot: Snapshot) -> Verified:
        preflight = snapshot.spec.preflight
        assert preflight is not None
        request = request_of(snapshot, preflight, snapshot.installation.mlflow_url)
        if question[0] == "verify":
            found = await verifier.verify(request)
            return Verified(found=found.model_copy(update={"asked": names.asked_of(preflight)}))
        known = snapshot.status.verification
        assert known is not None
        problems = await verifier.recheck(request, known.files)
        return Verified(unchanged=not problems, problems=tuple(problems))


def request_of(snapshot: Snapshot, preflight: Preflight, mlflow_url: str) -> VerificationRequest:
    """What the verifying process is told. The baseline are the stable version's own files, not the candidate's."""
    model, known = snapshot.spec.model, snapshot.status.verification
    under_way = snapshot.status.step is not None and known is not None
    version = known.model_version if under_way and known else model.version
    return VerificationRequest(
        mlflow_url=mlflow_url,
        model=RequestedModel(
            name=model.name,
            version=version,
            alias=None if version else model.alias,
            run_id=known.run_id if under_way and known else model.run_id,
        ),
        manifest=preflight.manifest,
        manifest_sha256=preflight.manifest_sha256,
        stable_run_id=snapshot.status.stable_run_id,
        revision=names.revision_of(snapshot.spec),
        waiver=preflight.waiver,
        tests_elsewhere=bool(preflight.tests),
        evidence_path=comparers.evidence_path(f"{snapshot.name}-{names.revision_of(snapshot.spec)}"),
    )
