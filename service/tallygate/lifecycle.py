"""The life of the data plane: start order, readiness, drain, stop order, and tasks that must not die.

Order: probes first (so that a waiting process can be seen waiting), then background tasks, then what
must be known before the first decision, then the transport. Stopping runs backwards, after a drain in
which health says NOT_SERVING while calls are still answered. Does not own what any part does.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol

import structlog

from tallygate.core.errors import DependencyError

_log = structlog.get_logger("tallygate.lifecycle")
_RESTART_PAUSE_S = 1.0
_GRACE_S = 5.0

Work = Callable[[], Awaitable[None]]


class Serving(Protocol):
    """The transport, as far as a life needs it."""

    @property
    def address(self) -> str:
        """Return where it listens."""
        ...

    async def start(self) -> None:
        """Listen."""
        ...

    def set_serving(self, is_serving: bool, /) -> None:  # noqa: FBT001 - it is the one thing set
        """Tell health checks whether to send calls here."""
        ...

    async def stop(self, grace_s: float, /) -> None:
        """Refuse new calls and finish those under way."""
        ...


class Probes(Protocol):
    """The HTTP endpoint of operators."""

    async def start(self) -> None:
        """Listen."""
        ...

    async def stop(self) -> None:
        """Close."""
        ...


class Lifecycle:
    """Runs a data plane once, from start to stop."""

    def __init__(
        self,
        *,
        transport: Serving,
        background: Mapping[str, Work],
        prerequisites: Mapping[str, Work],
        closers: Sequence[Work],
        drain_s: float,
    ) -> None:
        """Take the parts.

        `background` tasks run until the end and are restarted when they fail. `prerequisites` each return
        once something needed before the first decision is there, however long that takes; their names are
        what readiness waits for. `closers` run last, in order.
        """
        self._transport = transport
        self._background = background
        self._prerequisites = prerequisites
        self._closers = closers
        self._drain_s = drain_s
        self._waiting_for = {*prerequisites, "transport"}

    def not_ready(self) -> list[str]:
        """Return what this process still waits for before it can decide; empty when ready."""
        return sorted(self._waiting_for)

    async def run(self, probes: Probes, stop: asyncio.Event) -> None:
        """Live until `stop` is set. Raises InputError when an address cannot be had."""
        async with AsyncExitStack() as left_open:
            left_open.push_async_callback(probes.stop)
            for close in reversed(self._closers):
                left_open.push_async_callback(close)
            await probes.start()
            tasks = [asyncio.create_task(supervise(name, work), name=name) for name, work in self._background.items()]
            left_open.push_async_callback(_cancel, *tasks)
            if await self._prepared(stop):
                await self._serve(stop)

    async def _prepared(self, stop: asyncio.Event) -> bool:
        """Wait for every prerequisite or for `stop`; say whether it was the former."""
        stopped = asyncio.create_task(stop.wait())
        waiting = {asyncio.create_task(self._await(name, work)) for name, work in self._prerequisites.items()}
        try:
            while waiting and not stop.is_set():
                done, _ = await asyncio.wait({stopped, *waiting}, return_when=asyncio.FIRST_COMPLETED)
                for task in done & waiting:
                    task.result()
                waiting -= done
            return not stop.is_set()
        finally:
            await _cancel(stopped, *waiting)

    async def _await(self, name: str, work: Work) -> None:
        await work()
        self._waiting_for.discard(name)

    async def _serve(self, stop: asyncio.Event) -> None:
        await self._transport.start()
        self._transport.set_serving(True)
        self._waiting_for.discard("transport")
        _log.info("ready", at=self._transport.address)
        await stop.wait()
        _log.info("draining", drain_s=self._drain_s)
        self._waiting_for.add("drain")
        self._transport.set_serving(False)
        await asyncio.sleep(self._drain_s)
        await self._transport.stop(_GRACE_S)


async def supervise(name: str, work: Work) -> None:
    """Run `work` for ever: when it fails or returns, say so and start it again after a pause."""
    while True:
        try:
            await work()
            _log.error("a background task ended and is started again", task=name)
        except Exception:  # noqa: BLE001 - whatever it was, the task must go on
            _log.exception("a background task failed and is started again", task=name)
        await asyncio.sleep(_RESTART_PAUSE_S)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def every(interval_s: float, work: Work) -> None:
    """Do `work` every `interval_s` seconds until cancelled; a dependency that is away is met next time."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            await work()
        except DependencyError as error:
            _log.debug("put off", problem=str(error))


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets; a second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask, number)
    return stop
