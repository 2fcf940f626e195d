"""`ops-commander replay`: the decisions of a recorded deployment once more, and whether they are the same."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops_commander.cli import recordings

if TYPE_CHECKING:
    from ops_commander.core.recordings.player import Replayed
    from ops_commander.core.recordings.recording import Recording
    from ops_commander.core.recordings.replay import Replay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", type=Path, help="file that `ops-commander record` has written")
    parser.add_argument("--all", action="store_true", help="every decision, not only those that say something new")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.set_defaults(handle=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    """0 where all decisions and numbers are as recorded, 1 where not, 2 where the file cannot be used."""
    from ops_commander.adapters import recordings as files
    from ops_commander.core.recordings.recording import RecordingProblem
    from ops_commander.core.recordings.replay import Replay

    try:
        with files.read(arguments.recording) as (recording, ticks):
            replay = Replay(recording, ticks)
            found = replay.run(every=arguments.all)
            if arguments.json:
                document = _document(recording, replay, found)
                recordings.exhaust(ticks)
                recordings.print_json(document)
            else:
                _print(recording, replay, found)
                recordings.exhaust(ticks)
    except RecordingProblem as error:
        return recordings.told("replay", error, 2)
    except BrokenPipeError:
        return recordings.unread()
    return 1 if replay.differences else 0


def _document(recording: Recording, replay: Replay, found: Iterator[Replayed]) -> dict[str, Any]:
    decisions = [recordings.decision_body(item) for item in found]
    deployment = recording.deployment
    return {
        "deployment": deployment.id,
        "outcome": replay.outcome,
        "reproduced": not replay.differences,
        "differences": replay.differences,
        "notes": replay.notes,
        "objectives": recordings.row_bodies(replay.status.objectives),
        "decisions": decisions,
    }


def _print(recording: Recording, replay: Replay, found: Iterator[Replayed]) -> None:
    deployment = recording.deployment
    versions = f"model version {deployment.model_version} against {deployment.stable_version or '?'}"
    print(f"{recording.namespace}/{deployment.id}: {versions}")
    print(recordings.columns(recordings.HEADING))
    for item in found:
        for line in recordings.decision_lines(item):
            print(line)
    for note in replay.notes:
        print(f"note: {note}")
    if replay.differences:
        print(recordings.coloured("not reproduced:", "Fail"))
        for difference in replay.differences:
            print(f"  {difference}")
        return
    outcome = f"{deployment.outcome} ({deployment.reason})" if deployment.outcome else "under way"
    print(f"{recordings.coloured('reproduced:', 'Pass')} {outcome}, the same transitions on the same ticks")
