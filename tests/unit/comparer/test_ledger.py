"""Which pairs are kept."""

from __future__ import annotations

from ops_commander.comparer.ledger import Worst
from ops_commander.integration.outputs.findings import Compared, Kind


def offered(worst: Worst, deviation: float, *kinds: Kind) -> None:
    worst.offer(Compared(deviation, frozenset(kinds)), lambda: ({"deviation": deviation, "kinds": sorted(kinds)}, {}))


def test_the_worst_stay() -> None:
    worst = Worst(3)
    for number in range(100):
        offered(worst, (number * 37 % 100) / 100)
    assert [pair["deviation"] for pair in worst.pairs] == [0.99, 0.98, 0.97]


def test_a_new_kind_finds_room_among_pairs_that_differ_more() -> None:
    worst = Worst(3)
    for _ in range(10):
        offered(worst, 1.0, Kind.FIELD_DROP)
    offered(worst, 0.0, Kind.PRECISION_LOSS)
    for _ in range(10):
        offered(worst, 1.0, Kind.FIELD_DROP)
    assert [pair["kinds"] for pair in worst.pairs] == [["field_drop"], ["field_drop"], ["precision_loss"]]


def test_pairs_that_are_the_same_are_not_kept_and_evidence_is_made_only_for_those_that_are() -> None:
    made: list[float] = []
    worst = Worst(1)

    def offer(deviation: float) -> None:
        def evidence() -> tuple[dict[str, float], dict[str, float]]:
            made.append(deviation)
            return {}, {}

        worst.offer(Compared(deviation), evidence)

    for deviation in (0.0, 0.5, 0.25, 0.75):
        offer(deviation)
    assert made == [0.5, 0.75]


def test_nothing_is_kept_where_nothing_is_wanted() -> None:
    worst = Worst(0)
    offered(worst, 1.0, Kind.STATUS)
    assert worst.pairs == []
