"""One supervised child process: started, awaited until really ready, stopped for certain.

Owns: the child's log file, its signals, and the promise that it never outlives the process that started
it, not even one killed with SIGKILL (Linux; elsewhere a hard kill leaves the child). Does not own what the
child is. Concurrency: one event loop; start from a thread that lives as long as the servers, which the
main thread does, because the kernel ties a child to the thread that made it. Failure: ServerStartError,
which quotes the end of the child's log.

The child gets a session of its own, so that Ctrl-C in the terminal reaches the parent only, and a small
environment of its own, so that no secret of the parent's environment is in it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tallygate.core.errors import DependencyError

Identity = Literal["caller", "unprivileged", "nobody"]
"""Who the child runs as; see `launch`."""

_LAUNCH = str(Path(__file__).with_name("launch.py"))
_POLL_S = 0.02
_LOG_LINES_QUOTED = 15
_LOG_BYTES_READ = 16_384
_ENVIRONMENT_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


class ServerStartError(DependencyError):
    """A development server did not start; the message holds the last lines of its log."""

    dependency = "devserver"


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how it wants to end.

    `directory` is its working directory; as root with another `identity` the whole of it becomes that
    identity's. `stop_signal` asks it to stop; `death_signal` is what the kernel sends when we are gone.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    log_path: Path
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    identity: Identity = "caller"


class Child:
    """A running program; made by `running` or `run_to_end`."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process, log_start_bytes: int) -> None:
        """Take the started process and where in the log file its output begins."""
        self.program = program
        self.pid = process.pid
        self._process = process
        self._log_start_bytes = log_start_bytes

    @classmethod
    async def start(cls, program: Program) -> "Child":
        """Start `program`; that it runs says nothing yet about readiness."""
        program.log_path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(program.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        log_start_bytes = os.fstat(descriptor).st_size
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _LAUNCH),
                *(str(os.getpid()), str(int(program.death_signal)), program.identity, str(program.directory)),
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=program.directory,
                env=_environment(program.directory),
                start_new_session=True,
            )
            return cls(program, process, log_start_bytes)
        finally:
            os.close(descriptor)

    async def wait(self) -> int:
        """Wait until it has ended; return its exit status, negative when a signal ended it."""
        return await self._process.wait()

    async def until_ready(self, is_ready: Callable[[], Awaitable[bool]], deadline_s: float) -> None:
        """Ask `is_ready` until it is true; raise ServerStartError when the child dies or time is up."""
        exited = asyncio.ensure_future(self.wait())
        try:
            async with asyncio.timeout(deadline_s):
                while not exited.done():
                    if await is_ready():
                        return
                    await asyncio.wait({exited}, timeout=_POLL_S)
        except TimeoutError:
            raise self._error(f"was not ready within {deadline_s:g} s") from None
        finally:
            exited.cancel()
        raise self._error(f"ended with status {self._process.returncode} while starting")

    async def stop(self, deadline_s: float) -> None:
        """Ask it to stop, wait up to `deadline_s`, then kill it and what it started."""
        if self._process.returncode is not None:
            return
        self._signal(self.program.stop_signal)
        try:
            async with asyncio.timeout(deadline_s):
                await self.wait()
        except TimeoutError:
            pass
        finally:
            if self._process.returncode is None:
                self._signal(signal.SIGKILL)
                await self.wait()

    def output(self) -> str:
        """Return the end of what this run has written."""
        with self.program.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start_bytes, size - _LOG_BYTES_READ))
            return log.read().decode(errors="replace").strip()

    def _signal(self, number: signal.Signals) -> None:
        try:
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass  # it ended by itself just now

    def _error(self, what: str) -> ServerStartError:
        lines = self.output().splitlines()[-_LOG_LINES_QUOTED:]
        quoted = "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"
        return ServerStartError(f"{self.program.name} {what}; the end of {self.program.log_path}:\n{quoted}")


@asynccontextmanager
async def running(
    program: Program, is_ready: Callable[[Child], Awaitable[bool]], *, start_deadline_s: float, stop_deadline_s: float
) -> AsyncIterator[Child]:
    """Run `program` while the block runs; it is ready when the block begins and gone when it ends."""
    child = await Child.start(program)
    try:
        await child.until_ready(lambda: is_ready(child), start_deadline_s)
        yield child
    finally:
        await child.stop(stop_deadline_s)


async def run_to_end(program: Program, deadline_s: float) -> tuple[int, str]:
    """Run `program` until it ends by itself; return exit status and output; TimeoutError when it does not."""
    child = await Child.start(program)
    try:
        async with asyncio.timeout(deadline_s):
            return await child.wait(), child.output()
    finally:
        await child.stop(0)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
    return {**kept, "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"}
