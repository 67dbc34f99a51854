"""The life of the data plane: what starts and stops when, and what readiness says meanwhile."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest

from tallygate import lifecycle
from tallygate.core.errors import InputError
from tallygate.lifecycle import Lifecycle, Work, stop_on_signals, supervise


@dataclass
class Diary:
    """What happened, in order; `wrote` wakes whoever waits for an entry."""

    entries: list[str] = field(default_factory=list)
    wrote: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, entry: str) -> None:
        """Note something."""
        self.entries.append(entry)
        self.wrote.set()

    async def until(self, entry: str, times: int = 1) -> None:
        """Wait until `entry` has been written so often."""
        async with asyncio.timeout(10):
            while self.entries.count(entry) < times:
                self.wrote.clear()
                await self.wrote.wait()


class Transport:
    """Writes down what it is told, calling `told` first; `failure` is raised instead of listening."""

    address = "127.0.0.1:50051"

    def __init__(self, diary: Diary) -> None:
        """Write into `diary`."""
        self._diary = diary
        self.failure: Exception | None = None
        self.told: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Listen."""
        self._diary.write("transport starts")
        if self.failure is not None:
            raise self.failure

    def set_serving(self, is_serving: bool) -> None:  # noqa: FBT001 - it is the one thing set
        """Be told."""
        self.told()
        self._diary.write("serving" if is_serving else "not serving")

    async def stop(self, grace_s: float) -> None:
        """Stop."""
        self._diary.write(f"transport stops within {grace_s:g} s")


class Probes:
    """Probes that write down what they are told; `failure` is raised instead of listening."""

    def __init__(self, diary: Diary) -> None:
        """Write into `diary`."""
        self._diary = diary
        self.failure: Exception | None = None

    async def start(self) -> None:
        """Listen."""
        self._diary.write("probes start")
        if self.failure is not None:
            raise self.failure

    async def stop(self) -> None:
        """Close."""
        self._diary.write("probes stop")


class Life:
    """A lifecycle whose parts write a diary: one background task, one prerequisite that waits, one closer."""

    def __init__(self, *, background: bool = True) -> None:
        """Put everything together."""
        self.diary = Diary()
        self.known = asyncio.Event()
        self.stop = asyncio.Event()
        self.transport = Transport(self.diary)
        self.probes = Probes(self.diary)
        self.cycle = Lifecycle(
            transport=self.transport,
            background={"listener": self._listen} if background else {},
            prerequisites={"licenses": self._licenses},
            closers=[self._writer("closer 1"), self._writer("closer 2")],
            drain_s=0,
        )

    async def run(self) -> None:
        """Live until told to stop."""
        await self.cycle.run(self.probes, self.stop)

    async def _listen(self) -> None:
        with self._told("listener"):
            await asyncio.Event().wait()

    async def _licenses(self) -> None:
        with self._told("licenses"):
            await self.known.wait()

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        self.diary.write(f"{name} begins")
        try:
            yield
        except asyncio.CancelledError:
            self.diary.write(f"{name} is cancelled")
            raise
        self.diary.write(f"{name} ends")

    def _writer(self, entry: str) -> Work:
        async def work() -> None:
            self.diary.write(entry)

        return work


@asynccontextmanager
async def living(life: Life) -> AsyncIterator[asyncio.Task[None]]:
    """Run `life` beside the block; it has to end by itself within seconds after it."""
    task = asyncio.create_task(life.run())
    try:
        yield task
        async with asyncio.timeout(10):
            await asyncio.wait({task})
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def nothing_complains() -> AsyncIterator[None]:
    """Fail if the loop meets an exception nobody retrieved."""
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert complaints == []


async def test_a_whole_life_in_order() -> None:
    """Probes first, the transport last; stopping is told to health checks before calls are refused, probes go last."""
    life = Life()
    async with nothing_complains(), living(life):
        await life.diary.until("licenses begins")
        life.known.set()
        await life.diary.until("serving")
        life.stop.set()
    assert life.diary.entries == [
        "probes start",
        "listener begins",
        "licenses begins",
        "licenses ends",
        "transport starts",
        "serving",
        "not serving",
        "transport stops within 5 s",
        "listener is cancelled",
        "closer 1",
        "closer 2",
        "probes stop",
    ]


