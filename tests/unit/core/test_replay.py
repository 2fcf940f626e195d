"""Stories of the simulated cluster, recorded and decided once more."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ops_commander.api.v1alpha1 import Outcome, StepState, Transition
from ops_commander.core import names
from ops_commander.core.journal import MOST_TRANSITIONS
from ops_commander.core.recordings.player import Replayed
from ops_commander.core.recordings.recording import Recording, RecordingProblem, Tick, decoded
from ops_commander.core.recordings.replay import Replay, replay
from tests.unit.recorded import Recorded, at, lines, trying
from tests.unit.world import canary, full, rollout, shadow


def good() -> Recorded:
    return trying(rollout()).ended()


def errors() -> Recorded:
    return trying(rollout(), errors=0.05).ended()


def slow() -> Recorded:
    return trying(rollout(), latency=0.9).ended()


def bad_later() -> Recorded:
    world = at(rollout(), "full")
    world.run(11)
    world.health["2"].errors = 0.05
    return world.ended()


def near_the_target() -> Recorded:
    return trying(rollout(), errors=0.0098).ended()


def never_ready() -> Recorded:
    return trying(rollout(), ready_after=None).ended()


def router_away() -> Recorded:
    world = at(rollout(), "canary 5%", StepState.PREPARING)
    world.set_gateway(up=False)
    world.after(70, lambda: world.set_gateway(up=True))
    return world.ended()


def killed() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.kill()
    return world.ended()


def held() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.metrics_up = False
    world.run(35)
    world.metrics_up = True
    return world.ended()


def held_twice() -> Recorded:
    world = at(rollout().steps(canary(5, most="300s"), full()), "canary 5%")
    for _ in range(2):
        world.run(10)
        world.series_exist = False
        world.run(35)
        world.series_exist = True
        world.run(5)
    return world.ended()


def blind_to_the_deadline() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.metrics_up = False
    return world.ended()


def paused() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.edit(paused=True)
    world.run(120)
    world.edit(paused=False)
    return world.ended()


def aborted() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.annotate(names.ABORT, world.deployment.id)
    return world.ended()


def promoted() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.annotate(names.PROMOTE, world.deployment.id)
    return world.ended()


def restarted() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    next(world.pods_of("2")).restarts += 1
    world.wake()
    return world.ended()


def lost() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    for pod in world.pods_of("2"):
        world.set_ready(pod, ready=False)
    return world.ended()


def drifted() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.edit_route(lambda spec: spec["rules"][0]["backendRefs"][1].update(weight=50))
    return world.ended()


def retried() -> Recorded:
    world = errors()
    world.health["2"].errors = 0.0
    world.annotate(names.RETRY, world.deployment.id)
    world.until(lambda: world.outcome is None)
    return world.ended()


def under_way() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(17)
    return world


def held_under_way() -> Recorded:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.metrics_up = False
    world.run(60)
    return world


def preparing() -> Recorded:
    return at(rollout(), "canary 5%", StepState.PREPARING)


STORIES = [
    (good, "Completed", "AllStepsPassed"),
    (errors, "RolledBack", "ObjectiveBreached"),
    (slow, "RolledBack", "ObjectiveBreached"),
    (bad_later, "RolledBack", "ObjectiveBreached"),
    (near_the_target, "RolledBack", "DeadlineInconclusive"),
    (never_ready, "RolledBack", "ProgressDeadlineExceeded"),
    (router_away, "RolledBack", "ProgressDeadlineExceeded"),
    (killed, "Completed", "AllStepsPassed"),
    (held, "Completed", "AllStepsPassed"),
    (held_twice, "Completed", "AllStepsPassed"),
    (blind_to_the_deadline, "RolledBack", "DeadlineInconclusive"),
    (paused, "Completed", "AllStepsPassed"),
    (aborted, "RolledBack", "Aborted"),
    (promoted, "Completed", "AllStepsPassed"),
    (restarted, "RolledBack", "CandidateRestarted"),
    (lost, "RolledBack", "CapacityLost"),
    (drifted, "Completed", "AllStepsPassed"),
    (retried, "Completed", "AllStepsPassed"),
    (under_way, None, None),
    (held_under_way, None, None),
    (preparing, None, None),
]


def played(world: Recorded) -> tuple[Replay, list[Replayed]]:
    """The replay of a world's recording, through its file."""
    replay_ = Replay(*decoded(world.lines(), "test"))
    return replay_, list(replay_.run())


