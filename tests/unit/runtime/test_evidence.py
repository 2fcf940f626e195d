"""The book of trials: every tick once and in order, whether it came live or from history."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops_commander.api.policy import Compare, Objective, OnBreach, Pairs, Quantile, Rate, Ratio, Score
from ops_commander.api.v1alpha1 import BaselineStatus, Role, Verdict
from ops_commander.core.objectives import Bench, judge
from ops_commander.core.question import Question
from ops_commander.core.samples import Owner, PodSamples, Reading, Sample
from ops_commander.core.snapshot import Evidence
from ops_commander.core.tally import Tally
from ops_commander.core.trial import Trial
from ops_commander.runtime.evidence import MOST_GAP_TICKS, MOST_PENDING, EvidenceBook, Gap
from tests.unit.virtual import START

SHOP, BANK = ("shop", "ranker"), ("bank", "ranker")
NEW, OLD = ("shop", "ranker-2"), ("shop", "ranker-1")
INF = math.inf
EDGES = (0.25, 0.5, 0.505, INF)
TICK = timedelta(seconds=15)
LEAD_IN = 4
"""Ticks."""
ORIGIN = 6
"""Number of the first tick that counts, counted from START."""

ERRORS = Objective(name="errors", ratio=Ratio(bad="bad", total="all"), max=0.01)
AGAINST = ERRORS.model_copy(update={"name": "against", "compare": Compare.RATIO, "max": 1.0})
SLOW = Objective(name="slow", quantile=Quantile(buckets="seconds"), max=0.5, breach=0.505)
DRIFT = SLOW.model_copy(update={"name": "drift", "compare": Compare.DIFFERENCE, "max": 0.005, "breach": None})
THROUGHPUT = Objective(name="throughput", rate=Rate(requests="all", window=timedelta(seconds=30)), min=100.0)
SCORE = Objective(name="score", score=Score(sum="sum", count="all"), min=0.9)
WINS = Objective(name="wins", pairs=Pairs(wins="wins", losses="losses", ties="ties"), min=0.0)
ALL = (ERRORS, AGAINST, SLOW, DRIFT, THROUGHPUT, SCORE, WINS)


def question(*objectives: Objective, since: timedelta = TICK * (ORIGIN - 1), **fields: str | Owner) -> Question:
    baselines = {"drift": BaselineStatus(name="drift", ticks=100, rate=10, edge=0.5)}
    known = Question("d1", START + since, NEW, OLD, objectives, baselines=baselines)
    return replace(known, **fields)  # type: ignore[arg-type]


def at(number: int) -> timedelta:
    return TICK * number


def reading(number: int, mine: PodSamples | None = None, theirs: PodSamples | None = None) -> Reading:
    arms = {NEW: mine, OLD: theirs}
    return Reading(START + at(number), {owner: pods for owner, pods in arms.items() if pods})


def pod(value: float, name: str = "a") -> PodSamples:
    return {name: (Sample("", float(value)),)}


def book(*objectives: Objective, key: tuple[str, str] = SHOP) -> EvidenceBook:
    made = EvidenceBook(TICK, START)
    made.want(key, question(*objectives))
    return made


def heard(of: EvidenceBook, number: int, bad: PodSamples | None = None, total: PodSamples | None = None) -> list[bool]:
    """A tick of ERRORS; whether each answer woke the rollout."""
    one, _ = of.answered("", "bad", reading(number, bad, None), [SHOP])
    other, _ = of.answered("", "all", reading(number, total, None), [SHOP])
    return [bool(one), bool(other)]


def fill(of: EvidenceBook, asked: int, source: Callable[[str, int], Reading]) -> list[Gap]:
    """Read all gaps as history; which they were."""
    gaps = list(of.gaps(START + at(asked)))
    for gap in gaps:
        first, last = ((moment - START) // TICK for moment in (gap.start, gap.end))
        found = {query: [source(query, n) for n in range(first, last + 1)] for query in gap.question.queries}
        of.filled(gap, found)
    return gaps


def nothing(_: str, number: int) -> Reading:
    return reading(number)


def started(*objectives: Objective) -> EvidenceBook:
    """All up to the origin was read, and had no rows."""
    made = book(*objectives)
    fill(made, ORIGIN, nothing)
    return made


def of(known: EvidenceBook, name: str = "errors") -> Evidence:
    return known.evidence(SHOP)[name]


# --- Queries ------------------------------------------------------------------------------------------------


def test_a_query_that_many_want_is_asked_once() -> None:
    made = book(ERRORS, SLOW)
    made.want(BANK, question(ERRORS))

    assert {query: sorted(keys) for query, keys in made.queries()[""].items()} == {
        "bad": [BANK, SHOP],
        "all": [BANK, SHOP],
        "seconds": [SHOP],
    }


def test_each_server_is_asked_for_its_own_rollouts() -> None:
    made = EvidenceBook(TICK, START)
    made.want(SHOP, question(ERRORS), "one")
    made.want(BANK, question(ERRORS), "two")

    assert made.queries() == {
        "one": {"bad": [SHOP], "all": [SHOP]},
        "two": {"bad": [BANK], "all": [BANK]},
    }
    assert (made.source(SHOP), made.source(BANK), made.source(("x", "y"))) == ("one", "two", "")


def test_a_rollout_at_rest_wants_nothing() -> None:
    made = book(ERRORS)
    made.want(SHOP, None)

    assert made.queries() == {}
    assert made.evidence(SHOP) == {}


# --- Ticks --------------------------------------------------------------------------------------------------


def test_the_lead_in_is_read_as_history_and_then_ticks_follow() -> None:
    made = book(ERRORS)
    (gap,) = fill(made, ORIGIN, lambda query, n: reading(n, pod(1 if query == "bad" else 100)))

    assert (gap.start, gap.end) == (START + at(ORIGIN - LEAD_IN), START + at(ORIGIN))
    heard(made, ORIGIN + 1, pod(3), pod(200))
    found = of(made)
    assert (found.tally.candidate.values, found.tally.ticks) == ((2.0, 100.0), 1)
    assert found.origin == found.tally.first == START + at(ORIGIN)
    assert found.seen_at == found.fresh_at == found.tally.last == START + at(ORIGIN + 1)


def test_no_tick_counts_twice() -> None:
    made = started(ERRORS)
    for _ in range(3):
        heard(made, ORIGIN + 1, pod(3), pod(100))
    heard(made, ORIGIN, pod(9), pod(900))

    assert of(made).tally.ticks == 0  # the first sample after an origin without rows is the start
    heard(made, ORIGIN + 2, pod(4), pod(150))
    assert (of(made).tally.candidate.values, of(made).tally.ticks) == ((1.0, 50.0), 1)


def test_a_tick_counts_when_all_queries_of_the_objective_have_it() -> None:
    made = started(ERRORS)
    made.answered("", "bad", reading(ORIGIN + 1, pod(1)), [SHOP])

    assert of(made).seen_at == START + at(ORIGIN)
    made.answered("", "all", reading(ORIGIN + 1, pod(1)), [SHOP])
    assert of(made).seen_at == START + at(ORIGIN + 1)


def test_a_missed_tick_holds_up_those_after_it_until_it_is_healed() -> None:
    made = started(ERRORS)
    heard(made, ORIGIN + 1, None, pod(100))
    made.failed("", "bad", "refused")
    heard(made, ORIGIN + 3, None, pod(300))
    assert of(made).tally.last == START + at(ORIGIN + 1)
    assert of(made).ahead is not None and of(made).seen_at == START + at(ORIGIN + 3)

    (gap,) = fill(made, ORIGIN + 3, lambda query, n: reading(n, pod(200) if query == "all" else None))

    assert gap.start == gap.end == START + at(ORIGIN + 2)
    assert (of(made).tally.ticks, of(made).tally.candidate.requests, of(made).ahead) == (2, 200.0, None)
    assert fill(made, ORIGIN + 3, nothing) == []


# --- After a restart: the latest ticks are known before the history is ---------------------------------------


def test_a_breach_is_seen_before_the_history_has_been_read() -> None:
    made = book(ERRORS)
    woken = [heard(made, ORIGIN + 700 + n, pod(30 * n), pod(100 * n)) for n in range(3)]
    found = of(made)

    assert woken == [[False, False], [False, True], [False, True]]
    assert made.is_breached(SHOP) and made.looks_bad(SHOP)
    assert found.tally.ticks == 0 and found.ahead is not None
    assert (found.ahead.after, found.ahead.tally.candidate.values) == (700, (60.0, 200.0))
    row = judge(ERRORS, found, Bench(START + at(ORIGIN + 702), timedelta(seconds=60)))
    assert (row.verdict, row.reason, row.first_tick) == (Verdict.FAIL, "Breached", START + at(ORIGIN + 701))
    assert "what was before is still being read" in row.message


def test_what_is_good_so_far_proves_nothing_while_the_history_is_being_read_and_is_no_lack_of_evidence() -> None:
    made = book(ERRORS)
    for number in range(100):
        heard(made, ORIGIN + 700 + number, None, pod(1000 * number))
    now = START + at(ORIGIN + 799)
    row = judge(ERRORS, of(made), Bench(now, timedelta(seconds=60)))
    assert (row.verdict, row.reason) == (Verdict.INCONCLUSIVE, "CatchingUp")

    made.not_filled(next(made.gaps(now)), "refused", now)
    row = judge(ERRORS, of(made), Bench(now, timedelta(seconds=60)))
    assert row.reason == "NoData" and "refused" in row.message


def test_what_was_before_the_origin_counts_for_nothing_there_either() -> None:
    """Such as a warm-up, or the split before."""
    made = book(ERRORS)
    for number in range(ORIGIN - LEAD_IN + 1, ORIGIN):
        heard(made, number, pod(50 * number), pod(100 * number))
    assert not made.is_breached(SHOP) and not made.looks_bad(SHOP) and of(made).ahead is None

    for number in range(ORIGIN, ORIGIN + 3):
        heard(made, number, pod(50 * ORIGIN), pod(100 * number))
    ahead = of(made).ahead
    assert ahead is not None and ahead.tally.first == START + at(ORIGIN)
    assert ahead.tally.candidate.values == (0.0, 200.0) and not made.is_breached(SHOP)


def test_counters_that_make_no_sense_keep_no_other_rollout_from_being_heard() -> None:
    made = book(ERRORS)
    for number in range(3):
        heard(made, ORIGIN + 700 + number, pod(1e300 * number), pod(1e300 * number))

    assert not made.is_breached(SHOP) and not made.looks_bad(SHOP)
    assert "the counters make no sense" in str(of(made).error)


def test_what_a_few_ticks_show_counts_by_how_many_went_before() -> None:
    """After 700 ticks a turn must be shown at odds of 250 million to one: one in 245 million may be a coincidence."""
    early, late = book(ERRORS), book(ERRORS)
    for number in range(2):
        heard(early, ORIGIN + 1 + number, pod(9 * number), pod(100 * number))
        heard(late, ORIGIN + 700 + number, pod(9 * number), pod(100 * number))

    assert early.is_breached(SHOP) and not late.is_breached(SHOP)
    assert late.looks_bad(SHOP)


def test_once_the_history_is_read_all_is_as_if_it_had_been_known_before() -> None:
    made, always = book(ERRORS), started(ERRORS)
    for number in range(ORIGIN + 1, ORIGIN + 9):
        heard(always, number, pod(number), pod(100 * number))
        if number > ORIGIN + 5:
            heard(made, number, pod(number), pod(100 * number))
    assert of(made).ahead is not None

    def server(query: str, number: int) -> Reading:
        return reading(number, pod(number if query == "bad" else 100 * number) if number > ORIGIN else None)

    fill(made, ORIGIN + 8, server)

    assert of(made) == of(always) and of(made).ahead is None


def test_a_late_answer_is_put_in_its_place() -> None:
    made = started(ERRORS)
    for number in (1, 2, 3):
        made.answered("", "all", reading(ORIGIN + number, pod(100 * number)), [SHOP])
    for number in (2, 1, 3):
        made.answered("", "bad", reading(ORIGIN + number, pod(number)), [SHOP])

    assert (of(made).tally.ticks, of(made).tally.candidate.values) == (2, (2.0, 200.0))


def test_while_nothing_newer_came_there_is_no_gap() -> None:
    """The present tick may still be on its way: it is not read twice."""
    made = started(ERRORS)
    made.answered("", "all", reading(ORIGIN + 1, pod(100)), [SHOP])

    assert list(made.gaps(START + at(ORIGIN + 1))) == []
    assert list(made.gaps(START + at(ORIGIN + 5))) == []


def test_before_its_lead_in_a_question_has_no_gap() -> None:
    made = book(ERRORS)

    assert list(made.gaps(START + at(ORIGIN - LEAD_IN - 1))) == []
    assert len(list(made.gaps(START + at(ORIGIN - LEAD_IN)))) == 1


def test_objectives_of_one_rollout_share_a_gap() -> None:
    made = started(ERRORS, SLOW)
    for number in (2, 3):
        heard(made, ORIGIN + number, None, pod(1))
    made.answered("", "seconds", reading(ORIGIN + 3), [SHOP])

    (gap,) = made.gaps(START + at(ORIGIN + 3))

    assert (gap.start, gap.end) == (START + at(ORIGIN + 1), START + at(ORIGIN + 2))


def test_what_waits_for_history_is_bounded() -> None:
    made = started(ERRORS)
    last = ORIGIN + 2 + 2 * MOST_PENDING
    for number in range(ORIGIN + 2, last + 1):
        heard(made, number, None, pod(number))

    (gap,) = fill(made, last, lambda query, n: reading(n, pod(n) if query == "all" else None))

    assert gap.end == START + at(last - 1)
    assert (of(made).seen_at, of(made).tally.ticks) == (START + at(last), last - ORIGIN - 1)


def test_a_long_history_is_read_in_pieces() -> None:
    """Prometheus has a limit for one answer: a step of a day could never be judged again after a restart."""
    made, day = book(ERRORS), timedelta(days=1) // TICK

    def source(query: str, number: int) -> Reading:
        return reading(number, pod(number) if query == "all" else None)

    read = []
    while gaps := fill(made, day, source):
        heard(made, day, None, pod(day))
        read += gaps
        assert len(read) < 9

    assert all((gap.end - gap.start) // TICK < MOST_GAP_TICKS for gap in read)
    assert [after.start - before.end for before, after in pairwise(read)] == [TICK] * (len(read) - 1)
    assert (of(made).seen_at, of(made).tally.ticks) == (START + at(day), day - ORIGIN)
    assert of(made).tally.candidate.requests == day - ORIGIN


# --- Who is woken -------------------------------------------------------------------------------------------


def test_a_rollout_is_woken_once_a_tick_when_all_its_objectives_have_it() -> None:
    made = started(ERRORS, SLOW)

    assert heard(made, ORIGIN + 1, None, pod(1)) == [False, False]
    assert made.answered("", "seconds", reading(ORIGIN + 1), [SHOP]) == ([SHOP], False)


@pytest.mark.parametrize(
    ("dwells_for", "looks"),
    [
        pytest.param(None, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], id="at a tenth more evidence"),
        pytest.param(5, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11], id="as soon as its shortest time is over"),
        pytest.param(10, [1, 2, 4, 8, 10, 11], id="before it at twice the evidence"),
        pytest.param(40, [1, 2, 4, 8, 12], id="but once a minute at least"),
    ],
)
def test_how_often_a_pass_is_looked_for(dwells_for: int | None, looks: list[int]) -> None:
    until = START + at(ORIGIN + dwells_for) if dwells_for else None
    made = EvidenceBook(TICK, START)
    made.want(SHOP, replace(question(ERRORS), dwells_until=until))
    fill(made, ORIGIN, nothing)

    assert [n for n in range(1, 13) if heard(made, ORIGIN + n, None, pod(n))[1]] == looks


def test_a_breach_waits_for_no_shortest_time() -> None:
    made = EvidenceBook(TICK, START)
    made.want(SHOP, replace(question(ERRORS), dwells_until=START + at(ORIGIN + 40)))
    fill(made, ORIGIN, nothing)
    woken = [heard(made, ORIGIN + n, None, pod(100 * n))[1] for n in range(1, 7)]

    assert not any(woken[4:])
    assert heard(made, ORIGIN + 7, pod(500), pod(1200))[1]


@pytest.mark.parametrize(
    ("changes", "woken"),
    [
        pytest.param({}, True, id="required"),
        pytest.param({"role": Role.GUARD}, True, id="guard"),
        pytest.param({"role": Role.ADVISORY}, False, id="shown only"),
        pytest.param({"on_breach": OnBreach.HOLD}, False, id="holds"),
    ],
)
def test_a_breach_waits_for_no_other_objective(changes: dict[str, object], woken: bool) -> None:
    made = started(ERRORS.model_copy(update=changes), SLOW)
    heard(made, ORIGIN + 1, None, pod(0))

    assert heard(made, ORIGIN + 2, pod(500), pod(500)) == [False, woken]


@pytest.mark.parametrize(
    ("objective", "is_first"),
    [
        pytest.param(ERRORS, True, id="more events than usual"),
        pytest.param(AGAINST, True, id="against stable"),
        pytest.param(ERRORS.model_copy(update={"on_breach": OnBreach.HOLD}), False, id="that revert nothing"),
        pytest.param(ERRORS.model_copy(update={"max": None, "min": 0.9}), False, id="that are good ones"),
        pytest.param(SCORE.model_copy(update={"score": Score(sum="bad", count="all")}), False, id="that are a score"),
    ],
)
def test_whose_candidate_had_more_bad_events_than_usual_is_heard_first(objective: Objective, is_first: bool) -> None:
    made = book(objective, key=BANK)
    made.want(SHOP, replace(question(objective), candidate=("shop", "other-2")))

    def hear(number: int, bad: float) -> None:
        for query, value in (("bad", bad), ("all", 100.0 * number)):
            rows = {NEW: pod(10.0 * number), OLD: pod(100.0 * number), ("shop", "other-2"): pod(value)}
            made.answered("", query, Reading(START + at(number), rows), [BANK, SHOP])

    fill(made, ORIGIN, nothing)
    for number in range(ORIGIN, 30):
        hear(number, 1.0)
    made.answered("", "bad", Reading(START + at(30), {NEW: pod(310.0), ("shop", "other-2"): pod(9.0)}), [BANK, SHOP])
    last = Reading(START + at(30), {NEW: pod(300.0), ("shop", "other-2"): pod(3000.0)})

    assert made.worst_first("bad", last, [BANK, SHOP]) == [BANK, SHOP], "nothing is complete with it"
    assert made.worst_first("all", last, [BANK, SHOP]) == ([SHOP, BANK] if is_first else [BANK, SHOP])


def test_whoever_does_not_want_a_query_any_more_is_not_woken() -> None:
    made = started(ERRORS)
    made.forget(SHOP)

    assert heard(made, ORIGIN + 1, None, pod(1)) == [False, False]


# --- Changes of the question --------------------------------------------------------------------------------


def test_asking_the_same_again_changes_nothing() -> None:
    made = started(ERRORS)
    heard(made, ORIGIN + 1, None, pod(100))
    heard(made, ORIGIN + 2, None, pod(150))
    before = of(made)
    made.want(SHOP, question(ERRORS))

    assert of(made) == before


def test_an_objective_that_is_added_reads_its_own_beginning_and_the_others_stay() -> None:
    made = started(ERRORS)
    heard(made, ORIGIN + 1, None, pod(100))
    heard(made, ORIGIN + 2, None, pod(150))
    made.want(SHOP, question(ERRORS, THROUGHPUT))

    assert of(made).tally.candidate.requests == 50.0
    fill(made, ORIGIN + 2, lambda query, n: reading(n, pod(50 * (n - ORIGIN) + 50) if query == "all" else None))
    assert of(made).tally.candidate.requests == 50.0
    assert of(made, "throughput").tally.ticks == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"deployment_id": "d2"},
        {"since": START + at(ORIGIN)},
        {"candidate": ("shop", "ranker-3")},
        {"stable": ("shop", "ranker-0")},
        {"warm_up": timedelta(seconds=1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_split_counts_from_nothing(changes: dict[str, object]) -> None:
    made = started(ERRORS)
    heard(made, ORIGIN + 1, None, pod(100))
    heard(made, ORIGIN + 2, None, pod(150))
    made.want(SHOP, replace(question(ERRORS), **changes))  # type: ignore[arg-type]

    assert of(made).tally.ticks == 0
    assert of(made).seen_at is None


def test_a_target_that_was_edited_is_judged_from_the_beginning() -> None:
    made = started(ERRORS)
    heard(made, ORIGIN + 1, None, pod(100))
    made.want(SHOP, question(ERRORS.model_copy(update={"max": 0.02})))

    assert of(made).seen_at is None


def test_history_for_a_split_that_is_gone_was_read_for_nothing() -> None:
    made = book(ERRORS)
    (gap,) = made.gaps(START + at(ORIGIN))
    made.want(SHOP, question(ERRORS, deployment_id="d2"))

    assert not made.filled(gap, {"bad": [], "all": []})
    made.forget(SHOP)
    assert not made.filled(gap, {"bad": [], "all": []})


# --- Errors -------------------------------------------------------------------------------------------------


def test_an_error_and_its_end_are_told_once() -> None:
    made = started(ERRORS)
    told = [made.failed("", "bad", "x"), made.failed("", "bad", "x")]
    told += [made.answered("", "bad", reading(ORIGIN + n), [SHOP])[1] for n in (1, 2)]

    assert told == [True, False, True, False]


def test_after_an_error_what_was_known_stays_and_grows_old() -> None:
    made = started(ERRORS)
    heard(made, ORIGIN + 1, None, pod(100))
    made.failed("", "bad", "connection refused")

    assert (of(made).error, of(made).seen_at) == ("connection refused", START + at(ORIGIN + 1))
    heard(made, ORIGIN + 2, None, pod(100))
    assert of(made).error is None


def test_history_that_cannot_be_read_is_told_once_and_shown_until_it_can() -> None:
    made = book(ERRORS)
    (gap,) = made.gaps(START + at(ORIGIN))

    assert [made.not_filled(gap, "refused", START), made.not_filled(gap, "refused", gap.end)] == [True, False]
    assert (made.failed_at(SHOP), made.failed_at(BANK)) == (gap.end, None)
    assert of(made).error == "ticks before now could not be read: refused"
    fill(made, ORIGIN, nothing)
    assert of(made).error is None and made.failed_at(SHOP) is None


def test_errors_of_another_server_are_not_ours() -> None:
    made = EvidenceBook(TICK, START)
    made.want(SHOP, question(ERRORS), "one")
    made.failed("two", "bad", "refused")

    assert (of(made).error, of(made).source) == (None, "one")


def test_an_error_of_a_query_that_nobody_wants_is_forgotten() -> None:
    made = started(ERRORS)
    made.failed("", "bad", "refused")
    made.forget(SHOP)
    made.queries()
    made.want(SHOP, question(ERRORS))

    assert of(made).error is None


def test_what_one_rollouts_numbers_break_breaks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tenants share a query."""
    made = started(ERRORS)
    made.want(BANK, question(ERRORS.model_copy(update={"name": "broken"})))
    fill(made, ORIGIN, nothing)
    advance = Trial.advance

    def breaks(trial: Trial, *tick: Any) -> None:
        if trial.objective.name == "broken":
            raise ValueError("edges are (-0.0, 0.0), expected rising numbers")
        advance(trial, *tick)

    monkeypatch.setattr(Trial, "advance", breaks)
    for query in ("bad", "all"):
        made.answered("", query, reading(ORIGIN + 1), [BANK, SHOP])

    assert of(made).seen_at == START + at(ORIGIN + 1)


