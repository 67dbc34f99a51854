"""The threads of a worker share one CPU, follow the system to another one when it is crowded, and are let go again."""

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from tallygate.workers.placement import (
    CROWDED,
    FREE_S,
    LOOK_S,
    Spent,
    cpu_in_use,
    is_crowded,
    on_one_cpu,
    shares_cpu,
    spent,
)

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is one CPU only")

CALM, CROWD = 0.5 * CROWDED, 1.5 * CROWDED
"""Seconds that the first thread waits for others, for each that it runs."""


@pytest.fixture
def second_thread() -> Iterator[int]:
    """Return the id of another thread of this process."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert thread.native_id is not None
    yield thread.native_id
    over.set()
    thread.join()


class Time:
    """Time that moves when it is told to, and a first thread that waits for a share of it."""

    def __init__(self) -> None:
        """Begin now, calm."""
        self.share = CALM
        self._spent = Spent(0.0, 0.0, 0.0)
        self._asked: asyncio.Queue[float] = asyncio.Queue()
        self._go_on = asyncio.Event()

    def look(self) -> Spent:
        """Return what was spent so far."""
        return self._spent

    async def sleep(self, seconds: float) -> None:
        """Wait until `passed` lets it go on."""
        self._asked.put_nowait(seconds)
        await self._go_on.wait()
        self._go_on.clear()
        ran_s, waited_s, others_ran_s = self._spent
        self._spent = Spent(ran_s + seconds, waited_s + self.share * seconds, others_ran_s)

    async def asleep(self) -> float:
        """Return for how long it is asleep, once it is."""
        return await self._asked.get()

    def passed(self) -> None:
        """Let what is asleep go on."""
        self._go_on.set()


@pytest.fixture
async def time() -> Time:
    """Return time to move."""
    return Time()


def placed(*threads: int) -> list[set[int]]:
    """Return where each thread may run."""
    return [os.sched_getaffinity(thread) for thread in threads]


async def test_threads_share_a_cpu_and_are_let_go_at_the_end(second_thread: int, time: Time) -> None:
    """All threads of the process are on one CPU that it may use, and where they may run is as before afterwards."""
    before = os.sched_getaffinity(0)
    async with on_one_cpu(time.look, time.sleep):
        assert await time.asleep() == LOOK_S
        first, second = placed(os.getpid(), second_thread)
        assert len(first) == 1
        assert first == second
        assert first <= before
    assert placed(os.getpid(), second_thread) == [before, before]


async def test_a_calm_cpu_is_kept(second_thread: int, time: Time) -> None:
    """As long as nobody else is in the way nothing is moved."""
    async with on_one_cpu(time.look, time.sleep):
        for _ in range(3):
            assert await time.asleep() == LOOK_S
            assert len(placed(second_thread)[0]) == 1
            time.passed()


async def test_a_crowded_cpu_is_left_to_the_system(second_thread: int, time: Time) -> None:
    """Who waits too long for others is let go for a moment, to be moved, and then kept together again."""
    everywhere = os.sched_getaffinity(0)
    async with on_one_cpu(time.look, time.sleep):
        assert await time.asleep() == LOOK_S
        time.share = CROWD
        time.passed()
        assert await time.asleep() == FREE_S
        assert placed(os.getpid(), second_thread) == [everywhere, everywhere]
        time.passed()
        assert await time.asleep() == LOOK_S
        first, second = placed(os.getpid(), second_thread)
        assert len(first) == 1
        assert first == second


def test_waiting_for_our_own_threads_is_no_crowd() -> None:
    """On the one CPU that they share, threads wait for each other: that is no reason to move."""
    before = Spent(10.0, 1.0, 2.0)
    assert is_crowded(before, Spent(11.0, 1.3, 2.0))
    assert not is_crowded(before, Spent(11.0, 1.3, 2.3))
    assert not is_crowded(before, Spent(11.0, 1.1, 2.0))


def test_little_is_waited_for_where_little_is_done() -> None:
    """A worker with little to do moves too when it waits for much of that: its callers wait with it."""
    assert is_crowded(Spent(10.0, 1.0, 2.0), Spent(10.1, 1.05, 2.0))


def test_as_many_workers_as_cpus_share_none() -> None:
    """Unless told otherwise a worker keeps to one CPU where no other could be idle."""
    cpus = len(os.sched_getaffinity(0))
    assert shares_cpu("auto", cpus)
    assert not shares_cpu("auto", cpus - 1)
    assert shares_cpu("one", 1)
    assert not shares_cpu("any", cpus)


def test_the_system_tells_where_we_are_and_what_we_spent(second_thread: int) -> None:
    """What is read of the kernel's files is true of this process."""
    del second_thread
    assert cpu_in_use() in os.sched_getaffinity(0)
    before, after = spent(), spent()
    assert 0 < before.ran_s <= after.ran_s
    assert 0 <= before.waited_s <= after.waited_s
    assert 0 <= before.others_ran_s <= after.others_ran_s