def bare(journal: list[Transition]) -> list[Transition]:
    """A replay knows of no restart that made no difference."""
    return [entry.model_copy(update={"observing_since": None}) for entry in journal]


@pytest.mark.parametrize(("story", "outcome", "reason"), STORIES, ids=[item[0].__name__ for item in STORIES])
def test_a_story_is_decided_the_same_way_once_more(
    story: Callable[[], Recorded], outcome: str | None, reason: str | None
) -> None:
    world = story()
    assert (world.outcome, world.deployment.reason) == (outcome, reason)

    again, decisions = played(world)

    assert (again.differences, again.notes) == ([], [])
    made = again.status.deployment
    assert made is not None
    assert (made.outcome, made.reason) == (outcome, reason)
    assert bare(made.transitions) == bare(world.deployment.transitions)
    if outcome is not None:
        numbers = [row.model_copy(update={"message": "", "source": None}) for row in again.status.objectives]
        assert numbers == [row.model_copy(update={"message": "", "source": None}) for row in world.status.objectives]
    assert [item.transition for item in decisions if item.transition] == made.transitions


@pytest.mark.parametrize("write", range(2, 40, 3))
def test_an_operator_killed_before_any_write_is_replayed(write: int) -> None:
    world = trying(rollout())
    world.run(0.1)
    world.dies_before_write = write
    world.ended()

    again, _ = played(world)

    assert again.differences == []


def test_a_step_that_is_left_late_is_told_and_no_difference() -> None:
    world = at(rollout(), "canary 5%")
    world.run(10)
    world.kill(down_for=20.2)
    world.ended()

    again, _ = played(world)

    assert again.differences == []
    [note] = again.notes
    assert "could be decided on the tick" in note and "had heard of it only by" in note


def test_decisions_are_told_with_their_numbers_and_the_recorded_revision() -> None:
    world = errors()

    decisions = list(replay(*decoded(world.lines(), "test")))

    assert decisions[0].message.startswith(f"{world.deployment.id}: model version 2")
    [breach] = [item for item in decisions if item.rule == "objective_breached"]
    assert breach.rows == [row.model_copy(update={"source": None}) for row in world.status.objectives]
    assert (breach.step, breach.weight, breach.tick) == ("shadow", 0, world.status.objectives[0].last_tick)
    assert decisions[-1].outcome is Outcome.ROLLED_BACK


def test_every_decision_can_be_had() -> None:
    world = errors()

    few = list(replay(*decoded(world.lines(), "test")))
    all_ = list(replay(*decoded(world.lines(), "test"), every=True))

    assert len(all_) > len(few)
    assert [item.transition for item in all_ if item.transition] == [item.transition for item in few if item.transition]


# --- What is not reproduced is told ---------------------------------------------------------------------


def changed(world: Recorded, change: Callable[[dict[str, Any]], None]) -> list[str]:
    """The file with another header."""
    header, *rest = world.lines()
    body = json.loads(header)
    change(body)
    return [json.dumps(body) + "\n", *rest]


def differences(file: list[str]) -> str:
    found = Replay(*decoded(file, "test"))
    list(found.run())
    return "\n".join(found.differences)


def test_another_policy_than_that_of_the_time_is_told() -> None:
    file = changed(good(), lambda body: body["policy"]["objectives"][0].update(max=0.0001))

    assert "recorded: running → Preparing in step 2" in differences(file)


def test_counters_that_were_tampered_with_are_told() -> None:
    header, *ticks, end = errors().lines()
    bodies = [json.loads(line) for line in ticks]
    series = [item for body in bodies for item in body.get("series", [])]
    [number] = [place for place, item in enumerate(series) if (item["query"], item["arm"]) == (0, "candidate")]
    for body in bodies:
        body["values"] = [[place, 3.0] if place == number else [place, value] for place, value in body["values"]]

    said = differences([header, *(json.dumps(body) + "\n" for body in bodies), end])

    assert "recorded: objective_breached → Reverting in step 1; the replay stays: running: Dwelling" in said