# --- Rows ---------------------------------------------------------------------------------------------------


def test_pods_of_the_same_name_in_another_namespace_do_not_count() -> None:
    made = started(ERRORS)
    for number in (1, 2):
        rows = Reading(START + at(ORIGIN + number), {("bank", "ranker-2"): pod(100 * number)})
        for query in ("bad", "all"):
            made.answered("", query, rows, [SHOP])

    assert (of(made).seen_at, of(made).fresh_at) == (START + at(ORIGIN + 2), None)


def test_both_arms_are_told_apart() -> None:
    made = started(AGAINST)
    for number in (1, 2):
        total = reading(ORIGIN + number, pod(100 * number), pod(1000 * number))
        made.answered("", "all", total, [SHOP])
        made.answered("", "bad", reading(ORIGIN + number, None, pod(5 * number)), [SHOP])
    tally = of(made, "against").tally

    assert (tally.candidate.values, tally.stable.values) == ((0.0, 100.0), (5.0, 1000.0))
    assert tally.split == (100.0, 1000.0)


# --- A restart changes nothing ------------------------------------------------------------------------------

QUERIES = sorted(question(*ALL).queries)
PODS = {"ranker-2-a": NEW, "ranker-2-b": NEW, "ranker-1-a": OLD, "ranker-1-b": OLD}


