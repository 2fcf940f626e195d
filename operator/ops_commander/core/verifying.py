"""What a deployment waits for besides its objectives: tests before any traffic, and its files anew before each step."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from ops_commander.api.v1alpha1 import TestState, TestStatus
from ops_commander.core import candidate_tests
from ops_commander.core.changes import CHECK_AGAIN, Change, Occurrence, moved, waiting, with_step
from ops_commander.core.reverts import begin_rollback
from ops_commander.core.situation import SETTLE, Situation

GRACE = timedelta(minutes=1)
"""Time beyond a test's own for its Job to be made and to end."""


def awaiting_tests(situation: Situation, rule: str) -> Change | None:
    """No untested deployment: None once all tests have passed and what they said is kept."""
    step, snapshot = situation.step, situation.snapshot
    tests = candidate_tests.tests_of(snapshot)
    if step is None or not tests or step.reached_at is not None:
        return None
    revision = snapshot.status.candidate_revision
    if step.testing_since is None and revision and not situation.is_ready_behind("candidate", revision, 1):
        return waiting(situation, rule, "WaitingForPods", "the candidate Service has no ready pod to test yet")
    if step.testing_since is None:
        names = ", ".join(test.name for test in tests)
        status = with_step(snapshot.status, testing_since=situation.now)
        return moved(situation, rule, status, Occurrence("TestsStarted", f"{len(tests)} test(s): {names}"))
    if situation.now < step.testing_since + SETTLE:
        until = step.testing_since + SETTLE
        return waiting(situation, rule, "Settling", "the nodes learn of the new pods", until=until)
    rows = candidate_tests.rows(snapshot)
    failed = [row for row in rows if row.state is TestState.FAILED]
    if failed:
        message = "; ".join(f"test {row.name}: {row.message or 'failed'}" for row in failed)
        return begin_rollback(situation, rule, "TestFailed", message)
    until = step.testing_since + max(test.timeout for test in tests) + GRACE
    open_ = [row for row in rows if not _is_proved(row, keeps_logs=candidate_tests.keeps_logs(snapshot))]
    if not open_:
        return None
    said = f"{len(rows) - len(open_)} of {len(rows)} test(s) passed: {'; '.join(map(_described, open_))}"
    if situation.now >= until and not all(row.state is TestState.PASSED for row in open_):
        return begin_rollback(situation, rule, "TestsNotFinished", said)
    return waiting(situation, rule, "Testing", said, next_=f"traffic for {step.name}", until=until, every=CHECK_AGAIN)


def _is_proved(row: TestStatus, *, keeps_logs: bool) -> bool:
    return row.state is TestState.PASSED and (row.log is not None or not keeps_logs)


def _described(row: TestStatus) -> str:
    if row.state is TestState.PASSED:
        return f"{row.name} passed, its log is not in MLflow yet"
    since = f" since {row.started_at:%H:%M:%S}" if row.started_at else ""
    return f"{row.name} {row.state.lower()}{since}" + (f" ({row.message})" if row.message else "")


def awaiting_files(situation: Situation, rule: str) -> Change | None:
    """Before the next step the pinned files are read again: None once they were found unchanged."""
    step, verification = situation.step, situation.verification
    if step is None or verification is None or not verification.files or situation.snapshot.spec.preflight is None:
        return None
    message = f"{len(verification.files)} file(s) are read again"
    if step.leaving_since is None:
        change = waiting(situation, rule, "VerifyingArtifacts", message)
        return replace(change, status=with_step(change.status, leaving_since=situation.now))
    verified = situation.snapshot.verified
    if verified is None or verified.unchanged is None:
        error = f": {verified.error}" if verified and verified.error else ""
        return waiting(situation, rule, "VerifyingArtifacts", message + error, every=CHECK_AGAIN)
    if verified.unchanged:
        return None
    return begin_rollback(situation, rule, "ArtifactChanged", "; ".join(verified.problems))


def stays(situation: Situation, change: Change) -> Change:
    """A step that is not left after all: its files are read and its evidence is written anew the next time."""
    step = change.status.step
    if step is None or not (step.leaving_since or step.proved_at) or situation.step is None:
        return change
    return replace(change, status=with_step(change.status, leaving_since=None, proved_at=None))