def rows(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda body: body["objectives"][0].update(fields)


def breach(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda body: body["deployment"]["transitions"][4].update(fields)


def much_later(body: dict[str, Any]) -> None:
    breach(at="2026-01-05T09:02:50Z")(body)
    body["deployment"]["transitions"][5].update(at="2026-01-05T09:02:56Z")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rows(samples=1.0), "objective error-rate: samples is 5000.0, recorded: 1.0"),
        (rows(name="gone"), "objective gone: not judged, recorded: Fail (Breached)"),
        (
            lambda body: body["deployment"].update(reason="Aborted"),
            "outcome is RolledBack (ObjectiveBreached), recorded: RolledBack (Aborted)",
        ),
        (
            lambda body: body["rollback"].update(objective="other"),
            "rollback.objective is 'error-rate', recorded: 'other'",
        ),
        (breach(rule="overdue"), "the replay decides objective_breached → Reverting in step 1"),
        (breach(tick="2026-01-05T09:01:20Z"), "on the tick 09:01:30.000, recorded: 09:01:20.000"),
        (breach(state="Held", rule="blind"), "recorded: blind → Held in step 1"),
        (much_later, "recorded: objective_breached → Reverting in step 1 at 09:02:50.000"),
    ],
)
def test_what_differs_is_told(change: Callable[[dict[str, Any]], None], said: str) -> None:
    assert said in differences(changed(errors(), change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body["deployment"].update(transitions=[]), "deployment.transitions is empty"),
        (lambda body: body["deployment"]["transitions"].pop(0), "transitions begins with 'clearing'"),
        (lambda body: body["deployment"]["transitions"].reverse(), "transitions begins with 'shifting'"),
        (lambda body: body["deployment"]["transitions"][3].update(rule="replanned"), "spec.steps was edited under way"),
        (
            lambda body: body["deployment"]["transitions"][2].update(at="2026-01-05T08:00:00Z"),
            "transitions is out of order at 2026-01-05T08:00:00.000Z",
        ),
        (lambda body: body["deployment"].pop("stableRevision"), "deployment.stableRevision is missing"),
    ],
)
def test_a_header_that_a_replay_cannot_use(change: Callable[[dict[str, Any]], None], said: str) -> None:
    with pytest.raises(RecordingProblem) as problem:
        differences(changed(at(rollout(), "canary 5%"), change))

    assert said in str(problem.value)


def test_ticks_that_begin_too_late_are_told() -> None:
    world = good()
    header, *ticks, _ = world.lines()

    with pytest.raises(RecordingProblem, match=r"ticks begin at 2026-01-05T09:01:35.000Z: expected them"):
        differences([header, *without_series(ticks[17:]), json.dumps({"kind": "End", "ticks": len(ticks) - 17})])


def without_series(ticks: list[str]) -> list[str]:
    return [json.dumps({"at": json.loads(line)["at"]}) + "\n" for line in ticks]


def test_a_recording_without_traffic_needs_no_ticks() -> None:
    header, *_ = never_ready().lines()

    assert differences([header, '{"kind":"End","ticks":0}\n']) == ""


def test_a_long_recording_is_held_in_bounded_memory() -> None:
    world = at(rollout().steps(shadow(least="400s", most="500s"), full()), "shadow")
    world.ended()
    replay_ = Replay(*decoded(world.lines(), "test"))

    most = max(len(replay_.listener._recent) for _ in replay_.run(every=True))

    assert most <= timedelta(seconds=60 + 25) // timedelta(seconds=5)


def test_the_journal_keeps_the_latest_transitions() -> None:
    world = at(rollout().steps(shadow(most="3600s"), full()), "shadow")

    for _ in range(MOST_TRANSITIONS // 2):
        world.edit(paused=True)
        world.run(0.2)
        world.edit(paused=False)
        world.run(0.2)

    assert len(world.deployment.transitions) == MOST_TRANSITIONS
    assert world.deployment.transitions[-1].state is StepState.RUNNING
    with pytest.raises(RecordingProblem, match="its beginning was dropped"):
        differences(list(lines(world.recording(), world.ticks())))


def test_types_are_what_they_say() -> None:
    recording, ticks = decoded(good().lines(), "test")
    assert isinstance(recording, Recording)
    assert all(isinstance(tick, Tick) for tick in ticks)
