"""Which CPU the threads of a process run on: all on the same one, wherever that is.

HTTP/2 and Python have a thread each and wake one another at every request. Across CPUs each of these wakes costs
several microseconds of both; on one CPU next to nothing. So the threads are kept on the CPU where the system has put
the first of them. When they wait for it because of others, they are let go for a moment, so that the system may move
them, and kept together where they come to be. Until then they wait, even if another CPU is idle: so it is for machines
whose CPUs all have work.

Owns the affinity of this process's threads while it runs. Does not own how many processes there are (`supervisor`).
Concurrency: one task, which looks once a second. Failure: where the system is not Linux, tells nothing of threads or
refuses to place them, they run wherever they may, as if this were not here.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

LOOK_S, FREE_S = 1.0, 0.05
"""Seconds between two looks, and those for which the system may move us: it does so within some milliseconds."""
CROWDED = 0.2
"""We look for another CPU once we wait for others so much, for each second that we run."""

_THREADS = Path("/proc/self/task")
_CPU_FIELD = 36
"""Of `stat`, counted from what follows the name of the command (`proc(5)`: processor is the 39th of all)."""


class Spent(NamedTuple):
    """Seconds so far: those that the first thread ran and waited for a CPU, and those that the others ran."""

    ran_s: float
    waited_s: float
    others_ran_s: float


def is_crowded(before: Spent, after: Spent) -> bool:
    """Say whether the first thread waited for somebody else's; for our own it waits because we want it to."""
    ran_s, waited_s, others_ran_s = (late - early for early, late in zip(before, after, strict=True))
    return waited_s - others_ran_s > CROWDED * (ran_s + others_ran_s)


def shares_cpu(setting: str, workers: int) -> bool:
    """Say whether each of so many workers is to be kept on one CPU: where the system has no CPU to spare, if `auto`."""
    return setting == "one" or (setting == "auto" and workers >= len(_allowed()))


@asynccontextmanager
async def on_one_cpu(
    look: Callable[[], Spent] | None = None, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> AsyncIterator[None]:
    """Keep all threads of this process on one CPU meanwhile. `look` and `sleep` are for tests, which move time."""
    may_run_on = _allowed()
    if len(may_run_on) <= 1:
        yield
        return
    keeping = asyncio.create_task(_keep(may_run_on, look or spent, sleep), name="placement")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        place(may_run_on)


def place(cpus: Iterable[int]) -> None:
    """Let all threads of this process run on these CPUs alone."""
    for thread in _threads():
        with suppress(OSError):  # it has ended, or the container may use none of them any more
            os.sched_setaffinity(thread, cpus)


def cpu_in_use() -> int:
    """Return the CPU on which the first thread of this process last ran."""
    stat = (_THREADS / str(os.getpid()) / "stat").read_text()
    return int(stat.rpartition(")")[2].split()[_CPU_FIELD])


def spent() -> Spent:
    """Return what the threads have spent so far; raise OSError where the system does not tell."""
    (ran_s, waited_s), others_ran_s = _schedule(os.getpid()), 0.0
    for thread in _threads():
        if thread != os.getpid():
            with suppress(OSError):  # it has ended
                others_ran_s += _schedule(thread)[0]
    return Spent(ran_s, waited_s, others_ran_s)


async def _keep(may_run_on: set[int], look: Callable[[], Spent], sleep: Callable[[float], Awaitable[None]]) -> None:
    while True:
        place({cpu_in_use()})
        before = look()
        await sleep(LOOK_S)
        while not is_crowded(before, after := look()):
            before = after
            await sleep(LOOK_S)
        place(may_run_on)
        await sleep(FREE_S)


def _allowed() -> set[int]:
    """Return the CPUs that this process may use, none where nothing can be said about its threads."""
    try:
        spent()
    except OSError:
        return set()
    return os.sched_getaffinity(0)


def _schedule(thread: int) -> tuple[float, float]:
    """Return for how many seconds a thread has run and waited so far."""
    ran_ns, waited_ns, _ = map(int, (_THREADS / str(thread) / "schedstat").read_text().split())
    return ran_ns / 1e9, waited_ns / 1e9


def _threads() -> list[int]:
    return [int(thread.name) for thread in _THREADS.iterdir()]
