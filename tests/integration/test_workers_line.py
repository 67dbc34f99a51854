"""The line between a worker and its supervisor: reports that arrive whole, in time, or not at all."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tallygate.workers.line import MAX_REPORT_BYTES, SupervisorLine, WorkerLine

_DEADLINE_S = 30


@asynccontextmanager
async def lines(waiting: list[str], exposition: bytes = b"a 1\n") -> AsyncIterator[tuple[SupervisorLine, WorkerLine]]:
    """Connect both ends; the worker waits for what stands in `waiting`."""
    ours, theirs = socket.socketpair()
    supervisor = await SupervisorLine.open(ours)
    worker = WorkerLine(theirs, lambda: exposition, lambda: waiting, lambda: None)
    await worker.start()
    try:
        yield supervisor, worker
    finally:
        await worker.stop()
        await supervisor.until_closed(_DEADLINE_S)


async def test_a_report_tells_what_a_worker_waits_for_and_has_counted() -> None:
    """Each question brings a report of this moment."""
    waiting = ["licenses"]
    async with lines(waiting, b"a" * 500_000) as (supervisor, _):
        assert await supervisor.ask(_DEADLINE_S)
        assert supervisor.report is not None
        assert (supervisor.report.waiting_for, supervisor.report.exposition) == (("licenses",), b"a" * 500_000)
        waiting.clear()
        assert await supervisor.ask(_DEADLINE_S)
        assert supervisor.report.waiting_for == ()


async def test_a_worker_that_ends_reports_unasked() -> None:
    """What was counted between the last question and a clean end is not lost."""
    async with lines([]) as (supervisor, worker):
        await worker.stop()
        await supervisor.until_closed(_DEADLINE_S)
        assert supervisor.report is not None
        assert supervisor.report.exposition == b"a 1\n"


async def test_who_has_hung_up_is_not_waited_for() -> None:
    """A dead worker holds up no scrape: asking it says no, at once and without an error."""
    async with lines([]) as (supervisor, worker):
        await worker.stop()
        await supervisor.until_closed(_DEADLINE_S)
        assert not await supervisor.ask(3600)


async def test_a_worker_that_dies_while_asked_is_not_waited_for() -> None:
    """The end of the line ends the question."""
    ours, theirs = socket.socketpair()
    line = await SupervisorLine.open(ours)
    asking = asyncio.create_task(line.ask(3600))
    await asyncio.sleep(0)
    theirs.close()
    assert not await asyncio.wait_for(asking, _DEADLINE_S)
    await line.until_closed(_DEADLINE_S)


async def test_a_worker_that_is_silent_is_waited_for_until_the_deadline() -> None:
    """A question has a deadline; there is no report then."""
    ours, theirs = socket.socketpair()
    with theirs:
        line = await SupervisorLine.open(ours)
        assert not await line.ask(0.01)
        assert line.report is None
        await line.until_closed(0)


@pytest.mark.parametrize(
    "nonsense", [(MAX_REPORT_BYTES + 1).to_bytes(4), (5).to_bytes(4) + b"{bad\n"], ids=["too large", "no JSON"]
)
async def test_nonsense_ends_the_line(nonsense: bytes) -> None:
    """A report without bounds, or in no form we know, is not read into memory."""
    ours, theirs = socket.socketpair()
    with theirs:
        line = await SupervisorLine.open(ours)
        theirs.sendall(nonsense)
        await line.until_closed(_DEADLINE_S)
        assert line.report is None
        assert not await line.ask(3600)


async def test_a_worker_learns_that_its_supervisor_is_gone() -> None:
    """Where the kernel does not end it, the worker ends itself."""
    ours, theirs = socket.socketpair()
    is_gone = asyncio.Event()
    worker = WorkerLine(theirs, bytes, list, is_gone.set)
    await worker.start()
    ours.close()
    await asyncio.wait_for(is_gone.wait(), _DEADLINE_S)
    await worker.stop()
