"""One worker: a number and an endpoint, served by one process after another.

Owns when a process is started, replaced, found hanging, and ended. Does not own the other workers (`supervisor`).
Concurrency: one event loop; one task runs `run`, others ask. Failure: a process that ends unasked is started again
after a pause; one that refuses its settings before it was ever ready ends `run` with InputError.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from tallygate.core.errors import InputError
from tallygate.workers.backoff import Backoff
from tallygate.workers.process import Launch, WorkerProcess, reason_of

_log = structlog.get_logger("tallygate.workers")
_BAD_INPUT = 2


class State(StrEnum):
    """What a worker is at; the label `state` of `tallygate_workers`."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Terms:
    """How workers are kept, in seconds.

    `grace_s` is how long a process may take to end when asked; `look_s` how often it is asked for a report (what it
    counts between its last and a sudden end is lost), `look_early_s` while it is not ready; `silence_s` after how
    long without an answer it is taken to hang.
    """

    grace_s: float
    look_s: float = 1.0
    look_early_s: float = 0.1
    silence_s: float = 30.0


@dataclass(slots=True)
class Worker:
    """A worker, not started; `on_gone` is told the last metrics of each process, `on_crash` of each sudden end."""

    number: int
    endpoint: str
    launch: Launch
    terms: Terms
    on_gone: Callable[[bytes], None]
    on_crash: Callable[[], None]
    process: WorkerProcess | None = None
    state: State = State.STARTING
    _backoff: Backoff = field(default_factory=Backoff)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _was_ready: bool = False
    _is_asked: bool = False

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Return what its process still waits for."""
        report = None if self.process is None else self.process.line.report
        return ("process",) if report is None else report.waiting_for

    @property
    def exposition(self) -> bytes:
        """Return the newest metrics of its process; empty when there are none."""
        report = None if self.process is None else self.process.line.report
        return b"" if report is None else report.exposition

    async def run(self) -> None:
        """Keep it served until `stop`."""
        while not self._stop.is_set():
            try:
                self.process = await WorkerProcess.start(self.launch, self.number, self.endpoint)
            except OSError as error:
                await self._pause(0.0, f"it could not be started: {error}")
                continue
            self.state = State.STARTING
            _log.info("a worker is started", worker=self.number, pid=self.process.pid, endpoint=self.endpoint)
            if self._stop.is_set():  # meanwhile: it has nothing to finish yet
                self.process.send(signal.SIGKILL)
            code = await self._watched(self.process)
            ran_s = self._bury()
            if code == _BAD_INPUT and not self._was_ready:
                raise InputError(f"worker {self.number}", "refuses its settings", "it has said why")
            if self._is_asked or self._stop.is_set():
                self._is_asked = False
                _log.info("a worker has ended, as asked", worker=self.number, why=reason_of(code))
                continue
            await self._pause(ran_s, reason_of(code))

    async def refresh(self, deadline_s: float) -> None:
        """Ask its process for a report; the last one stands when none comes in time."""
        if self.process is not None:
            await self.process.line.ask(deadline_s)

    async def until_ready(self, deadline_s: float) -> bool:
        """Wait until it is ready; say whether it is within `deadline_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._ready.wait()
        return self._ready.is_set()

    async def until_heard(self) -> None:
        """Wait until its process has reported, which it does once its settings have turned out to be usable."""
        await self._heard.wait()

    async def replace(self) -> None:
        """End its process; `run` starts another at once."""
        if self.process is not None:
            self._is_asked = True
            await self._end(self.process)

    async def stop(self) -> bool:
        """End its process for good; say whether it ended by itself, and had not to be killed."""
        self._stop.set()
        return self.process is None or await self._end(self.process)

    async def _end(self, process: WorkerProcess) -> bool:
        self._ready.clear()
        if self.state is not State.DRAINING:  # a second signal would end it at once
            self.state = State.DRAINING
            process.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.terms.grace_s):
                await process.ended()
        except TimeoutError:
            _log.error("a worker did not end in time and is killed", worker=self.number, pid=process.pid)
            process.send(signal.SIGKILL)
            await process.ended()
            return False
        return True

    async def _watched(self, process: WorkerProcess) -> int:
        looking = asyncio.create_task(self._look(process), name=f"worker {self.number}")
        try:
            return await process.ended()
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def _look(self, process: WorkerProcess) -> None:
        # Counted in questions, not by a clock: if we are paused, the worker is not to blame.
        silent_s = 0.0
        while silent_s <= self.terms.silence_s:
            if await process.line.ask(self.terms.look_s):
                silent_s = 0.0
                self._heard.set()
                self._judge()
            else:
                silent_s += self.terms.look_s
            is_early = self.state is State.STARTING
            await asyncio.sleep(self.terms.look_early_s if is_early else self.terms.look_s)
        _log.error("a worker does not answer and is killed", worker=self.number, pid=process.pid)
        process.send(signal.SIGKILL)

    def _judge(self) -> None:
        if self.state is State.DRAINING:
            return
        if not self.waiting_for:
            self.state = State.READY
            self._was_ready = True
            self._ready.set()
        else:
            self.state = State.STARTING
            self._ready.clear()

    def _bury(self) -> float:
        """Forget a process that has ended, its counts handed on; return the seconds it ran."""
        assert self.process is not None  # noqa: S101 - it has just ended
        ran_s = self.process.ran_s()
        self.on_gone(self.exposition)
        self.process = None
        self._ready.clear()
        return ran_s

    async def _pause(self, ran_s: float, why: str) -> None:
        pause_s = self._backoff.after(ran_s)
        self.state = State.WAITING
        _log.error(
            "a worker is gone and is started again", worker=self.number, why=why, ran_s=round(ran_s, 1), pause_s=pause_s
        )
        self.on_crash()
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stop.wait()
