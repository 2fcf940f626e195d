"""Which rollouts ask what of Prometheus, and what its answers have proved so far.

A trial follows the ticks one by one. What it has missed (its beginning after a restart or a change of leader, a tick
without an answer) is read as history and put in its place, so that no tick counts twice and none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ops_commander.api.policy import Objective
from ops_commander.core import measures
from ops_commander.core.breach import proved_ahead
from ops_commander.core.question import Question
from ops_commander.core.samples import Owner, PodSamples, Reading
from ops_commander.core.snapshot import Ahead, Evidence
from ops_commander.core.trial import Trial
from ops_commander.runtime.workqueue import Key

Arms = tuple[PodSamples, PodSamples]
"""Samples of candidate and stable."""

MOST_GAP_TICKS = 2000
"""Ticks of one gap that are read at once; the rest of it is read after them."""

MOST_PENDING = 24
"""Ticks that wait for the history before them; older ones are read as history themselves."""


LOOK_SHARE = 10
"""A rollout is looked at again when a tenth more ticks have been counted: a pass is noticed that much later,"""
LOOK_WITHIN = timedelta(seconds=60)
"""and never later than this. While a pass leads nowhere yet, twice the ticks are enough. What an answer shows to be a
breach is looked for at each tick."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Ticks that a rollout's trials have missed."""

    key: Key
    question: Question
    start: datetime
    end: datetime
    interval: timedelta


