"""Backtest: what a policy would have decided on metrics of the past.

The cluster does what it did: a step's traffic begins and ends when it was recorded to, whatever the policy would have
said. A step that the policy would have left earlier waits for the next one's traffic. One that it would not have left
by then is told as undecided, and the next one is judged by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from ops_commander.api.fields import format_time
from ops_commander.api.policy import Objective, RolloutPolicySpec
from ops_commander.api.v1alpha1 import (
    BaselineStatus,
    DeploymentStatus,
    ModelReference,
    ModelRolloutSpec,
    ObjectiveStatus,
    Step,
    StepKind,
    StepState,
    StepStatus,
    Transition,
    Verdict,
)
from ops_commander.core import names
from ops_commander.core.objectives import overall
from ops_commander.core.recordings.player import MOST_AT_ONCE, Decided, Player, Replayed
from ops_commander.core.recordings.recording import Recording, RecordingProblem, Tick
from ops_commander.core.recordings.stage import HEARD_AFTER, Facts
from ops_commander.core.situation import SETTLE

START_TAKES = timedelta(seconds=5)
"""From the start of a deployment to its first split, where none is recorded."""

_LAST_STEP = timedelta(minutes=1)


class Finding(StrEnum):
    """What the policy says of a step."""

    PASSED = "Passed"
    ROLLED_BACK = "RolledBack"
    UNDECIDED = "Undecided"


@dataclass(frozen=True, slots=True)
class StepFinding:
    """One step under the policy."""

    index: int
    step: str
    since: datetime
    """From when its evidence counts."""
    finding: Finding = Finding.UNDECIDED
    at: datetime | None = None
    """When it was decided; the end of its evidence where it was not."""
    tick: datetime | None = None
    reason: str = ""
    message: str = ""
    rows: Sequence[ObjectiveStatus] = ()


@dataclass(frozen=True, slots=True)
class _Live:
    """From a moment on the split of a step was live, or none was."""

    at: datetime
    step: int | None


class Backtest(Player):
    """A recording played under a policy; `steps` are there at the end."""

    def __init__(
        self,
        recording: Recording,
        ticks: Iterable[Tick],
        policy: RolloutPolicySpec,
        *,
        until: datetime | None = None,
    ) -> None:
        needed(recording, policy)
        fitting, lacking = _fitting_baselines(recording, policy)
        deployment = recording.deployment.model_copy(update={"baseline": fitting})
        super().__init__(recording.model_copy(update={"deployment": deployment}), ticks, policy)
        self.steps: list[StepFinding] = []
        self.notes += [f"no baseline for {name}: φ is taken as 1, and a drift cannot be measured" for name in lacking]
        self._timeline = _timeline(self.journal)
        self._end = min(self._evidence_ends(), until or recording.recorded_at)
        self._now = self.journal[0].at
        self._last: Replayed | None = None

    @property
    def finding(self) -> Finding:
        """Of all steps together: a revert if one reverts, a pass if all pass."""
        found = {step.finding for step in self.steps} or {Finding.UNDECIDED}
        if Finding.ROLLED_BACK in found:
            return Finding.ROLLED_BACK
        return Finding.UNDECIDED if Finding.UNDECIDED in found else Finding.PASSED

    def run(self, *, every: bool = False) -> Iterator[Replayed]:
        """All that the policy would have decided, up to a revert or the end of the evidence."""
        self.stage.observing_since = self.journal[0].observing_since
        moment: datetime | None = self._now
        while moment is not None and moment <= self._end and not self._is_done:
            self._now = moment
            self.listener.pass_until(moment - HEARD_AFTER)
            yield from self._decide(moment, every)
            moment = min(self._moments(), default=None)
        if self.steps and self.steps[-1].at is None and self._last:
            self.steps[-1] = replace(self.steps[-1], at=min(self._now, self._end), rows=self._last.rows)

    @property
    def _is_done(self) -> bool:
        """A revert is under way, the deployment has ended, or the next step was never there."""
        if self.is_over or self.state is StepState.REVERTING:
            return True
        step = self.status.step
        return step is not None and step.state is StepState.PREPARING and self._shifted_at(step.index) is None

    def _evidence_ends(self) -> datetime:
        """When the recorded candidate lost its traffic for good, or took it all."""
        deployment = self.recording.deployment
        reverted = [entry.at for entry in self.journal if entry.state is StepState.REVERTING]
        return min([*reverted, deployment.ended_at or self.recording.recorded_at])

    # --- What happens when ------------------------------------------------------------------------------

    def hear(self, now: datetime) -> None:
        self.listener.hear(lambda _: now)

    def _live(self, now: datetime) -> int | None:
        """The step whose split was live."""
        return next((item.step for item in reversed(self._timeline) if item.at <= now), None)

    def _shifted_at(self, step: int) -> datetime | None:
        found = [item.at for item in self.journal if item.step == step and item.state is StepState.SHIFTING]
        return found[0] if found else None

    def _left_at(self, step: int) -> datetime | None:
        found = [item.at for item in self.journal if item.step == step + 1]
        return found[0] if found else None

    def _facts(self, now: datetime, *, forced: bool = False) -> Facts:
        step = self.status.step
        if step is None:
            return Facts()
        shifted_at, live = self._shifted_at(step.index), self._live(now)
        is_held = step.state is StepState.RUNNING and live is None and self._is_held(now)
        return Facts(
            ready=step.state is not StepState.PREPARING or (shifted_at is not None and now >= shifted_at - SETTLE),
            observed=step.state is not StepState.SHIFTING or live == step.index,
            drifted=is_held and not self._is_left(now),
            annotations={names.PROMOTE: f"{self.stage.deployment_id}/{step.index}"} if forced else {},
        )

    def _is_left(self, now: datetime) -> bool:
        """Whether the recorded deployment has left the step that is running here."""
        step = self.status.step
        left_at = self._left_at(step.index) if step and step.state is StepState.RUNNING else None
        return left_at is not None and now >= left_at

    def _is_held(self, now: datetime) -> bool:
        states = [entry.state for entry in self.journal if entry.at <= now]
        return bool(states) and states[-1] in (StepState.HELD, StepState.PREPARING, StepState.SHIFTING)

    def _moments(self) -> Iterator[datetime]:
        if self.wake:
            yield max(self.wake, self._now)
        if self.listener.due:
            yield self.listener.due
        for entry in self.journal:
            for moment in (entry.at - SETTLE, entry.at):
                if moment > self._now:
                    yield moment

    # --- The play ----------------------------------------------------------------------------------------

    def _decide(self, moment: datetime, every: bool) -> Iterator[Replayed]:
        for _ in range(MOST_AT_ONCE):
            found = self.decided(moment, self._facts(moment))
            forced = found.transition is None and self._is_left(moment)
            if forced:
                found = self.decided(moment, self._facts(moment, forced=True))
            replayed = self.carried_out(found)
            if forced:
                told = "the recorded deployment left the step here"
                replayed = replace(replayed, rule="recorded", reason="StepEnded", message=told)
            self._last = replayed
            self._note(replayed, found, forced)
            if self.is_news(replayed) or every:
                yield replayed
            if self._is_done or self.wake is None or self.wake > moment:
                return
        raise AssertionError(f"loops without time passing: {found.decision.rule} {found.decision.message}")

    def _note(self, replayed: Replayed, found: Decided, forced: bool) -> None:
        """Keep what was found of the step under way."""
        made, step = replayed.transition, found.snapshot.status.step
        if made is None or step is None:
            if self.steps and self.steps[-1].at is None:
                self.steps[-1] = _with_reason(self.steps[-1], replayed)
        elif made.state is StepState.RUNNING:
            self._begin(step, replayed.at)
        elif self.steps and made.state in (StepState.PREPARING, StepState.SWITCHING, StepState.REVERTING):
            if self.steps[-1].at is not None and made.state is not StepState.REVERTING:
                return
            passed = made.rule == "running" or (forced and overall(replayed.rows) is Verdict.PASS)
            finding = Finding.PASSED if passed else Finding.UNDECIDED
            if made.state is StepState.REVERTING:
                finding = Finding.ROLLED_BACK
            known = self.steps[-1] if forced else _with_reason(self.steps[-1], replayed)
            self.steps[-1] = replace(known, finding=finding, at=replayed.at, tick=replayed.tick, rows=replayed.rows)

    def _begin(self, step: StepStatus, at: datetime) -> None:
        """A step that was held begins anew."""
        if self.steps and self.steps[-1].index == step.index:
            self.steps.pop()
        self.steps.append(StepFinding(step.index, step.name, at))


def _with_reason(known: StepFinding, replayed: Replayed) -> StepFinding:
    return replace(known, reason=replayed.reason, message=replayed.message, tick=replayed.tick)


def _timeline(journal: Sequence[Transition]) -> list[_Live]:
    """Whose split was live from when on. A new step's pods are prepared while the old split stays."""
    found: list[_Live] = []
    for entry in journal:
        live = found[-1].step if found else None
        if entry.state in (StepState.RUNNING, StepState.PAUSED):
            live = entry.step
        elif entry.state is not StepState.PREPARING and entry.state is not StepState.SWITCHING:
            live = None
        found.append(_Live(entry.at, live))
    return found


