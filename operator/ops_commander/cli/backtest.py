"""`ops-commander backtest`: what a policy would have decided, on a recording or on what Prometheus still has."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ops_commander.api.fields import format_time
from ops_commander.cli import record, recordings

if TYPE_CHECKING:
    from ops_commander.api.policy import RolloutPolicySpec
    from ops_commander.core.recordings.backtest import Backtest, StepFinding
    from ops_commander.core.recordings.player import Replayed
    from ops_commander.core.recordings.recording import Recording
    from ops_commander.runtime.recorder import Recorder

_OF_A_SPAN = ("candidate", "stable", "step")


class BadInput(Exception):
    """What was given cannot be used; the text says what was expected."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    recordings.let_times_begin_with_a_dash(parser)
    parser.add_argument("--policy", type=Path, required=True, help="file with a RolloutPolicy")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--recording", type=Path, help="file that `ops-commander record` has written")
    what.add_argument("--rollout", dest="name", help="name of a ModelRollout, whose metrics Prometheus has")
    parser.add_argument("-n", "--namespace", default=None, help="default: that of the kubeconfig's context")
    times = "such as 2026-01-05T09:00:00Z, -2h or now"
    parser.add_argument("--from", dest="start", help=f"evidence counts from here: {times} (default: all)")
    parser.add_argument("--to", dest="end", help=f"and to here: {times} (default: the end of the deployment)")
    parser.add_argument("--step", help="no deployment, but a split that was live: shadow, shadow:50, canary:5 or full")
    parser.add_argument("--candidate", default="", help="with --step: revision of the candidate")
    parser.add_argument("--stable", default="", help="with --step: revision that it is held against")
    recordings.add_prometheus_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, help="keep what was read of Prometheus as a recording")
    parser.add_argument("--all", action="store_true", help="every decision, not only those that say something new")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handle=lambda arguments: _backtest(parser, arguments))


@dataclass(frozen=True, slots=True)
class _Asked:
    """The arguments, read."""

    policy: RolloutPolicySpec
    start: datetime | None
    end: datetime | None
    now: datetime
    notes: tuple[str, ...] = ()


