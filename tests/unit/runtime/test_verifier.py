"""The process that verifies: whatever it does, it ends, leaves nothing behind, and counts only if it answers well."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops_commander.api.risk import Verdict
from ops_commander.api.verification import VerificationStatus, VerifiedFile
from ops_commander.integration.verification_request import RequestedModel, VerificationRequest
from ops_commander.runtime.verifications import NotVerifiedNow
from ops_commander.runtime.verifier import Verifier

REQUEST = VerificationRequest(
    mlflow_url="http://mlflow:5000",
    model=RequestedModel(name="ranker", version="7", run_id="run_1"),
    revision="abc",
)
FILE = VerifiedFile(path="model.bin", sha256="a" * 64, size=3)
STATUS = VerificationStatus(
    revision="abc",
    verdict=Verdict.SAFE,
    reason="Verified",
    message="all of it",
    model_version="7",
    run_id="run_1",
    manifest_sha256="b" * 64,
    files=[FILE],
    checked_at=datetime(2026, 3, 1, tzinfo=UTC),
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where work folders are made; each test must leave it empty."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def verifier(code: str, at_once: int = 2, seconds: float = 30) -> Verifier:
    """One whose process is this program."""
    return Verifier(at_once=at_once, timeout=timedelta(seconds=seconds), command=(sys.executable, "-c", code))


async def test_the_request_goes_in_and_the_answer_comes_out(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"import sys, pathlib; pathlib.Path({str(seen)!r}).write_text(sys.stdin.read())\n"
    code += f"print({STATUS.model_dump_json(by_alias=True)!r})"

    assert await verifier(code).verify(REQUEST) == STATUS
    assert VerificationRequest.model_validate_json(seen.read_text()) == REQUEST


async def test_files_are_asked_about_anew(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"import sys, pathlib; pathlib.Path({str(seen)!r}).write_text(sys.stdin.read())\n"
    answers = {
        '{"unchanged": true, "problems": []}': [],
        '{"unchanged": false, "problems": ["model.bin is gone"]}': ["model.bin is gone"],
    }
    for answer, expected in answers.items():
        assert await verifier(f"{code}print({answer!r})").recheck(REQUEST, [FILE]) == expected
    assert VerificationRequest.model_validate_json(seen.read_text()).recheck == [FILE]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('MLflow is away')", "ended with exit code 1: MLflow is away"),
        ("import sys; print('away', file=sys.stderr); sys.exit(3)", "cannot be verified now: away"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL: it said nothing"),
        ("print('{}')", "answers no VerificationStatus"),
        ("print('nothing to see')", "answers no VerificationStatus"),
        ("pass", "answers no VerificationStatus"),
        ("import sys; sys.stdout.write('x' * 5_000_000)", "answers more than 4194304 bytes"),
        ("import sys; sys.stderr.write('x' * 5_000_000 + 'the end'); sys.exit(1)", "the end"),
        ("import os; os.close(0); print('{}')", "answers no VerificationStatus"),
    ],
)
async def test_a_process_that_fails_is_no_verdict(code: str, said: str) -> None:
    with pytest.raises(NotVerifiedNow) as error:
        await verifier(code).verify(REQUEST)

    assert said in str(error.value)
    assert len(str(error.value)) < 3000


async def test_a_contradiction_is_no_answer() -> None:
    with pytest.raises(NotVerifiedNow, match="contradicts itself"):
        await verifier("""print('{"unchanged": false, "problems": []}')""").recheck(REQUEST, [FILE])


async def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(NotVerifiedNow, match=r"does not start: .*no-such-program"):
        await Verifier(command=("no-such-program",)).verify(REQUEST)


FORKS = """
import os, pathlib, sys, time
child = os.fork()
if child:
    pathlib.Path(os.environ["TMPDIR"], "left").write_text("behind")
    pathlib.Path({mark!r}).write_text(f"{{os.getpid()}} {{child}}")
time.sleep(600)
"""


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def _written(mark: Path) -> list[int]:
    await asyncio.to_thread(_until, lambda: mark.exists() and bool(mark.read_text()))
    return [int(number) for number in mark.read_text().split()]  # noqa: ASYNC240 - a few bytes


def _runs(process: int) -> bool:
    """Not as a zombie, which has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


async def _have_ended(processes: list[int]) -> None:
    await asyncio.to_thread(_until, lambda: not any(map(_runs, processes)))


async def test_when_time_is_up_all_that_it_started_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    with pytest.raises(NotVerifiedNow, match="took more than 3 s and was stopped"):
        await verifier(FORKS.format(mark=str(mark)), seconds=3).verify(REQUEST)

    await _have_ended(await _written(mark))


async def test_one_who_does_not_wait_any_more_ends_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    task = asyncio.create_task(verifier(FORKS.format(mark=str(mark))).verify(REQUEST))
    processes = await _written(mark)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await _have_ended(processes)


def _numbers(folder: Path, pattern: str) -> list[int]:
    return [int(path.read_text()) for path in folder.glob(pattern)]


async def test_only_so_many_run_at_once(tmp_path: Path) -> None:
    code = f"""
import os, pathlib
folder = pathlib.Path({str(tmp_path)!r})
here = folder / f"running-{{os.getpid()}}"
here.touch()
others = len(list(folder.glob("running-*")))
import time; time.sleep(0.2)
here.unlink()
(folder / f"most-{{os.getpid()}}").write_text(str(others))
print({STATUS.model_dump_json(by_alias=True)!r})
"""
    limited = verifier(code, at_once=2)

    assert await asyncio.gather(*(limited.verify(REQUEST) for _ in range(6))) == [STATUS] * 6

    most = _numbers(tmp_path, "most-*")
    assert len(most) == 6
    assert max(most) <= 2


async def test_it_is_told_no_secrets_of_the_operator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_PASSWORD", "secret")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    seen = tmp_path / "seen"
    code = f"import os, pathlib; pathlib.Path({str(seen)!r}).write_text(' '.join(os.environ))\n"

    await verifier(f"{code}print({STATUS.model_dump_json(by_alias=True)!r})").verify(REQUEST)

    names = set(seen.read_text().split())
    assert {"PATH", "TMPDIR"} <= names
    assert not names & {"PROMETHEUS_PASSWORD", "KUBERNETES_SERVICE_HOST"}


async def test_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    mark = tmp_path / "go"
    code = f"import pathlib, time\nwhile not pathlib.Path({str(mark)!r}).exists(): time.sleep(0.01)\n"
    task = asyncio.create_task(verifier(f"{code}print({STATUS.model_dump_json(by_alias=True)!r})").verify(REQUEST))

    await asyncio.to_thread(mark.touch)

    assert await task == STATUS
