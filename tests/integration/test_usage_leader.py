"""One of several workers leads; when it is gone another takes over within seconds."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from support.servers import Database
from support.tcp_proxy import tcp_proxy

from tallygate.usage.leader import Leader

INTERVAL_S = 0.05
DEADLINE_S = 30.0
CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tallygate-leader' AND pid = $1"
HOLDER = """
SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""

LEADING = """
import asyncio, sys
from tallygate.usage.leader import Leader

async def work():
    print("leads", flush=True)
    await asyncio.Event().wait()

asyncio.run(Leader(sys.argv[1], work).run())
"""


class Worker:
    """A worker that notes when its work begins and ends."""

    def __init__(self, dsn: str) -> None:
        """Stand for the lead."""
        self.leader = Leader(dsn, self._work, interval_s=INTERVAL_S)
        self.changed = asyncio.Condition()
        self.begun = self.ended = 0

    async def _work(self) -> None:
        self.begun += 1
        await self._tell()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1
            await self._tell()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, is_so: Callable[["Worker"], bool]) -> None:
        """Wait until the worker is so."""
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: is_so(self))


@asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    """Run workers while the block runs."""
    tasks = [asyncio.create_task(worker.leader.run()) for worker in workers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def observer(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """Return a connection that looks on."""
    connection = await asyncpg.connect(database.dsn)
    yield connection
    await connection.close()


async def test_of_two_workers_one_leads_and_the_other_takes_over(
    database: Database, observer: asyncpg.Connection
) -> None:
    """When the leader's connection is cut its work stops, and another's begins."""
    first, second = Worker(database.dsn), Worker(database.dsn)
    async with running(first):
        await first.until(lambda worker: worker.begun == 1)
        async with running(second):
            await observer.execute(CUT, await observer.fetchval(HOLDER))
            await first.until(lambda worker: worker.ended == 1)
            taken = [first.until(lambda worker: worker.begun == 2), second.until(lambda worker: worker.begun == 1)]
            over = [asyncio.create_task(each) for each in taken]
            _, waiting = await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            assert first.leader.is_leading != second.leader.is_leading
    assert (first.ended, second.ended) == (first.begun, second.begun)


async def test_a_worker_that_stops_hands_over_at_once(database: Database) -> None:
    """Stopping gives the lock back; nobody waits for a time-out."""
    first, second = Worker(database.dsn), Worker(database.dsn)
    async with running(first):
        await first.until(lambda worker: worker.begun == 1)
    async with running(second):
        await second.until(lambda worker: worker.begun == 1)
        assert second.leader.is_leading
    assert not first.leader.is_leading
    assert not second.leader.is_leading


async def test_a_leader_whose_network_falls_silent_stops(database: Database) -> None:
    """It does not lead on in the belief that nobody else does."""
    async with tcp_proxy(database.dsn) as proxy:
        worker = Worker(proxy.dsn)
        async with running(worker):
            await worker.until(lambda each: each.begun == 1)
            proxy.silence()
            await worker.until(lambda each: each.ended == 1)
            assert not worker.leader.is_leading


async def test_a_leader_that_is_stopped_loses_the_lead(database: Database) -> None:
    """Its system keeps its connection alive (SIGSTOP, a frozen container), and it moves nothing: another takes over."""
    stopped = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LEADING, database.dsn, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        assert stopped.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            await stopped.stdout.readuntil(b"leads\n")
        stopped.send_signal(signal.SIGSTOP)
        second = Worker(database.dsn)
        async with running(second):
            await second.until(lambda worker: worker.begun == 1)
    finally:
        stopped.kill()
        await stopped.wait()


async def test_a_leader_waits_for_postgres(database: Database) -> None:
    """A worker that starts first leads as soon as there is something to lead."""
    async with tcp_proxy(database.dsn, is_open=False) as proxy:
        worker = Worker(proxy.dsn)
        async with running(worker):
            await proxy.open()
            await worker.until(lambda each: each.begun == 1)


async def test_work_that_fails_is_told_and_the_lock_given_back(database: Database) -> None:
    """Whoever supervises the leader hears of it; another may do better meanwhile."""

    async def fail() -> None:
        raise RuntimeError("no work today")

    with pytest.raises(RuntimeError, match="no work today"):
        await Leader(database.dsn, fail, interval_s=INTERVAL_S).run()
    worker = Worker(database.dsn)
    async with running(worker):
        await worker.until(lambda each: each.begun == 1)
