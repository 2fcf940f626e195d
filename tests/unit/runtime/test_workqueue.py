"""The queue: each key once, urgent ones first, delays and backoff."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ops_commander.runtime.workqueue import FIRST_BACKOFF, LONGEST_BACKOFF, Key, WorkQueue
from tests.unit import virtual

A, B, C = ("shop", "a"), ("shop", "b"), ("shop", "c")


async def all_of(queue: WorkQueue, within: float = 0.0) -> list[Key]:
    """The keys that come within a time, each worked on in an instant."""
    seen: list[Key] = []
    while True:
        try:
            async with asyncio.timeout(within):
                key = await queue.get()
        except TimeoutError:
            return seen
        seen.append(key)
        queue.done(key)


def test_a_key_that_waits_is_not_queued_again() -> None:
    async def main() -> None:
        queue = WorkQueue()
        for key in (A, B, A, A, B):
            queue.add(key)
        assert len(queue) == 2
        assert await all_of(queue, 0.01) == [A, B]

    virtual.run(main())


def test_a_key_that_is_at_work_comes_again_once_and_only_afterwards() -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add(A)
        assert await queue.get() == A
        queue.add(A)
        queue.add(A)
        queue.add(B)
        assert await queue.get() == B
        assert len(queue) == 0
        queue.done(A)
        assert await all_of(queue, 0.01) == [A]

    virtual.run(main())


def test_urgent_keys_come_first_even_if_they_were_waiting() -> None:
    async def main() -> None:
        queue = WorkQueue()
        for key in (A, B, C):
            queue.add(key)
        queue.add(C, urgent=True)
        queue.add(C, urgent=True)
        assert await all_of(queue, 0.01) == [C, A, B]

    virtual.run(main())


def test_a_key_that_became_urgent_while_at_work_is_urgent_afterwards() -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add(A)
        await queue.get()
        queue.add(A, urgent=True)
        queue.add(A)
        queue.add(B)
        queue.done(A)
        assert await all_of(queue, 0.01) == [A, B]

    virtual.run(main())


def test_a_preferred_key_goes_before_others_and_behind_urgent_ones() -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add(B)
        queue.prefer(B, wanted=True)
        queue.add(A)
        queue.add(B)
        queue.add(C, urgent=True)
        assert await all_of(queue, 0.01) == [C, B, A]

        queue.add_after(A, 1.0)
        queue.add_after(B, 2.0)
        await asyncio.sleep(3.0)
        assert await queue.get() == B, "also where it comes by its time"
        queue.add(B)
        queue.done(B)
        assert await all_of(queue, 0.01) == [B, A], "and again after it was at work"

        queue.prefer(B, wanted=False)
        queue.add(A)
        queue.add(B)
        assert await all_of(queue, 0.01) == [A, B]

    virtual.run(main())


def test_a_delayed_key_comes_when_it_is_due_and_the_earliest_wish_counts() -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add_after(A, 9.0)
        queue.add_after(A, 3.0)
        queue.add_after(A, 5.0)
        queue.add_after(B, 4.0)
        assert (await queue.get(), virtual.elapsed()) == (A, 3.0)
        queue.done(A)
        assert (await queue.get(), virtual.elapsed()) == (B, 4.0)
        queue.done(B)
        assert await all_of(queue, 60) == []

    virtual.run(main())


def test_a_key_that_comes_early_is_not_due_any_more() -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add_after(A, 5.0)
        queue.add(A)
        assert await all_of(queue, 60) == [A]

    virtual.run(main())


def test_a_delay_of_nothing_is_now() -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add_after(A, 0.0)
        queue.add_after(B, -1.0)
        assert await all_of(queue, 0.01) == [A, B]

    virtual.run(main())


def test_a_delay_that_ends_while_the_key_is_at_work_brings_it_again() -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add(A)
        await queue.get()
        queue.add_after(A, 1.0)
        await asyncio.sleep(2.0)
        queue.add(B)
        assert await queue.get() == B
        queue.done(A)
        assert await all_of(queue, 0.01) == [A]

    virtual.run(main())


def test_retries_come_later_and_later_until_one_succeeds() -> None:
    async def main() -> None:
        queue = WorkQueue()
        delays = []
        for _ in range(10):
            delays.append(queue.retry(A))
            await queue.get()
            queue.done(A)
        assert delays[:4] == [FIRST_BACKOFF, FIRST_BACKOFF * 2, FIRST_BACKOFF * 4, FIRST_BACKOFF * 8]
        assert max(delays) == delays[-1] == LONGEST_BACKOFF
        queue.succeeded(A)
        assert queue.retry(A) == FIRST_BACKOFF

    virtual.run(main())


async def _crew(queue: WorkQueue, work: Callable[[Key], Awaitable[None]], workers: int, seconds: float) -> None:
    async def worker() -> None:
        while True:
            key = await queue.get()
            await work(key)
            queue.done(key)

    tasks = [asyncio.create_task(worker()) for _ in range(workers)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_many_workers_never_have_the_same_key_and_none_is_lost() -> None:
    async def main() -> None:
        queue = WorkQueue()
        keys = [("shop", str(number)) for number in range(50)]
        at_work: set[Key] = set()
        done: list[Key] = []

        async def work(key: Key) -> None:
            assert key not in at_work
            at_work.add(key)
            queue.add(keys[(int(key[1]) + 1) % 50]) if len(done) < 500 else None
            await asyncio.sleep(0.05)
            at_work.discard(key)
            done.append(key)

        for number, key in enumerate(keys):
            queue.add_after(key, number % 7 * 0.1)
        await _crew(queue, work, workers=8, seconds=60)
        assert set(done) == set(keys)
        assert len(queue) == 0

    virtual.run(main())


def test_a_key_due_wakes_one_worker_of_many_that_sleep() -> None:
    async def main() -> None:
        queue = WorkQueue()
        times: list[float] = []

        async def work(_: Key) -> None:
            times.append(virtual.elapsed())
            await asyncio.sleep(10)

        for number, key in enumerate((A, B, C)):
            queue.add_after(key, 1.0 + number * 0.001)
        await _crew(queue, work, workers=5, seconds=5)
        assert times == [1.0, 1.001, 1.002]

    virtual.run(main())


def test_calm_is_when_no_urgent_key_waits() -> None:
    async def main() -> None:
        queue = WorkQueue()
        queue.add(("shop", "routine"))
        assert queue.is_calm
        await queue.calm(10)
        assert virtual.elapsed() == 0
        queue.add(("shop", "a"), urgent=True)
        queue.add(("shop", "routine"), urgent=True)
        waiting = asyncio.create_task(queue.calm(10))
        assert await queue.get() == ("shop", "a")
        await asyncio.sleep(1)
        assert not queue.is_calm and not waiting.done()
        assert await queue.get() == ("shop", "routine")
        await asyncio.sleep(0.1)
        assert waiting.done()
        queue.add(("shop", "b"), urgent=True)
        await queue.calm(2)
        assert virtual.elapsed() == pytest.approx(3.1)

    virtual.run(main())
