"""All workers together: started, kept, replaced one by one, ended.

Owns the order of starts, rolling restarts and the end. Does not own how one worker lives (`worker`), signals, or the
pages of operators. Concurrency: one event loop. Failure: InputError when a worker refuses its settings at the start;
TallygateError when a worker had to be killed at the end.
"""

import asyncio
from collections.abc import Sequence

import structlog

from tallygate.core.errors import TallygateError
from tallygate.workers.worker import State, Worker

_log = structlog.get_logger("tallygate.workers")


class Supervisor:
    """Keeps workers running until told to stop."""

    def __init__(self, workers: Sequence[Worker], *, roll_deadline_s: float = 60.0) -> None:
        """Take the workers, not started, and how long a replaced one may take until it is ready."""
        self.workers = workers
        self._roll_deadline_s = roll_deadline_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    def is_ready(self) -> bool:
        """Say whether requests can be sent here: at least one worker decides, and nobody has asked for the end."""
        return not self._is_stopping and any(worker.state is State.READY for worker in self.workers)

    async def run(self, stop: asyncio.Event, roll: asyncio.Event) -> None:
        """Live until `stop` is set; each time `roll` is set, replace every worker's process, one at a time."""
        asked = asyncio.create_task(stop.wait(), name="stop")
        rolling = asyncio.create_task(self._roll_when(roll), name="roll")
        try:
            await self._begin(asked)
            await self._until_done({asked, *self._tasks})
        finally:
            self._is_stopping = True
            for task in (asked, rolling):
                task.cancel()
            await asyncio.wait({asked, rolling})
            await self._end()

    async def _begin(self, asked: "asyncio.Task[bool]") -> None:
        """Start the first worker alone: settings that are wrong are told once, not by every worker."""
        first, *others = self.workers
        self._start(first)
        heard = asyncio.create_task(first.until_heard(), name="heard")
        try:
            await self._until_done({asked, heard, *self._tasks})
        finally:
            heard.cancel()
            await asyncio.wait({heard})
        if not asked.done():
            for worker in others:
                self._start(worker)

    def _start(self, worker: Worker) -> None:
        self._tasks.add(asyncio.create_task(worker.run(), name=f"worker {worker.number}"))

    async def _until_done(self, tasks: "set[asyncio.Task[None] | asyncio.Task[bool]]") -> None:
        """Wait for the first of the tasks to be done; raise what it raised."""
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _end(self) -> None:
        _log.info("the workers are asked to end")
        ended = await asyncio.gather(*(worker.stop() for worker in self.workers))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        killed = [worker.number for worker, by_itself in zip(self.workers, ended, strict=True) if not by_itself]
        if killed:
            raise TallygateError(f"workers {killed} did not end in time and were killed")

    async def _roll_when(self, roll: asyncio.Event) -> None:
        while True:
            await roll.wait()
            roll.clear()
            _log.info("every worker is replaced, one at a time")
            for worker in self.workers:
                if not await self._all_ready():
                    _log.error("the rolling restart is given up, for a worker is not ready")
                    break
                await worker.replace()
            else:
                if await self._all_ready():
                    _log.info("every worker is replaced")

    async def _all_ready(self) -> bool:
        return all(await asyncio.gather(*(worker.until_ready(self._roll_deadline_s) for worker in self.workers)))
