"""Valkey (Redis) for development: ours, from a wheel, or one that is already running.

Owns a data directory, a password new with every start, and the server process. Does not own keys. Listens
on 127.0.0.1 only, and never evicts a key. Durable: an append-only file, flushed every second. Failure:
ServerStartError with the log's end; InputError for a directory in use.
"""

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tallygate.devservers.binaries import valkey_binary
from tallygate.devservers.directory import exclusive, wait_until_left
from tallygate.devservers.ports import LOOPBACK, on_port
from tallygate.devservers.process import Program, running

_START_DEADLINE_S = 60  # loading the append-only file is part of it
_STOP_DEADLINE_S = 20
_ANSWER_DEADLINE_S = 1

_CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
appendonly {appendonly}
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


class ValkeyServer(Protocol):
    """A Valkey or Redis one may connect to."""

    @property
    def url(self) -> str:
        """Return its URL, password included."""
        ...


class ExistingValkey:
    """A Valkey or Redis that is already running; entering and leaving do nothing."""

    def __init__(self, url: str) -> None:
        """Take its URL."""
        self._url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the server as it is."""

    @property
    def url(self) -> str:
        """Return the URL it was given."""
        return self._url


class EmbeddedValkey:
    """A Valkey of our own in `data_dir`; `port` 0 means any free one; not durable: nothing is on disk."""

    def __init__(self, data_dir: Path, *, port: int = 0, log_dir: Path | None = None, is_durable: bool = True) -> None:
        """Take where the data lives; nothing is started or made yet."""
        self._data_dir = data_dir.absolute()
        self._data = self._data_dir / "data"
        self.log_path = (log_dir.absolute() if log_dir else self._data_dir) / "valkey.log"
        self.port = port
        self._asked_port = port
        self._is_durable = is_durable
        self._password = ""
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            resources.enter_context(exclusive(self._data_dir))
            await wait_until_left(self._data)
            self._data.mkdir(mode=0o700, exist_ok=True)
            self._password = secrets.token_urlsafe(24)
            self.port = await on_port(self._asked_port, lambda port: self._start(port, resources))
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    @property
    def url(self) -> str:
        """Return the URL of database 0, password included."""
        return f"redis://:{self._password}@{LOOPBACK}:{self.port}/0"

    async def _start(self, port: int, resources: AsyncExitStack) -> int:
        program = Program(
            name="Valkey",
            command=(str(valkey_binary()), str(self._configure(port))),
            directory=self._data,
            log_path=self.log_path,
        )
        server = running(
            program,
            lambda _: self._is_ready(port),
            start_deadline_s=_START_DEADLINE_S,
            stop_deadline_s=_STOP_DEADLINE_S,
        )
        await resources.enter_async_context(server)
        return port

    def _configure(self, port: int) -> Path:
        """Write the configuration where only this user reads it: a command line is everyone's to read."""
        path = self._data_dir / "valkey.conf"
        path.touch(mode=0o600)
        path.write_text(
            _CONFIGURATION.format(
                host=LOOPBACK,
                port=port,
                password=self._password,
                appendonly="yes" if self._is_durable else "no",
            )
        )
        return path

    async def _is_ready(self, port: int) -> bool:
        """PING is refused while data is loading, so an answer means that all of it is there."""
        try:
            async with asyncio.timeout(_ANSWER_DEADLINE_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, port)
                try:
                    writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
                    answers = [await reader.readline(), await reader.readline()]
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return answers == [b"+OK\r\n", b"+PONG\r\n"]