def needed(recording: Recording, policy: RolloutPolicySpec) -> None:
    """Raises RecordingProblem where the recording lacks something that the policy asks for."""
    for objective in policy.objectives:
        for query in objective.queries:
            if query not in recording.queries:
                raise RecordingProblem(
                    f"the recording has no counters of {query!r}, which objective {objective.name} asks for:"
                    f" expected one of {', '.join(map(repr, recording.queries))}"
                )


def _fitting_baselines(recording: Recording, policy: RolloutPolicySpec) -> tuple[list[BaselineStatus], list[str]]:
    """Baselines of objectives that measure the same, and the names of those that have none."""
    before = {item.name: item for item in recording.policy.objectives}
    known = {item.name: item for item in recording.deployment.baseline}
    if not known:
        return [], []
    fitting = [known[item.name] for item in policy.objectives if _is_like(item, before.get(item.name), known)]
    found = {item.name for item in fitting}
    lacking = [item.name for item in policy.objectives if item.queries and item.name not in found]
    return fitting, lacking


def _is_like(mine: Objective, theirs: Objective | None, known: Mapping[str, BaselineStatus]) -> bool:
    if theirs is None or mine.name not in known or mine.queries != theirs.queries:
        return False
    drifts = mine.quantile is not None and (mine.max, mine.quantile) != (theirs.max, theirs.quantile)
    return not drifts


