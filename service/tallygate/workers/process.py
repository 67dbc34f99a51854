"""One life of a worker: a fresh interpreter that runs `tallygate serve`, from its start to its end.

It inherits settings, standard output and error, and nothing else of the supervisor's but its end of the line. It has a
session of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which then asks the workers to end.
Failure: OSError when the system starts no process.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from tallygate.workers.line import SupervisorLine
from tallygate.workers.seat import Seat

# -P: the working directory is no place to import from.
SERVE = (sys.executable, "-P", "-m", "tallygate", "serve")
_LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How workers are started: the command, and what is added to the environment it inherits."""

    command: tuple[str, ...] = SERVE
    environment: Mapping[str, str] | None = None


class WorkerProcess:
    """A running worker; made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, line: SupervisorLine) -> None:
        """Take the process and our end of its line."""
        self._process = process
        self.line = line
        self.pid = process.pid
        self.started_at_s = asyncio.get_running_loop().time()

    @classmethod
    async def start(cls, launch: Launch, number: int, listen: str) -> "WorkerProcess":
        """Start worker `number`, which listens at `listen`."""
        ours, theirs = socket.socketpair()
        with theirs:
            seat = Seat(number, listen, theirs.fileno(), os.getpid())
            try:
                process = await asyncio.create_subprocess_exec(
                    *launch.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    env={**os.environ, **(launch.environment or {}), **seat.variable()},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, await SupervisorLine.open(ours))

    async def ended(self) -> int:
        """Wait for its end and its last report; return its exit code, negative when a signal ended it."""
        code = await self._process.wait()
        await self.line.until_closed(_LAST_WORDS_S)
        return code

    def ran_s(self) -> float:
        """Return the seconds since its start."""
        return asyncio.get_running_loop().time() - self.started_at_s

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


def reason_of(code: int) -> str:
    """Say in words why a process ended."""
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"