@dataclass(slots=True)
class _Followed:
    """A trial and where it stands in the sequence of ticks."""

    trial: Trial
    begins: datetime
    """The first tick of its lead-in."""
    at: datetime | None = None
    """The latest tick that was handed to the trial."""
    pending: dict[datetime, dict[str, Arms]] = field(default_factory=dict)
    error: str | None = None
    """Why the latest tick could not be counted: counters that make no sense. It concerns this trial alone."""
    queries: tuple[str, ...] = field(init=False)
    """The objective's, which puts them together each time."""

    ahead: Trial | None = None
    """What waits for the history before it, counted by itself."""

    def __post_init__(self) -> None:
        self.queries = self.trial.objective.queries

    def next_tick(self, interval: timedelta) -> datetime:
        return self.begins if self.at is None else self.at + interval

    def keep(self, at: datetime, query: str, arms: Arms) -> None:
        if self.at is None or at > self.at:
            self.pending.setdefault(at, {})[query] = arms
        while len(self.pending) > MOST_PENDING:
            del self.pending[min(self.pending)]

    def drain(self, interval: timedelta) -> bool:
        """Hand on what follows without a gap; whether anything did."""
        moved = False
        while self._is_complete(self.pending.get(due := self.next_tick(interval), {})):
            self.hand_on(due, self.pending.pop(due))
            moved = True
        if self.ahead is not None and self.at is not None and self.ahead.seen_at is not None:
            self.ahead = None if self.at >= self.ahead.seen_at else self.ahead
        return moved

    def _is_complete(self, answers: Mapping[str, Arms]) -> bool:
        return bool(answers) and all(query in answers for query in self.queries)

    def hand_on(self, at: datetime, answers: Mapping[str, Arms]) -> None:
        self._count(self.trial, at, answers)
        self.at = at
        if self.pending:
            self.pending = {tick: kept for tick, kept in self.pending.items() if tick > at}

    def _count(self, trial: Trial, at: datetime, answers: Mapping[str, Arms]) -> None:
        arms = [answers[query] for query in self.queries]
        try:
            trial.advance(at, [mine for mine, _ in arms], [theirs for _, theirs in arms])
        except ValueError as error:
            self.error = f"the counters make no sense: {error}"
        else:
            self.error = None

    def alarm(self, at: datetime, query: str, arms: Arms) -> float:
        """Of a tick that this answer makes complete; else 0."""
        answers = {**self.pending.get(at, {}), query: arms}
        if query not in self.queries or not self._is_complete(answers):
            return 0.0
        return (self.ahead or self.trial).alarm([answers[query][0] for query in self.queries])

    def look_ahead(self) -> bool:
        """Count what waits by itself: that is enough to see a breach, and for nothing else. Whether there is more."""
        before = self.ahead.seen_at if self.ahead else None
        for at in sorted(at for at in self.pending if before is None or at > before):
            if not self._is_complete(self.pending[at]):
                continue
            if self.ahead is None:
                self.ahead = Trial(self.trial.objective, max(at, self.trial.origin), self.trial.baseline)
            self._count(self.ahead, at, self.pending[at])
        return self.ahead is not None and self.ahead.seen_at != before

    def known_ahead(self, interval: timedelta) -> Ahead | None:
        if self.ahead is None or self.ahead.tally.first is None:
            return None
        return Ahead(self.ahead.tally, max(0, (self.ahead.tally.first - self.trial.origin) // interval))

    def missing_until(self, interval: timedelta) -> datetime | None:
        """The last tick before the latest one that waits completely, if what follows next is missing; else None."""
        complete = [at for at, answers in self.pending.items() if self._is_complete(answers)]
        if not complete or min(complete) <= self.next_tick(interval):
            return None
        return max(complete) - interval


@dataclass
class _Case:
    question: Question
    trials: dict[str, _Followed]
    looked_at: datetime | None = None
    """The tick for which the rollout was last woken."""
    breached: bool = False
    looks_bad: bool = False
    """Whether what waits for the history before it seems to show a breach, were there nothing before it."""

    def arms(self, reading: Reading) -> Arms:
        return reading.of(self.question.candidate), reading.of(self.question.stable)

    def has_counted(self, at: datetime) -> bool:
        """Whether all objectives have a tick, and there are some."""
        ticks = [followed.at for followed in self.trials.values()]
        return bool(ticks) and all(tick is not None and tick >= at for tick in ticks)

    def is_due(self, at: datetime, interval: timedelta) -> bool:
        """Whether a tick that all objectives have is worth a look at the rollout."""
        if any(followed.at != at for followed in self.trials.values()):
            return False
        if self.looked_at is None or any(followed.trial.fresh_at != at for followed in self.trials.values()):
            return True
        counted, dwells_until = self.looked_at - self.question.origin(interval), self.question.dwells_until
        if dwells_until is None or self.looked_at >= dwells_until:
            pace = counted / LOOK_SHARE
        elif at >= dwells_until:
            return True
        else:
            pace = counted
        return at - self.looked_at >= min(max(pace, interval), LOOK_WITHIN)

    def is_news(self, at: datetime, interval: timedelta, breach: bool) -> bool:
        """Whether the rollout is to be looked at now, for a tick that was counted."""
        self.breached = breach
        if not breach and not self.is_due(at, interval):
            return False
        self.looked_at = at
        return True


@dataclass
class EvidenceBook:
    """All trials of this process."""

    interval: timedelta
    since: datetime
    """Since when this process looks: a gap in the evidence cannot be older."""
    _cases: dict[Key, _Case] = field(default_factory=dict)
    _errors: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why the latest answer to a query is missing, by server and query."""
    _unread: dict[Key, tuple[str, datetime]] = field(default_factory=dict)
    """Why the history of a rollout could not be read, and which tick was the latest then."""
    _sources: dict[Key, str] = field(default_factory=dict)

    def want(self, key: Key, question: Question | None, source: str = "") -> None:
        """A rollout is judged by these objectives from now on; by none when it has no traffic."""
        if question is None:
            self.forget(key)
            return
        self._sources[key] = source
        case = self._cases.get(key)
        if case is not None and replace(case.question, dwells_until=question.dwells_until) == question:
            case.question = question
            return
        known = case.trials if case is not None and case.question.is_about_the_split_of(question) else {}
        self._cases[key] = _Case(
            question, {item.name: self._trial(question, item, known) for item in question.objectives}
        )

    def _trial(self, question: Question, objective: Objective, known: Mapping[str, _Followed]) -> _Followed:
        followed = known.get(objective.name)
        baseline = question.baselines.get(objective.name)
        if followed and followed.trial.objective == objective and followed.trial.baseline == baseline:
            return followed
        return _Followed(question.trial(objective, self.interval), question.begins(self.interval))

    def forget(self, key: Key) -> None:
        self._cases.pop(key, None)
        self._sources.pop(key, None)
        self._unread.pop(key, None)

    def source(self, key: Key) -> str:
        """Name of the server that is asked for a rollout."""
        return self._sources.get(key, "")

    def owners(self, keys: Iterable[Key]) -> set[Owner]:
        """Whose rows they need, as far as they are judged."""
        questions = [self._cases[key].question for key in keys if key in self._cases]
        return {owner for question in questions for owner in (question.candidate, question.stable)}

    def queries(self) -> dict[str, dict[str, list[Key]]]:
        """By server: each wanted query once, with the rollouts that want it."""
        wanted: dict[str, dict[str, list[Key]]] = {}
        for key, case in self._cases.items():
            of_server = wanted.setdefault(self._sources[key], {})
            for query in case.question.queries:
                of_server.setdefault(query, []).append(key)
        self._errors = {
            (server, query): text for (server, query), text in self._errors.items() if query in wanted.get(server, {})
        }
        return wanted

    def answered(self, server: str, query: str, reading: Reading, keys: Collection[Key]) -> tuple[list[Key], bool]:
        """Hand a tick on. Rollouts to look at now: one of their objectives shows a breach, or there is much news.

        Also whether the answer before was an error.
        """
        recovered = self._errors.pop((server, query), None) is not None
        return [key for key in keys if self._hear(key, query, reading)], recovered

    def worst_first(self, query: str, reading: Reading, keys: Collection[Key]) -> list[Key]:
        """In which order an answer is handed on: what may have to be reverted does not wait for all the others."""
        return sorted(keys, key=lambda key: self._alarm(key, query, reading), reverse=True)

    def _alarm(self, key: Key, query: str, reading: Reading) -> float:
        case = self._cases.get(key)
        if case is None:
            return 0.0
        arms = case.arms(reading)
        return max((followed.alarm(reading.at, query, arms) for followed in case.trials.values()), default=0.0)

    def _hear(self, key: Key, query: str, reading: Reading) -> bool:
        case = self._cases.get(key)
        if case is None:
            return False
        arms = case.arms(reading)
        breach = False
        for followed in case.trials.values():
            if query in followed.queries:
                followed.keep(reading.at, query, arms)
                breach = (followed.drain(self.interval) and _shows_breach(followed)) or breach
                if followed.look_ahead():
                    case.looks_bad = case.looks_bad or _looks_bad(followed)
                    breach = _shows_breach_ahead(followed, self.interval) or breach
        return case.is_news(reading.at, self.interval, breach)

    def is_breached(self, key: Key) -> bool:
        """Whether the latest answer has shown a breach."""
        case = self._cases.get(key)
        return case is not None and case.breached

    def counted_up_to(self, at: datetime) -> int:
        """Rollouts with objectives that have all counted a tick."""
        return sum(case.has_counted(at) for case in self._cases.values())

    def failed(self, server: str, query: str, error: str) -> bool:
        """Trials stand still; whether this is the first error since an answer."""
        first = (server, query) not in self._errors
        self._errors[(server, query)] = error
        return first

    def gaps(self, asked: datetime) -> Iterator[Gap]:
        """What has to be read as history, up to the tick that was asked for last."""
        return (gap for key in self._cases if (gap := self.gap(key, asked)) is not None)

    def gap(self, key: Key, asked: datetime) -> Gap | None:
        """The same of one rollout."""
        case = self._cases.get(key)
        starts, ends = [], []
        for followed in case.trials.values() if case else ():
            end = asked if followed.at is None else followed.missing_until(self.interval)
            if end is not None and followed.next_tick(self.interval) <= end:
                starts.append(followed.next_tick(self.interval))
                ends.append(end)
        if case is None or not starts:
            return None
        start = min(starts)
        end = min(max(ends), start + (MOST_GAP_TICKS - 1) * self.interval)
        return Gap(key, case.question, start, end, self.interval)

    def wants(self, gap: Gap) -> bool:
        """Whether that is still what its rollout asks."""
        case = self._cases.get(gap.key)
        return case is not None and case.question.is_about_the_split_of(gap.question)

    def not_filled(self, gap: Gap, error: str, asked: datetime) -> bool:
        """History could not be read after that tick was asked for; whether that is news."""
        known, _ = self._unread.get(gap.key, ("", None))
        self._unread[gap.key] = error, asked
        return known != error

    def looks_bad(self, key: Key) -> bool:
        """Whether its history is to be read before that of others."""
        case = self._cases.get(key)
        return case is not None and case.looks_bad

    def failed_at(self, key: Key) -> datetime | None:
        """The tick at which the latest try to read a rollout's history was made, if it failed."""
        return self._unread[key][1] if key in self._unread else None

    def filled(self, gap: Gap, history: Mapping[str, Sequence[Reading]]) -> bool:
        """Put history, or a piece of it, in its place. False where the question has changed: it is not wanted now."""
        self._unread.pop(gap.key, None)
        case = self._cases.get(gap.key)
        if case is None or not self.wants(gap):
            return False
        case.looks_bad = False
        for followed in case.trials.values():
            queries = followed.queries
            if not all(query in history for query in queries):
                continue
            for together in zip(*(history[query] for query in queries), strict=True):
                at = together[0].at
                if at == followed.next_tick(self.interval):
                    arms = [
                        (reading.of(gap.question.candidate), reading.of(gap.question.stable)) for reading in together
                    ]
                    followed.hand_on(at, dict(zip(queries, arms, strict=True)))
            followed.drain(self.interval)
        return True

    def read_up(self, key: Key) -> bool:
        """After its history was read: whether a rollout is to be looked at, by the same rule as after an answer."""
        case = self._cases.get(key)
        ticks = [followed.at for followed in case.trials.values() if followed.at is not None] if case else []
        if case is None or not ticks:
            return False
        breach = case.breached or any(map(_shows_breach, case.trials.values()))
        return case.is_news(max(ticks), self.interval, breach)

    def evidence(self, key: Key) -> dict[str, Evidence]:
        """By objective, what is known."""
        case = self._cases.get(key)
        if case is None:
            return {}
        return {name: self._evidence(key, followed) for name, followed in case.trials.items()}

    def _evidence(self, key: Key, followed: _Followed) -> Evidence:
        trial, source = followed.trial, self._sources[key]
        errors = [self._errors[source, query] for query in followed.queries if (source, query) in self._errors]
        if followed.error:
            errors.append(followed.error)
        if key in self._unread:
            errors.append(f"ticks before now could not be read: {self._unread[key][0]}")
        ahead = None if key in self._unread else followed.ahead
        return Evidence(
            tally=trial.tally,
            origin=trial.origin,
            seen_at=ahead.seen_at if ahead else trial.seen_at,
            fresh_at=ahead.fresh_at if ahead else trial.fresh_at,
            error=errors[0] if errors else None,
            source=source or None,
            ahead=followed.known_ahead(self.interval) if ahead else None,
        )


def _shows_breach(followed: _Followed) -> bool:
    trial = followed.trial
    return _proves(followed, lambda: measures.breached(trial.objective, trial.tally, trial.baseline))


def _shows_breach_ahead(followed: _Followed, interval: timedelta) -> bool:
    """Whether what waits proves a breach, by how many ticks went before it."""
    trial, ahead = followed.trial, followed.known_ahead(interval)
    if ahead is None:
        return False

    def is_proved() -> bool:
        return proved_ahead(trial.objective, ahead.tally, ahead.after, trial.baseline) is not None

    return _proves(followed, is_proved)


def _looks_bad(followed: _Followed) -> bool:
    """Whether it would prove one if there were nothing before it."""
    trial, ahead = followed.trial, followed.ahead
    if ahead is None:
        return False
    return _proves(followed, lambda: measures.breached(trial.objective, ahead.tally, trial.baseline))


def _proves(followed: _Followed, breached: Callable[[], bool]) -> bool:
    """What is asked at each tick; counters are a tenant's: nonsense in them must not keep others from being heard."""
    if followed.error or not followed.trial.objective.reverts:
        return False
    try:
        return breached()
    except ValueError as error:
        followed.error = f"the counters make no sense: {error}"
        return False