async def test_readiness_says_what_is_waited_for() -> None:
    """Not ready before the licenses are known and the transport listens, nor while draining."""
    life = Life()
    told: list[list[str]] = [life.cycle.not_ready()]
    life.transport.told = lambda: told.append(life.cycle.not_ready())
    async with living(life):
        await life.diary.until("licenses begins")
        life.known.set()
        await life.diary.until("serving")
        told.append(life.cycle.not_ready())
        life.stop.set()
    assert told == [["licenses", "transport"], ["transport"], [], ["drain"]]


async def test_it_waits_as_long_as_it_takes_and_takes_no_calls_meanwhile() -> None:
    """Without its licenses known the process stays up, is seen waiting, and never listens for calls."""
    life = Life()
    async with living(life):
        await life.diary.until("licenses begins")
        assert life.cycle.not_ready() == ["licenses", "transport"]
        life.stop.set()
    assert "transport starts" not in life.diary.entries


@pytest.mark.parametrize("background", [True, False])
async def test_a_stop_before_it_is_ready_ends_everything(background: bool) -> None:  # noqa: FBT001 - a case
    """A process told to stop while it waits stops at once and tidily: waiting ends before things are closed."""
    life = Life(background=background)
    async with nothing_complains(), living(life) as task:
        await life.diary.until("licenses begins")
        life.stop.set()
    assert task.done()
    task.result()
    assert life.diary.entries[-3:] == ["closer 1", "closer 2", "probes stop"]
    assert life.diary.entries.index("licenses is cancelled") < life.diary.entries.index("closer 1")


async def test_an_address_that_cannot_be_had_ends_the_life() -> None:
    """A taken port is told to whoever started the process, and nothing is left open."""
    life = Life()
    life.transport.failure = InputError("TALLYGATE_LISTEN", "is taken")
    life.known.set()
    async with nothing_complains(), living(life) as task:
        pass
    with pytest.raises(InputError, match="is taken"):
        task.result()
    assert life.diary.entries[-4:] == ["listener is cancelled", "closer 1", "closer 2", "probes stop"]


async def test_probes_that_cannot_listen_end_the_life_before_anything_runs() -> None:
    """The first thing that fails is the last that was started."""
    life = Life()
    life.probes.failure = InputError("TALLYGATE_METRICS_LISTEN", "is taken")
    async with living(life) as task:
        pass
    with pytest.raises(InputError):
        task.result()
    assert life.diary.entries == ["probes start", "closer 1", "closer 2", "probes stop"]


async def test_a_prerequisite_that_fails_ends_the_life() -> None:
    """What can never become ready does not wait for ever in silence."""
    life = Life()

    async def fail() -> None:
        raise InputError("settings", "make no sense")

    life.cycle._prerequisites = {"licenses": fail}
    async with nothing_complains(), living(life) as task:
        pass
    with pytest.raises(InputError, match="make no sense"):
        task.result()
    assert life.diary.entries[-3:] == ["closer 1", "closer 2", "probes stop"]


async def test_one_thing_that_cannot_be_closed_keeps_nothing_else_open() -> None:
    """A closer that fails is told, after the others and the probes were closed all the same."""
    life = Life()

    async def fail() -> None:
        life.diary.write("closer fails")
        raise OSError("the pool is stuck")

    life.cycle._closers = [fail, *life.cycle._closers]
    life.stop.set()
    async with living(life) as task:
        pass
    assert life.diary.entries[-4:] == ["closer fails", "closer 1", "closer 2", "probes stop"]
    with pytest.raises(OSError, match="stuck"):
        task.result()


async def test_a_background_task_that_fails_or_returns_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends it, the listener goes on; only cancelling stops it."""
    monkeypatch.setattr(lifecycle, "_RESTART_PAUSE_S", 0)
    diary = Diary()

    async def work() -> None:
        diary.write("runs")
        if diary.entries.count("runs") % 2:
            raise RuntimeError("a mistake of its own")

    task = asyncio.create_task(supervise("work", work))
    await diary.until("runs", 5)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_to_stop_and_a_second_one_insists(number: signal.Signals) -> None:
    """The first signal starts the drain; the next has its usual meaning, which ends the process."""
    usual = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    loop = asyncio.get_running_loop()
    try:
        stop = stop_on_signals()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            await stop.wait()
        assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    finally:
        for each, handler in usual.items():
            loop.remove_signal_handler(each)
            signal.signal(each, handler)