@dataclass
class Pod:
    """Counters of one pod, series created with their first event."""

    present: bool = True
    counted: dict[str, list[float]] = field(default_factory=dict)

    def restart(self) -> None:
        self.counted.clear()

    def serve(self, requests: int, bad: int, slow: int) -> None:
        if not requests:
            return
        grown: dict[str, list[float]] = {
            "all": [requests],
            "bad": [min(bad, requests)],
            "sum": [requests * 0.7 + bad / 3],
        }
        fast = requests - min(slow, requests)
        grown["seconds"] = [fast // 2, fast, fast + min(slow, requests) // 2, requests]
        grown |= {"wins": [bad % 3], "losses": [slow % 2], "ties": [requests % 5]}
        for query, values in grown.items():
            if any(values) or query in self.counted:
                old = self.counted.get(query, [0.0] * len(values))
                self.counted[query] = [before + more for before, more in zip(old, values, strict=True)]

    def samples(self, query: str) -> tuple[Sample, ...]:
        values = self.counted.get(query) if self.present else None
        if values is None:
            return ()
        if query == "seconds":
            return tuple(Sample(f"le={edge}", value, edge) for edge, value in zip(EDGES, values, strict=True))
        return (Sample("", values[0]),)


Event = tuple[str, str, int, int, int]
"""Pod, what happens to it, requests, bad ones, slow ones."""

Stream = Sequence[Mapping[str, Reading]]


def stream(ticks: Sequence[Sequence[Event]]) -> list[dict[str, Reading]]:
    """By tick and query, what Prometheus has: from the beginning of the lead-in on."""
    fleet = {name: Pod() for name in PODS}
    found = []
    for number, events in enumerate(ticks):
        for name, what, requests, bad, slow in events:
            it = fleet[name]
            if what == "restart":
                it.restart()
            it.present = what != "gone"
            it.serve(requests, bad, slow)
        found.append({query: _reading(number, query, fleet) for query in QUERIES})
    return found


def _reading(number: int, query: str, fleet: Mapping[str, Pod]) -> Reading:
    rows: dict[Owner, dict[str, tuple[Sample, ...]]] = {}
    for name, it in fleet.items():
        if samples := it.samples(query):
            rows.setdefault(PODS[name], {})[name] = samples
    return Reading(START + at(ORIGIN - LEAD_IN + number), rows)


def backwards(of_instant: Reading) -> Reading:
    """A range has its rows in another order."""
    rows = {owner: {pod: pods[pod] for pod in list(pods)[::-1]} for owner, pods in list(of_instant.rows.items())[::-1]}
    return Reading(of_instant.at, rows)


def followed(
    ticks: Stream, *, wanted_at: int = 0, missed: Collection[tuple[int, str]] = (), deaf: Collection[int] = ()
) -> dict[str, object]:
    """What a process knows in the end that began to look at a tick, and missed some answers and some histories."""
    made = EvidenceBook(TICK, START)
    for number in range(wanted_at, len(ticks)):
        made.want(SHOP, question(*ALL))
        for query in QUERIES:
            if (number, query) in missed:
                made.failed("", query, "refused")
            else:
                made.answered("", query, ticks[number][query], [SHOP])
        if number in deaf and number < len(ticks) - 1:
            continue
        for gap in list(made.gaps(ticks[number][QUERIES[0]].at)):
            first, last = ((moment - ticks[0][QUERIES[0]].at) // TICK for moment in (gap.start, gap.end))
            made.filled(gap, {query: [backwards(t[query]) for t in ticks[first : last + 1]] for query in QUERIES})
    return {name: (bits(e.tally), e.origin, e.seen_at, e.fresh_at) for name, e in made.evidence(SHOP).items()}


def bits(tally: Tally | None) -> object:
    if tally is None:
        return None
    kinds = [tally.ratio, tally.ratio_for_breach]
    curves = [(k.x_c, k.n_c, k.x_b, k.n_b, k.log_likelihoods.tobytes()) if k else None for k in kinds]
    return replace(tally, ratio=None, ratio_for_breach=None, late=None), curves, bits(tally.late)


EVENTS = st.tuples(
    st.sampled_from(sorted(PODS)),
    st.sampled_from(["there", "there", "there", "gone", "restart"]),
    st.integers(0, 300),
    st.integers(0, 20),
    st.integers(0, 50),
)
TICKS = st.lists(st.lists(EVENTS, max_size=5), min_size=LEAD_IN + 2, max_size=25)


@settings(max_examples=60, deadline=None)
@given(TICKS, st.data())
def test_it_makes_no_difference_when_a_process_began_to_look_and_what_it_missed(
    ticks: list[list[Event]], data: st.DataObject
) -> None:
    seen = stream(ticks)
    last = len(seen) - 1
    always = followed(seen)
    late = followed(seen, wanted_at=data.draw(st.integers(1, last), label="wanted at"))
    some = st.sets(st.tuples(st.integers(0, last - 1), st.sampled_from(QUERIES)), max_size=20)
    deaf = data.draw(st.sets(st.integers(0, last), max_size=5), label="without history")
    healed = followed(seen, missed=data.draw(some, label="missed"), deaf=deaf)

    assert late == always
    assert healed == always


@pytest.mark.parametrize("seed", range(3))
def test_it_makes_no_difference_in_a_long_step_either(seed: int) -> None:
    chance = random.Random(seed)
    kinds = ["there"] * 60 + ["gone", "restart"]

    def tick() -> list[Event]:
        return [
            (p, chance.choice(kinds), chance.randrange(300), chance.randrange(9), chance.randrange(50)) for p in PODS
        ]

    seen = stream([tick() for _ in range(200)])
    missed = {(n, query) for n in range(199) for query in QUERIES if chance.random() < 0.1}
    always = followed(seen)

    assert followed(seen, wanted_at=150) == always
    assert followed(seen, wanted_at=199) == always
    assert followed(seen, missed=missed, deaf={n for n in range(199) if chance.random() < 0.3}) == always
