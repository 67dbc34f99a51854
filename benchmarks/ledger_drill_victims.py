"""What the drill kills: a data plane, the worker, Valkey and Postgres, each started again in its place.

Owns starting them, and what Valkey says of its append-only file just before it is killed. Does not own when that is.
For one event loop. Failure: ServerStartError from what does not come back.
"""

import json
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from benchmarks.lab import PEPPER
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tallygate.devservers.binaries import valkey_binary
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.postgres import EmbeddedPostgres
from tallygate.devservers.process import Child, Program, running

PATIENCE_S = 120.0
SERVICES_KEY = "a key of the drill's services, known to all"
_TOLD = ("aof_pending_bio_fsync", "aof_buffer_length", "aof_delayed_fsync")
_CONFIG = "bind 127.0.0.1\nport {port}\ndir {directory}\nsave ''\nappendonly yes\nappendfsync {fsync}\n"


class Victim:
    """A program that is killed and started again, in the same place."""

    def __init__(self, program: Program, metrics: str = "") -> None:
        """Take what to run; it is ready when its page at `metrics` says so."""
        self._program = program
        self._metrics = metrics
        self._stack = AsyncExitStack()
        self.name = program.name
        self.pid = 0

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        ready = running(self._program, self._is_ready, start_deadline_s=PATIENCE_S, stop_deadline_s=10)
        self.pid = (await self._stack.enter_async_context(ready)).pid

    async def stop(self) -> None:
        """Stop it, if it lives."""
        await self._stack.aclose()

    async def _is_ready(self, _child: Child) -> bool:
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
                return (await http.get(f"http://{self._metrics}/readyz")).status_code == httpx.codes.OK
        except (httpx.TransportError, OSError):
            return False


class Valkey(Victim):
    """A Valkey that appends to a file, whose every fsync may be made to last."""

    def __init__(self, place: Path, fsync: str, slow_fsync_s: float) -> None:
        """Run in `place`; strace delays each fsync, as a busy disk does, if `slow_fsync_s` is above 0."""
        port, directory = free_port(), place / "valkey"
        directory.mkdir()
        config = directory / "valkey.conf"
        config.write_text(_CONFIG.format(port=port, directory=directory, fsync=fsync))
        command = (*_slowed(slow_fsync_s), str(valkey_binary()), str(config))
        super().__init__(Program("valkey", command, directory, place / "valkey.log", stop_signal=signal.SIGKILL))
        self._port = port
        self.url = f"redis://{LOOPBACK}:{port}/0"

    async def told(self) -> dict[str, int]:
        """Return what it says of its file: whether an fsync is under way, and what it has not written because of it."""
        async with Redis(host=LOOPBACK, port=self._port) as client:
            persistence = await client.info("persistence")
        # With `always` some of it is not told.
        return {name: int(persistence.get(name, 0)) for name in _TOLD}

    async def _is_ready(self, _child: Child) -> bool:
        try:
            async with Redis(host=LOOPBACK, port=self._port) as client:
                return bool(await client.ping())
        except (RedisError, OSError):
            return False


class Postgres(EmbeddedPostgres):
    """A Postgres that is killed and started again."""

    name = "postgres"

    @property
    def pid(self) -> int:
        """Return the process to be killed, with all that it started."""
        return int((self._cluster / "postmaster.pid").read_text().splitlines()[0])

    async def start(self) -> None:
        """Start it and wait until it has recovered."""
        await self.__aenter__()

    async def stop(self) -> None:
        """Stop it, if it lives."""
        await self.__aexit__(None, None, None)


def tallygate(role: str, place: Path, settings: Mapping[str, object]) -> Victim:
    """Return `tallygate serve` or `worker` by the fast clock."""
    metrics = f"{LOOPBACK}:{free_port()}"
    config = place / f"{role}.toml"
    values = {"pepper": PEPPER, "metrics_listen": metrics, "services_listen": "off", "drain_s": 0, **settings}
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    script = str(Path(__file__).with_name("drill_process.py"))
    command = (sys.executable, script, role, str(config), str(time.time_ns() // 1000))
    return Victim(Program(role, command, place, place / f"{role}.log"), metrics)


def _slowed(slow_fsync_s: float) -> tuple[str, ...]:
    if not slow_fsync_s:
        return ()
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("--slow-fsync needs strace, which delays the calls: install it, or leave the option out")
    delay = f"inject=fdatasync:delay_enter={round(slow_fsync_s * 1_000_000)}"
    return strace, "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", delay