# --- Spans of time --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """Time in which a candidate and a stable revision had a split, without a recorded deployment."""

    name: str
    namespace: str
    candidate: str
    stable: str
    step: Step
    start: datetime
    end: datetime
    policy: RolloutPolicySpec
    interval: timedelta
    stale_after: timedelta
    source: str = ""
    baseline: list[BaselineStatus] = field(default_factory=list)

    @cached_property
    def recording(self) -> Recording:
        """A recording whose only step lasts from start to end; its ticks are still to be read."""
        length = self.end - self.start + _LAST_STEP
        changes = {"bake" if self.step.full else "min_duration": timedelta(0), "max_duration": length}
        kind = self.step.kind.value
        step = self.step.model_copy(update={kind: getattr(self.step, kind).model_copy(update=changes)})
        steps = [step] if self.step.full else [step, Step.model_validate({"full": {}})]
        return Recording(
            name=self.name,
            namespace=self.namespace,
            recorded_at=self.end,
            source=self.source,
            interval=self.interval,
            stale_after=self.stale_after,
            spec=_span_spec(steps, self.candidate),
            policy=self.policy,
            deployment=DeploymentStatus(
                id=names.deployment_id(self.name, self.candidate, 1),
                revision=self.candidate,
                model_version=self.candidate,
                generation=1,
                started_at=self.start - START_TAKES,
                stable_revision=self.stable,
                stable_version=self.stable,
                baseline=self.baseline,
                transitions=began(self.start),
            ),
            queries=sorted({query for objective in self.policy.objectives for query in objective.queries}),
        )


def _span_spec(steps: list[Step], version: str) -> ModelRolloutSpec:
    template: dict[str, Any] = {"spec": {"containers": [{"name": "server", "image": "unknown"}]}}
    traffic = {"gatewayAPI": {"parentRefs": [{"name": "unknown"}]}}
    model = ModelReference(name="unknown", version=version[:63])
    return ModelRolloutSpec.model_validate({"template": template, "model": model, "traffic": traffic, "steps": steps})


def began(start: datetime) -> list[Transition]:
    """The journal of a deployment whose first split is live from a moment on."""
    states = [
        ("starting", StepState.CLEARING, START_TAKES),
        ("clearing", StepState.PREPARING, timedelta(seconds=3)),
        ("preparing", StepState.SHIFTING, SETTLE / 2),
        ("shifting", StepState.RUNNING, timedelta(0)),
    ]
    return [Transition(at=start - before, rule=rule, step=0, state=state) for rule, state, before in states]


def clipped(recording: Recording, start: datetime) -> Recording:
    """The recording from a moment on: the evidence of the step that was live counts from there.

    Raises RecordingProblem where no step was live.
    """
    journal = recording.deployment.transitions
    live = next((item.step for item in reversed(_timeline(journal)) if item.at <= start), None)
    if live is None:
        running = [format_time(item.at) for item in journal if item.state is StepState.RUNNING]
        raise RecordingProblem(
            f"no step was live at {format_time(start)}: splits were confirmed at {', '.join(running) or 'no time'}"
        )
    later = [
        item.model_copy(update={"step": item.step - live}) for item in journal if item.at > start and item.step >= live
    ]
    deployment = recording.deployment.model_copy(
        update={"transitions": [*began(start), *later], "started_at": start - START_TAKES, "restarts_at_start": 0}
    )
    spec = recording.spec.model_copy(update={"steps": recording.spec.steps[live:]})
    return recording.model_copy(update={"deployment": deployment, "spec": spec})


def step_of(text: str) -> Step:
    """`shadow`, `shadow:50`, `canary:5` or `full` as a step. Raises ValueError naming what was expected."""
    kind, _, share = text.partition(":")
    percent = int(share) if share.isdigit() and len(share) < 4 else None
    if kind == StepKind.FULL and not share:
        return Step.model_validate({"full": {}})
    if kind == StepKind.SHADOW and (not share or (percent and percent <= 100)):
        return Step.model_validate({"shadow": {"percent": percent or 100}})
    if kind == StepKind.CANARY and percent and percent < 100:
        return Step.model_validate({"canary": {"weight": percent}})
    raise ValueError(f"{text!r} is not a step: expected shadow, shadow:50, canary:5 or full")