def _backtest(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """0 whatever the policy would have decided, 1 where nothing could be read, 2 for arguments that cannot be used."""
    from ops_commander.core.recordings.recording import RecordingProblem

    _check(parser, arguments)
    try:
        asked = _asked(arguments)
        if arguments.recording:
            return _play(arguments, asked, arguments.recording)
    except (BadInput, RecordingProblem) as error:
        return recordings.told("backtest", error, 2)
    except BrokenPipeError:
        return recordings.unread()
    return record.run("backtest", _read_and_play(arguments, asked))


def _check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends with exit code 2 where arguments do not belong together."""
    given = [name for name in _OF_A_SPAN if getattr(arguments, name)]
    if arguments.recording:
        if given:
            parser.error(f"--{given[0]} is given: expected none with --recording, which has its own steps")
        return
    recordings.check_prometheus(parser, arguments)
    if given and len(given) < len(_OF_A_SPAN):
        missing = next(name for name in _OF_A_SPAN if name not in given)
        parser.error(f"--{missing} is missing: expected --candidate, --stable and --step together")
    if given and not arguments.start:
        parser.error("--from is missing: expected when the split of --step was live")


def _asked(arguments: argparse.Namespace) -> _Asked:
    from ops_commander.runtime import clock

    now = clock.now()
    start, end = (_moment(flag, text, now) for flag, text in (("from", arguments.start), ("to", arguments.end)))
    if start and start >= (end or now):
        raise BadInput(f"--from is {format_time(start)}: expected a time before {format_time(end or now)}")
    return _Asked(_policy(arguments.policy), start, end, now)


def _moment(flag: str, text: str | None, now: datetime) -> datetime | None:
    try:
        return recordings.moment(text, now) if text else None
    except ValueError as error:
        raise BadInput(f"--{flag}: {error}") from None


def _policy(path: Path) -> RolloutPolicySpec:
    from ops_commander.runtime.recorder import policy_from

    try:
        found = [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if isinstance(item, dict)]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeError):
        raise BadInput(f"{path} is not YAML: expected a RolloutPolicy") from None
    policies = [item for item in found if item.get("kind") == "RolloutPolicy"]
    if len(policies) != 1:
        raise BadInput(f"{path} has {len(policies)} documents of kind RolloutPolicy: expected one")
    return policy_from(policies[0], str(path))


async def _read_and_play(arguments: argparse.Namespace, asked: _Asked) -> int:
    with recordings.prometheus_servers(arguments) as servers, tempfile.TemporaryDirectory() as folder:
        path = arguments.output or Path(folder) / "backtest.jsonl.gz"
        namespace, body = await _rollout(arguments)
        recorder, close = await record.recorder_for(arguments, servers, namespace)
        try:
            if body is None:
                recording, asked = await _span(arguments, asked, recorder, namespace)
            else:
                recording = await _deployment(asked, recorder, body)
            await record.write(path, recorder, recording)
        finally:
            await close()
        whole = _Asked(asked.policy, None, asked.end, asked.now, asked.notes)  # its ticks begin where asked
        return _play(arguments, whole, path)


async def _rollout(arguments: argparse.Namespace) -> tuple[str, dict[str, Any] | None]:
    """The namespace, and the ModelRollout where its deployment is wanted."""
    from ops_commander.adapters.kubernetes import current_namespace

    if arguments.step:
        return arguments.namespace or current_namespace(arguments.kubeconfig), None
    body, _ = await record.bodies(arguments)
    return body["metadata"]["namespace"], body


async def _deployment(asked: _Asked, recorder: Recorder, body: dict[str, Any]) -> Recording:
    """The rollout's latest deployment with the counters that the policy asks for, and a baseline of its own."""
    from ops_commander.core.recordings.backtest import clipped
    from ops_commander.runtime.recorder import owner, rollout_of

    recording, _ = await recorder.header(rollout_of(body), asked.policy, asked.now)
    deployment = recording.deployment
    stable = owner(recording.namespace, recording.name, deployment.stable_revision or "")
    window = asked.policy.baseline_window
    baseline = await recorder.baseline(asked.policy.objectives, stable, window, deployment.started_at)
    changed = deployment.model_copy(update={"baseline": baseline})
    recording = recording.model_copy(update={"deployment": changed})
    return clipped(recording, asked.start) if asked.start and asked.start > deployment.started_at else recording


async def _span(
    arguments: argparse.Namespace, asked: _Asked, recorder: Recorder, namespace: str
) -> tuple[Recording, _Asked]:
    """A split that was live for some time, as a deployment of one step."""
    from ops_commander.core.recordings.backtest import Span, step_of
    from ops_commander.core.recordings.recording import RecordingProblem
    from ops_commander.runtime.recorder import owner

    try:
        step = step_of(arguments.step)
    except ValueError as error:
        raise RecordingProblem(f"--step: {error}") from None
    assert asked.start is not None
    left_out = [item.name for item in asked.policy.objectives if item.run]
    policy = asked.policy.model_copy(update={"objectives": [item for item in asked.policy.objectives if not item.run]})
    stable = owner(namespace, arguments.name, arguments.stable)
    span = Span(
        name=arguments.name,
        namespace=namespace,
        candidate=arguments.candidate,
        stable=arguments.stable,
        step=step,
        start=asked.start,
        end=asked.end or asked.now,
        policy=policy,
        interval=arguments.interval,
        stale_after=recordings.stale_after(arguments),
        source=recorder.source.name,
        baseline=await recorder.baseline(policy.objectives, stable, policy.baseline_window, asked.start),
    )
    notes = tuple(f"objective {name} reads an MLflow run, and a span has none: left out" for name in left_out)
    return span.recording, _Asked(policy, asked.start, asked.end, asked.now, notes)


def _play(arguments: argparse.Namespace, asked: _Asked, path: Path) -> int:
    """Raises RecordingProblem."""
    from ops_commander.adapters import recordings as files
    from ops_commander.core.recordings.backtest import Backtest, clipped

    with files.read(path) as (whole, ticks):
        is_cut = asked.start is not None and asked.start > whole.deployment.started_at
        recording = clipped(whole, asked.start) if is_cut and asked.start else whole
        backtest = Backtest(recording, ticks, asked.policy, until=asked.end)
        backtest.notes += asked.notes
        found = backtest.run(every=arguments.all)
        if arguments.json:
            document = _document(recording, backtest, found)
            recordings.exhaust(ticks)
            recordings.print_json(document)
        else:
            _print(recording, backtest, found)
            recordings.exhaust(ticks)
    return 0


def _document(recording: Recording, backtest: Backtest, found: Iterator[Replayed]) -> dict[str, Any]:
    decisions = [recordings.decision_body(item) for item in found]
    return {
        "deployment": recording.deployment.id,
        "finding": backtest.finding,
        "steps": [_step(step) for step in backtest.steps],
        "notes": backtest.notes,
        "decisions": decisions,
    }


def _step(step: StepFinding) -> dict[str, Any]:
    return {
        "step": step.step,
        "finding": step.finding,
        "since": format_time(step.since),
        "at": format_time(step.at) if step.at else None,
        "seconds": round((step.at - step.since).total_seconds(), 3) if step.at else None,
        "tick": format_time(step.tick) if step.tick else None,
        "reason": step.reason,
        "message": step.message,
        "objectives": recordings.row_bodies(step.rows),
    }


def _print(recording: Recording, backtest: Backtest, found: Iterator[Replayed]) -> None:
    print(f"{recording.namespace}/{recording.deployment.id} under another policy")
    print(recordings.columns(recordings.HEADING))
    for item in found:
        for line in recordings.decision_lines(item):
            print(line)
    print()
    rows = [("STEP", "SINCE", "FINDING", "AT", "AFTER", "WHY")]
    rows += [
        (
            step.step,
            recordings.clock(step.since),
            step.finding.value,
            recordings.clock(step.at),
            _after(step),
            f"{step.reason}: {step.message}",
        )
        for step in backtest.steps
    ]
    for line in recordings.table(rows):
        print(line)
    for note in backtest.notes:
        print(f"note: {note}")
    decisive = next((step for step in backtest.steps if step.finding == backtest.finding), None)
    where = (
        f" in {decisive.step} at {recordings.clock(decisive.at)}" if decisive and decisive.finding != "Passed" else ""
    )
    print(f"verdict: {recordings.coloured(backtest.finding.value, backtest.finding.value)}{where}")


def _after(step: StepFinding) -> str:
    length = step.at - step.since if step.at else timedelta(0)
    return f"{length.total_seconds():.1f}s"
