"""Shared reads: all requests for one token wait for one read, and the number of reads is bounded.

A request that gives up does not cancel the read, for others may wait for it and its result is worth
keeping. A finished read is taken off the list before anyone who waited for it runs again, so whoever
asks next finds what it left and does not join a read that is over.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from tallygate.core.errors import OverloadedError
from tallygate.licenses.license import License

Read = Callable[[Sequence[bytes]], Coroutine[None, None, License | None]]


class SharedReads:
    """The reads under way, by the first digest of their token."""

    def __init__(self, read: Read, *, max_running: int, max_waiting: int) -> None:
        """Run at most `max_running` calls of `read` at once, and let `max_waiting` requests wait for one."""
        self._read = read
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._slots = asyncio.Semaphore(max_running)
        self._tasks: dict[bytes, asyncio.Task[License | None]] = {}
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._tasks)

    async def join(self, digests: Sequence[bytes]) -> License | None:
        """Return what the read of this token answers, started now if there is none.

        Raises what the read raises, and OverloadedError at once when the bound is reached. Reads that
        nobody waits for any more count as well: they still need their turn.
        """
        task = self._tasks.get(digests[0])
        queue_is_full = task is None and len(self._tasks) >= self._max_running + self._max_waiting
        if self._waiting >= self._max_waiting or queue_is_full:
            message = f"{self._waiting} requests wait for {len(self._tasks)} licenses to be read"
            raise OverloadedError(message)
        self._waiting += 1
        try:
            return await asyncio.shield(task or self._start(digests))
        finally:
            self._waiting -= 1

    def start(self, digests: Sequence[bytes]) -> None:
        """Begin to read this token in the background, unless that is happening or all turns are taken."""
        if digests[0] not in self._tasks and len(self._tasks) < self._max_running:
            self._start(digests)

    async def close(self) -> None:
        """Cancel every read and wait until it has ended."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, digests: Sequence[bytes]) -> "asyncio.Task[License | None]":
        task = asyncio.create_task(self._run(digests), name="read a license")
        self._tasks[digests[0]] = task
        # The first callback to be added is the first to run: before any waiter's.
        task.add_done_callback(lambda done: self._end(digests[0], done))
        return task

    async def _run(self, digests: Sequence[bytes]) -> License | None:
        async with self._slots:
            return await self._read(digests)

    def _end(self, digest: bytes, task: "asyncio.Task[License | None]") -> None:
        del self._tasks[digest]
        if not task.cancelled():
            task.exception()  # looked at, so that a failed background read is not reported as forgotten
