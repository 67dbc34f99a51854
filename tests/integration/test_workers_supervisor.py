"""Keeping workers alive: real processes that end, hang, or do not listen, and what the supervisor makes of it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs
from support.processes import still_alive, watch

from tallygate.core.errors import InputError, TallygateError
from tallygate.workers.process import Launch
from tallygate.workers.supervisor import Supervisor
from tallygate.workers.worker import State, Terms, Worker

_SCRIPT = str(Path(__file__).parents[1] / "support" / "scripted_worker.py")
_DEADLINE_S = 60
_PATIENT = Terms(grace_s=_DEADLINE_S, look_s=0.05, look_early_s=0.01, silence_s=_DEADLINE_S)


@dataclass
class Crew:
    """Workers under a supervisor; `gone` holds the last metrics of each process, `crashes` how many ended unasked."""

    supervisor: Supervisor
    stop: asyncio.Event
    roll: asyncio.Event
    running: "asyncio.Task[None]"
    gone: list[bytes] = field(default_factory=list)
    crashes: list[None] = field(default_factory=list)

    @property
    def workers(self) -> list[Worker]:
        """Return the workers."""
        return list(self.supervisor.workers)

    def pids(self) -> list[int]:
        """Return the processes there are."""
        return [worker.process.pid for worker in self.workers if worker.process is not None]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(_DEADLINE_S):
            while not condition():
                assert not self.running.done(), self.running
                await asyncio.sleep(0)

    async def until_ready(self) -> None:
        """Wait until every worker is ready."""
        await self.until(lambda: all(worker.state is State.READY for worker in self.workers))

    async def end(self) -> None:
        """Tell it to stop, and wait; raise what it raises."""
        self.stop.set()
        async with asyncio.timeout(_DEADLINE_S):
            await self.running


@asynccontextmanager
async def crew(*behaviours: str, terms: Terms = _PATIENT, roll_deadline_s: float = _DEADLINE_S) -> AsyncIterator[Crew]:
    """Run a worker of each behaviour while the block runs."""
    gone: list[bytes] = []
    crashes: list[None] = []
    workers = [
        Worker(
            number,
            "nowhere",
            Launch((sys.executable, _SCRIPT, behaviour)),
            terms,
            gone.append,
            lambda: crashes.append(None),
        )
        for number, behaviour in enumerate(behaviours)
    ]
    supervisor = Supervisor(workers, roll_deadline_s=roll_deadline_s)
    stop, roll = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(supervisor.run(stop, roll))
    made = Crew(supervisor, stop, roll, running, gone, crashes)
    try:
        yield made
    finally:
        stop.set()
        for pid in made.pids():
            os.kill(pid, signal.SIGKILL)
        await asyncio.wait({running})


async def test_a_worker_that_ends_is_started_again_alone() -> None:
    """A process killed from outside comes back; the others are not touched; what it had counted is handed on."""
    async with crew("ready", "ready") as made:
        await made.until_ready()
        (first, second) = made.pids()
        os.kill(second, signal.SIGKILL)
        await made.until(lambda: bool(made.crashes))
        assert made.gone == [b"# TYPE lives_total counter\nlives_total 1\n"]
        await made.until_ready()
        assert made.pids()[0] == first
        assert made.pids()[1] != second
        await made.end()
    assert len(made.crashes) == 1


async def test_a_worker_that_dies_again_and_again_waits_longer_each_time() -> None:
    """It is tried for ever, with pauses, and the end does not wait for the pause."""
    structlog.reset_defaults()
    with capture_logs() as said:
        async with crew("dies") as made:
            await made.until(lambda: len(made.crashes) == 4)
            await made.end()
    deaths = [(line["why"], line["pause_s"]) for line in said if "pause_s" in line]
    assert deaths == [("it ended with exit code 3", pause_s) for pause_s in (0.1, 0.2, 0.4, 0.8)]


async def test_a_worker_that_hangs_is_killed_and_started_again() -> None:
    """A process that answers nothing is no worker, though it lives."""
    async with crew("hangs", terms=Terms(_DEADLINE_S, look_s=0.05, look_early_s=0.01, silence_s=0.5)) as made:
        await made.until(lambda: bool(made.crashes))


async def test_a_worker_that_does_not_end_is_killed_after_its_grace() -> None:
    """The end comes for certain, and says that it was not clean."""
    async with crew("ready", "deaf") as made:
        await made.until_ready()
        made.workers[1].terms = Terms(grace_s=0.5)
        watched = watch(set(made.pids()))
        with pytest.raises(TallygateError, match=r"\[1\] did not end in time"):
            await made.end()
    assert len(made.gone) == 2
    assert still_alive(watched, 10) == 0


async def test_settings_that_a_worker_refuses_end_it_all() -> None:
    """A wrong setting is told once and ends the start; it is not tried for ever."""
    async with crew("refuses", "ready") as made:
        with pytest.raises(InputError, match="worker 0"):
            await asyncio.wait_for(made.running, _DEADLINE_S)
    assert made.gone == [b""]
    assert made.crashes == []


async def test_a_rolling_restart_replaces_every_process_and_never_two_at_once() -> None:
    """All processes are new, none was counted as a crash, and all but one were ready at every moment."""
    async with crew("ready", "ready", "ready") as made:
        await made.until_ready()
        before = set(made.pids())
        least = 3

        def is_done() -> bool:
            nonlocal least
            least = min(least, sum(worker.state is State.READY for worker in made.workers))
            return len(made.gone) == 3 and least == 2 and not before & set(made.pids())

        made.roll.set()
        await made.until(is_done)
        await made.until_ready()
        assert (least, made.crashes) == (2, [])
        await made.end()


async def test_a_rolling_restart_that_goes_wrong_ends_with_the_first() -> None:
    """Settings that new workers refuse cost one worker, not the service: the others stay, and it is tried again."""
    async with crew("ready", "ready", roll_deadline_s=1) as made:
        await made.until_ready()
        second = made.pids()[1]
        made.workers[0].launch = Launch((sys.executable, _SCRIPT, "refuses"))
        made.roll.set()
        structlog.reset_defaults()
        with capture_logs() as said:
            await made.until(lambda: any("given up" in line["event"] for line in said))
        assert made.pids()[-1] == second
        assert made.supervisor.is_ready()
        made.workers[0].launch = Launch((sys.executable, _SCRIPT, "ready"))
        await made.until_ready()
        await made.end()


async def test_an_end_during_a_rolling_restart_lets_the_worker_finish() -> None:
    """The worker that is draining just then is not asked twice, which would end it at once."""
    async with crew("ready", "ready") as made:
        await made.until_ready()
        made.roll.set()
        await made.until(lambda: made.workers[0].state is State.DRAINING)
        await made.end()
    assert (made.gone, made.crashes) == ([b"# TYPE lives_total counter\nlives_total 1\n"] * 2, [])


async def test_an_end_while_a_worker_starts_leaves_no_process() -> None:
    """Told to stop before the first process is there, the supervisor waits for it, and ends it."""
    async with crew("ready") as made:
        await asyncio.sleep(0)
        await made.end()
        assert made.pids() == []


async def test_ready_is_ready_while_one_is() -> None:
    """One worker's end does not take the service out of use; the last one's, or a stop, does."""
    async with crew("ready", "ready") as made:
        assert not made.supervisor.is_ready()
        await made.until_ready()
        os.kill(made.pids()[0], signal.SIGKILL)
        await made.until(lambda: made.workers[0].state is not State.READY)
        assert made.supervisor.is_ready()
        await made.until_ready()
        await made.end()
        assert not made.supervisor.is_ready()
