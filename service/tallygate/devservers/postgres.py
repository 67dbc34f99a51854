"""Postgres for development: ours, from a wheel, or one that is already running.

Owns a cluster in a data directory, its superuser's password, and the server process. Does not own roles,
databases or schema. Listens on 127.0.0.1 only and asks for a password (SCRAM); restarted on the same
directory it has the same data and the same password, and another port when none was asked for. Runs as
root too (see `launch`). Failure: ServerStartError with the log's end; InputError for a directory in use.
"""

import os
import shutil
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote, urlsplit, urlunsplit

from tallygate.devservers.binaries import postgres_binaries
from tallygate.devservers.directory import exclusive, secret_in, wait_until_left
from tallygate.devservers.ports import LOOPBACK, on_port
from tallygate.devservers.process import Child, Identity, Program, ServerStartError, run_to_end, running

_SUPERUSER = "postgres"
_INITDB_DEADLINE_S = 60
_START_DEADLINE_S = 60  # recovery after a hard kill is part of it
_STOP_DEADLINE_S = 20
_PID_LINE, _STATUS_LINE = 0, 7  # of postmaster.pid

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}
_FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresServer(Protocol):
    """A Postgres whose superuser, or owner, we may log in as."""

    def dsn(self, database: str = "postgres") -> str:
        """Return the URL of `database` on this server."""
        ...


class ExistingPostgres:
    """A Postgres that is already running; entering and leaving do nothing."""

    def __init__(self, dsn: str) -> None:
        """Take a URL; its database is replaced when another is asked for."""
        self._dsn = dsn

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the server as it is."""

    def dsn(self, database: str = "postgres") -> str:
        """Return the URL it was given, with `database` in place of its own."""
        return urlunsplit(urlsplit(self._dsn)._replace(path=f"/{quote(database, safe='')}"))


class EmbeddedPostgres:
    """A Postgres of our own in `data_dir`; `port` 0 means any free one.

    `is_durable=False` trades safety against a crash of the machine for speed: for tests. `identity` says
    who the server runs as when we are root.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        log_dir: Path | None = None,
        is_durable: bool = True,
        identity: Identity = "unprivileged",
    ) -> None:
        """Take where the data lives; nothing is started or made yet."""
        self._data_dir = data_dir.absolute()
        self._tree = self._data_dir / "cluster"
        self._cluster = self._tree / "data"
        self.log_path = (log_dir.absolute() if log_dir else self._data_dir) / "postgres.log"
        self.port = port
        self._asked_port = port
        self._is_durable = is_durable
        self._identity: Identity = identity if os.geteuid() == 0 else "caller"
        self._password = ""
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            resources.enter_context(exclusive(self._data_dir))
            await wait_until_left(self._cluster)
            self._tree.mkdir(mode=0o700, exist_ok=True)
            self._password = secret_in(self._tree / "password")
            if not self._cluster.is_dir():
                await self._initialise()
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            self.port = await on_port(self._asked_port, lambda port: self._start(port, resources))
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    def dsn(self, database: str = "postgres") -> str:
        """Return the superuser's URL of `database`."""
        name = quote(database, safe="")
        return f"postgresql://{_SUPERUSER}:{self._password}@{LOOPBACK}:{self.port}/{name}?sslmode=disable"

    async def _initialise(self) -> None:
        """Make the cluster beside its place and move it there: one cut short is never taken for a whole."""
        unfinished = self._tree / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        command = [
            str(postgres_binaries()[1]),
            *("--pgdata", str(unfinished), "--username", _SUPERUSER, "--pwfile", str(self._tree / "password")),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"),
        ]
        if not self._is_durable:
            command.append("--no-sync")
        program = self._program(tuple(command), self._tree)
        status, output = await run_to_end(program, _INITDB_DEADLINE_S)
        if status != 0:
            message = f"initdb ended with status {status}:\n{output}"
            raise ServerStartError(message)
        unfinished.rename(self._cluster)

    async def _start(self, port: int, resources: AsyncExitStack) -> int:
        settings = {**_SETTINGS, **({} if self._is_durable else _FORGETFUL), "port": str(port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        program = self._program((str(postgres_binaries()[0]), "-D", str(self._cluster), *options), self._tree)
        server = running(program, self._is_ready, start_deadline_s=_START_DEADLINE_S, stop_deadline_s=_STOP_DEADLINE_S)
        await resources.enter_async_context(server)
        return port

    async def _is_ready(self, child: Child) -> bool:
        """An open port is not a ready server: Postgres says itself when it is, in its pid file."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        if len(lines) <= _STATUS_LINE or lines[_PID_LINE] != str(child.pid):
            return False
        return lines[_STATUS_LINE].strip() == "ready"

    def _program(self, command: tuple[str, ...], directory: Path) -> Program:
        return Program(
            name="Postgres",
            command=command,
            directory=directory,
            log_path=self.log_path,
            stop_signal=signal.SIGINT,  # fast shutdown: sessions are ended, data is flushed, children are gone
            death_signal=signal.SIGINT,
            identity=self._identity,
        )
