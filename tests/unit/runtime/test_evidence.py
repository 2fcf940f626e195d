"""The book of answers: whose query, which rows, how old."""

from __future__ import annotations

import math
from datetime import timedelta

from ops_commander.adapters.prometheus import Answer
from ops_commander.api.v1alpha1 import Objective, Quantile, Ratio
from ops_commander.core.snapshot import Buckets
from ops_commander.runtime.evidence import EvidenceBook
from tests.unit.virtual import START

SHOP, BANK = ("shop", "ranker"), ("bank", "ranker")
ERRORS = Objective(name="errors", ratio=Ratio(bad="bad[$window]", total="all[$window]"), max=0.01)
SLOW = Objective(name="slow", quantile=Quantile(buckets="seconds[$window]"), max=0.5)
DRIFT = SLOW.model_copy(update={"name": "drift", "relative_to_stable": True})
SECOND = timedelta(seconds=1)


def answer(seconds: int = 0, **pods: float) -> Answer:
    return Answer(START + seconds * SECOND, {("shop", pod): value for pod, value in pods.items()})


def test_a_query_that_many_want_is_asked_once() -> None:
    book = EvidenceBook(START)
    book.want(SHOP, [ERRORS, SLOW])
    book.want(BANK, [ERRORS])

    assert {query: sorted(keys) for query, keys in book.queries().items()} == {
        "bad[1m]": [BANK, SHOP],
        "all[1m]": [BANK, SHOP],
        "seconds[1m]": [SHOP],
    }


def test_a_rollout_at_rest_wants_nothing() -> None:
    book = EvidenceBook(START)
    book.want(SHOP, [ERRORS])
    book.want(SHOP, [])

    assert book.queries() == {}


def test_rows_of_the_present_pods_of_each_arm_are_added_up() -> None:
    book = EvidenceBook(START)
    book.answered("bad[1m]", answer(a=1.0, b=2.0, old=500.0))
    book.answered("all[1m]", answer(a=100.0, b=200.0, s=1000.0, old=500.0))

    evidence = book.evidence(SHOP, ERRORS, {"a", "b", "c"}, {"s"})

    assert evidence.candidate == (3.0, 300.0)
    assert evidence.stable == (None, 1000.0)
    assert evidence.at == evidence.fresh_at == START


def test_pods_of_the_same_name_in_another_namespace_do_not_count() -> None:
    book = EvidenceBook(START)
    book.answered("bad[1m]", answer())
    book.answered("all[1m]", answer(a=100.0))

    assert book.evidence(BANK, ERRORS, {"a"}, set()).candidate == (None, None)


def test_evidence_is_as_old_as_the_older_of_its_answers() -> None:
    book = EvidenceBook(START)
    book.answered("bad[1m]", answer(10))
    book.answered("all[1m]", answer(5, a=100.0))

    assert book.evidence(SHOP, ERRORS, {"a"}, set()).at == START + 5 * SECOND


def test_one_query_without_an_answer_is_no_evidence() -> None:
    book = EvidenceBook(START)
    book.answered("all[1m]", answer(a=100.0))
    book.failed("bad[1m]", "no answer within 6.0s")

    evidence = book.evidence(SHOP, ERRORS, {"a"}, set())

    assert (evidence.at, evidence.candidate, evidence.error) == (None, (), "no answer within 6.0s")


def test_after_an_error_the_answer_before_stays_and_grows_old() -> None:
    book = EvidenceBook(START)
    for query in ("bad[1m]", "all[1m]"):
        book.answered(query, answer(a=100.0))
        book.failed(query, "connection refused")

    evidence = book.evidence(SHOP, ERRORS, {"a"}, set())

    assert (evidence.at, evidence.error) == (START, "connection refused")
    assert evidence.candidate == (100.0, 100.0)


def test_an_error_and_its_end_are_told_once() -> None:
    book = EvidenceBook(START)
    told = [book.failed("q", "x"), book.failed("q", "x"), book.answered("q", answer()), book.answered("q", answer())]

    assert told == [True, False, True, False]


def test_answers_without_rows_of_the_candidate_are_not_fresh() -> None:
    book = EvidenceBook(START)
    for query in ("bad[1m]", "all[1m]"):
        book.answered(query, answer(a=1.0))
    book.evidence(SHOP, ERRORS, {"a"}, set())
    for query in ("bad[1m]", "all[1m]"):
        book.answered(query, answer(30))

    evidence = book.evidence(SHOP, ERRORS, {"a"}, set())

    assert (evidence.at, evidence.fresh_at) == (START + 30 * SECOND, START)


def test_a_relative_objective_is_fresh_with_both_arms_only() -> None:
    book = EvidenceBook(START)
    histogram = {0.1: 5.0, math.inf: 9.0}
    book.answered("seconds[1m]", Answer(START, buckets={("shop", "a"): histogram}))
    assert book.evidence(SHOP, DRIFT, {"a"}, {"s"}).fresh_at is None
    assert book.evidence(SHOP, SLOW, {"a"}, {"s"}).fresh_at == START

    book.answered("seconds[1m]", Answer(START, buckets={("shop", "a"): histogram, ("shop", "s"): histogram}))

    assert book.evidence(SHOP, DRIFT, {"a"}, {"s"}).fresh_at == START


def test_histograms_are_added_edge_by_edge_and_edges_that_one_pod_lacks_are_left_out() -> None:
    book = EvidenceBook(START)
    rows = {
        ("shop", "a"): {0.1: 1.0, 0.5: 2.0, math.inf: 3.0},
        ("shop", "b"): {0.1: 10.0, math.inf: 30.0},
    }
    book.answered("seconds[1m]", Answer(START, buckets=rows))

    evidence = book.evidence(SHOP, SLOW, {"a", "b"}, set())

    assert evidence.candidate == (Buckets((0.1, math.inf), (11.0, 33.0)),)


def test_what_is_forgotten_is_not_fresh_any_more() -> None:
    book = EvidenceBook(START)
    for query in ("bad[1m]", "all[1m]"):
        book.answered(query, answer(a=1.0))
    book.evidence(SHOP, ERRORS, {"a"}, set())

    book.forget(SHOP)

    assert book.evidence(SHOP, ERRORS, {"gone"}, set()).fresh_at is None
