"""The load guard, on a clock of its own."""

from __future__ import annotations

from ops_commander.comparer.guard import BURST, PAIRS_A_SECOND, SMALLEST_SHARE, Guard


def run(guard: Guard, start: float, seconds: float, takes: float, *, fails: bool = False) -> tuple[int, int]:
    """Requests at 50 a second; how many were asked, and of how many."""
    asked = 0
    total = int(seconds * 50)
    for number in range(total):
        now = start + number / 50
        if guard.refusal(now) is None:
            asked += 1
            if fails:
                guard.failed(now)
            else:
                guard.answered(now, takes)
    return asked, total


def test_a_stable_version_as_always_is_asked_everything() -> None:
    guard = Guard()
    assert run(guard, 0, 60, 0.02) == (3000, 3000)
    assert guard.share == 1.0


def test_jitter_is_not_slow() -> None:
    guard = Guard()
    for number in range(2000):
        assert guard.refusal(number / 50) is None
        guard.answered(number / 50, 0.02 * (1 + number % 3 / 2))
    assert guard.share == 1.0


def test_a_slower_stable_version_is_asked_less_and_once_it_recovers_all_again() -> None:
    guard = Guard()
    run(guard, 0, 20, 0.02)
    asked, total = run(guard, 20, 10, 0.2)
    assert asked < total / 2
    assert guard.share <= 0.25
    run(guard, 30, 120, 0.02)
    assert guard.share == 1.0


def test_what_stays_slow_for_long_is_how_it_is() -> None:
    guard = Guard()
    run(guard, 0, 20, 0.02)
    run(guard, 20, 600, 0.1)
    assert guard.share == 1.0


def test_a_stable_version_that_fails_is_asked_next_to_nothing() -> None:
    guard = Guard()
    run(guard, 0, 10, 0.02)
    run(guard, 10, 10, 0.02, fails=True)
    asked, total = run(guard, 20, 20, 0.02, fails=True)
    assert guard.share == SMALLEST_SHARE
    assert asked <= total * SMALLEST_SHARE + 1


def test_the_share_is_halved_at_most_once_a_second() -> None:
    guard = Guard()
    for _ in range(10):
        guard.failed(5.0)
    assert guard.share == 0.5
    guard.failed(6.0)
    assert guard.share == 0.25


def test_the_budget_bounds_pairs_a_second() -> None:
    guard = Guard()
    reasons = [guard.refusal(1 + number / 10_000) for number in range(20_000)]
    assert set(reasons) == {None, "budget"}
    assert abs(reasons.count(None) - (2 * PAIRS_A_SECOND + BURST)) <= 2
