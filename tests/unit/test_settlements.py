"""The queue between access logs and the counters."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tallygate.core.errors import LimiterUnavailableError
from tallygate.decision.outcomes import Outcome
from tallygate.services.access_logs import AccessLogs
from tallygate.services.settlements import Settlements


def outcome(number: int) -> Outcome:
    """Return an outcome of its own."""
    return Outcome("cus_1", str(number), "GET /", 200)


class Store:
    """Settles, unless it is away; tells when somebody has met it."""

    def __init__(self) -> None:
        """Begin present."""
        self.is_away = False
        self.settled: list[str] = []
        self.met = asyncio.Event()

    async def settle(self, told: Outcome) -> str:
        """Settle, or be away."""
        self.met.set()
        if self.is_away:
            raise LimiterUnavailableError("away")
        self.settled.append(told.receipt)
        return "settled"


@asynccontextmanager
async def running(
    settle: Callable[[Outcome], Awaitable[str]], counted: Counter[str], *, waiting: int = 4
) -> AsyncIterator[Settlements]:
    """Run a small queue."""
    queue = Settlements(settle, lambda result: counted.update([result]), waiting=waiting, at_once=2, pause_s=0)
    task = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def counted() -> Counter[str]:
    """Return what was counted by result."""
    return Counter()


async def test_everything_is_settled_and_counted(counted: Counter[str]) -> None:
    """More than fits at once is settled in the end, and requests without receipts are told apart."""
    store = Store()
    async with running(store.settle, counted) as queue:
        for number in range(20):
            await queue.put(outcome(number))
        await queue.put(None)
        await queue.drain(20)
    assert sorted(map(int, store.settled)) == list(range(20))
    assert counted == {"settled": 20, "none": 1}


async def test_a_store_that_is_away_gets_all_that_fits_when_it_is_back(counted: Counter[str]) -> None:
    """The queue and what is under way wait for it; the rest is dropped at once, counted, and blocks nobody."""
    store = Store()
    store.is_away = True
    async with running(store.settle, counted) as queue:
        await queue.put(outcome(0))
        await store.met.wait()
        for number in range(1, 20):
            await queue.put(outcome(number))
        store.is_away = False
        await queue.drain(20)
    assert counted["dropped"] >= 20 - 4 - 2 - 1
    assert counted == {"settled": len(store.settled), "dropped": 20 - len(store.settled)}
    assert len(set(store.settled)) == len(store.settled) >= 4


async def test_a_full_queue_holds_up_a_stream_while_the_store_answers(counted: Counter[str]) -> None:
    """Nothing is dropped, and no more than the bound is ever held: the stream is not read on."""
    open_gate, has_come = asyncio.Event(), asyncio.Event()
    read = 0

    async def settle(_: Outcome) -> str:
        await open_gate.wait()
        return "settled"

    async def messages() -> AsyncIterator[bytes]:
        nonlocal read
        for read in range(1, 11):
            if read == 3:
                has_come.set()
            yield b"3"

    async with running(settle, counted) as queue:
        logs = AccessLogs(lambda message: map(outcome, range(int(message))), queue.put)
        streaming = asyncio.create_task(logs(messages()))
        await has_come.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert (read, len(queue), streaming.done()) == (3, 4, False)
        open_gate.set()
        assert await streaming == b""
        await queue.drain(20)
    assert counted == {"settled": 30}


async def test_one_that_cannot_be_settled_stops_no_other(counted: Counter[str]) -> None:
    """A fault of ours costs that one outcome."""

    async def settle(told: Outcome) -> str:
        if told.receipt == "0":
            raise KeyError(told.receipt)
        return "settled"

    async with running(settle, counted) as queue:
        for number in range(3):
            await queue.put(outcome(number))
        await queue.drain(20)
    assert counted == {"dropped": 1, "settled": 2}


async def test_those_that_are_refused_for_ever_hold_up_no_other(counted: Counter[str]) -> None:
    """As many as are tried at once (their counters cannot be read, say) wait in the queue, and others pass them."""
    are_over = asyncio.Event()

    async def settle(told: Outcome) -> str:
        if told.receipt in "01" and not are_over.is_set():
            raise LimiterUnavailableError("redis refuses")
        if counted["settled"] == 9:
            are_over.set()
        return "settled"

    async with running(settle, counted, waiting=20) as queue:
        for number in range(12):
            await queue.put(outcome(number))
        await queue.drain(20)
    assert counted == {"settled": 12}


async def test_draining_gives_up_in_time(counted: Counter[str]) -> None:
    """A store that stays away does not hold up a stop for ever."""
    store = Store()
    store.is_away = True
    async with running(store.settle, counted) as queue:
        await queue.put(outcome(0))
        await queue.drain(0)
    assert store.settled == []
