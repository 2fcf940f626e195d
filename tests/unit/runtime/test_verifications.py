"""Which files are verified when, and that nobody waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from ops_commander.adapters.kubernetes import ApiError
from ops_commander.adapters.mlflow_artifacts import ArtifactError
from ops_commander.api.risk import Verdict
from ops_commander.api.v1alpha1 import TestState
from ops_commander.api.verification import VerificationStatus, VerifiedFile
from ops_commander.core.snapshot import Installation, JobView, Snapshot
from ops_commander.integration.verification_request import VerificationRequest
from ops_commander.runtime.job_logs import AGAIN as LOG_AGAIN
from ops_commander.runtime.job_logs import JobLogs
from ops_commander.runtime.verifications import AGAIN, REJECTED_AGAIN, NotVerifiedNow, Verifications
from ops_commander.runtime.workqueue import Key
from tests.unit.world import START, World, rollout

KEY: Key = ("shop", "ranker")
FILE = VerifiedFile(path="model.onnx", sha256="cd" * 32, size=10)


def found(world: World, verdict: Verdict = Verdict.SAFE) -> VerificationStatus:
    return VerificationStatus(
        revision=world.revision("2"),
        verdict=verdict,
        reason="Verified",
        message="verified",
        model_version="2",
        run_id="run-2",
        manifest_sha256="ab" * 32,
        files=[FILE],
        checked_at=world.now,
    )


@dataclass
class Process:
    """Stands where the verifying process does; tests of the real one are in test_verifier."""

    answers: list[VerificationStatus | list[str] | NotVerifiedNow]
    asked: list[VerificationRequest] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def _answer(self, request: VerificationRequest) -> Any:
        self.asked.append(request)
        await self.release.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, NotVerifiedNow):
            raise answer
        return answer

    async def verify(self, request: VerificationRequest) -> VerificationStatus:
        answer = await self._answer(request)
        assert isinstance(answer, VerificationStatus)
        return answer

    async def recheck(self, request: VerificationRequest, files: list[VerifiedFile]) -> list[str]:
        assert files == [FILE]
        answer = await self._answer(request)
        assert isinstance(answer, list)
        return answer


@dataclass
class Bench:
    process: Process
    now: datetime = START
    woken: asyncio.Queue[Key] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.verifications = Verifications(self.process, lambda: self.now, self.woken.put_nowait)

    async def answered(self) -> None:
        self.process.release.set()
        await asyncio.wait_for(self.woken.get(), 5)


def wanting() -> World:
    """Version 1 serves; version 2 is asked for, and nothing of it was verified."""
    world = rollout().live()
    world.edit(preflight={"manifest": "m.yaml", "waiver": {"version": "2", "reason": "callers have moved"}})
    world.want_version("2")
    return world


def seen(world: World, **fields: Any) -> Snapshot:
    return replace(world.snapshot(), installation=Installation(mlflow_url="http://mlflow"), **fields)


async def test_a_new_version_is_verified_once_and_the_rollout_is_woken() -> None:
    world = wanting()
    bench = Bench(Process([found(world)]))

    for _ in range(3):
        answer = bench.verifications.of(KEY, seen(world))
        assert answer is not None and answer.found is None
        await asyncio.sleep(0)
    await bench.answered()

    answer = bench.verifications.of(KEY, seen(world))
    assert answer is not None and answer.found is not None and answer.found.asked
    (request,) = bench.process.asked
    assert (request.mlflow_url, request.manifest, request.model.version) == ("http://mlflow", "m.yaml", "2")
    assert request.waiver is not None and not request.tests_elsewhere


async def test_what_could_not_be_done_is_tried_again_later() -> None:
    world = wanting()
    bench = Bench(Process([NotVerifiedNow("MLflow is away"), found(world)]))
    bench.verifications.of(KEY, seen(world))
    await bench.answered()

    answer = bench.verifications.of(KEY, seen(world))
    assert answer is not None and answer.error == "MLflow is away"
    assert len(bench.process.asked) == 1
    bench.now += AGAIN
    bench.verifications.of(KEY, seen(world))
    await bench.answered()
    answer = bench.verifications.of(KEY, seen(world))
    assert answer is not None and answer.found is not None


async def test_what_status_holds_is_not_verified_again_unless_it_was_rejected_long_ago() -> None:
    world = wanting()
    bench = Bench(Process([found(world), found(world)]))
    bench.verifications.of(KEY, seen(world))
    await bench.answered()
    answer = bench.verifications.of(KEY, seen(world))
    assert answer is not None and answer.found is not None

    def kept(verdict: Verdict) -> Snapshot:
        assert answer is not None and answer.found is not None
        verification = answer.found.model_copy(update={"verdict": verdict})
        return replace(seen(world), status=world.status.model_copy(update={"verification": verification}))

    assert bench.verifications.of(KEY, kept(Verdict.SAFE)) is None
    assert bench.verifications.of(KEY, kept(Verdict.REJECT)) is None
    bench.now = world.now + REJECTED_AGAIN
    assert bench.verifications.of(KEY, kept(Verdict.SAFE)) is None
    assert bench.verifications.of(KEY, kept(Verdict.REJECT)) is not None
    await bench.answered()
    assert len(bench.process.asked) == 2


@pytest.mark.parametrize("problems", [[], ["model.onnx: sha256 is 12: expected cd"]])
async def test_a_step_about_to_be_left_has_its_files_read_again(problems: list[str]) -> None:
    world = rollout().at("shadow")
    world.edit(preflight={"manifest": "m.yaml"})
    assert world.status.step is not None
    status = world.status.model_copy(update={"verification": found(world)})
    bench = Bench(Process([problems]))

    assert bench.verifications.of(KEY, replace(seen(world), status=status)) is None
    leaving = status.model_copy(update={"step": world.status.step.model_copy(update={"leaving_since": world.now})})
    bench.verifications.of(KEY, replace(seen(world), status=leaving))
    await bench.answered()

    answer = bench.verifications.of(KEY, replace(seen(world), status=leaving))
    assert answer is not None
    assert (answer.unchanged, answer.problems) == (not problems, tuple(problems))
    (request,) = bench.process.asked
    assert (request.model.version, request.model.run_id) == ("2", "run-2")


async def test_nothing_is_asked_where_nothing_is_to_be_verified() -> None:
    world = rollout().live()
    bench = Bench(Process([]))

    assert bench.verifications.of(KEY, seen(world)) is None
    world.want_version("2")
    assert bench.verifications.of(KEY, seen(world)) is None


# --- Logs of tests ------------------------------------------------------------------------------------------


@dataclass
class Store:
    """Takes logs, or does not."""

    failures: list[Exception] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    async def test_log(self, namespace: str, job: str) -> str:
        return f"{namespace}/{job} says hello\n"

    async def upload(self, run_id: str, path: str, data: bytes) -> str:
        if self.failures:
            raise self.failures.pop()
        self.files[f"{run_id}/{path}"] = data
        return "sha"


@pytest.mark.parametrize("failure", [None, ArtifactError("MLflow is away"), ApiError(500, "no log")])
async def test_the_log_of_a_test_is_kept_once(failure: Exception | None) -> None:
    store = Store([failure] if failure else [])
    woken: asyncio.Queue[Key] = asyncio.Queue()
    now = [START]
    logs = JobLogs(store, store, lambda: now[0], woken.put_nowait)
    jobs = {
        "ranker-abc-1-f00": JobView("ranker-abc-1-f00", TestState.PASSED, ended_at=START),
        "ranker-abc-1-f01": JobView("ranker-abc-1-f01", TestState.RUNNING),
    }

    def with_logs() -> dict[str, JobView]:
        return logs.with_logs(KEY, jobs, "ops-commander/ranker-abc-1", "run-2")

    with_logs()
    if failure:
        await asyncio.gather(*logs._tasks.values())
        assert woken.empty()
        with_logs()
        assert not logs._tasks
        now[0] += LOG_AGAIN + timedelta(seconds=1)
        with_logs()
    await asyncio.wait_for(woken.get(), 5)
    kept = with_logs()

    assert kept["ranker-abc-1-f01"].log is None
    log = kept["ranker-abc-1-f00"].log
    assert log is not None and log.run_id == "run-2"
    assert store.files == {f"run-2/{log.path}": b"shop/ranker-abc-1-f00 says hello\n"}
    assert log.path == "ops-commander/ranker-abc-1/ranker-abc-1-f00/integration_run.log"
