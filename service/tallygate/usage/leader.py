"""Who leads: of all workers the one that holds a lock of Postgres, for as long as its connection lives.

Owns that lock and the connection it belongs to. Whoever loses the connection stops what leaders do at once; the server
ends the connection of a leader that is gone, within seconds even if its machine vanished or it was stopped, and the
next takes over. Two leaders for a moment do no harm: everything they do can be done twice.

The connection must reach Postgres itself or a pooler in session mode: the lock belongs to a session. One task; another
leads beside it while the lock is held.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tallygate.core.errors import StoreUnavailableError
from tallygate.storage.postgres import Connection, connect, store_errors

_LOCK_KEY = 0x74_67_6C_65_61_64  # "tglead": the advisory lock every version of Tallygate takes
_INTERVAL_S = 1.0
_DEADLINE_S = 2.0
# The server looks after a silent leader each second, and gives it up after two looks in vain. Where a leader is stopped
# (SIGSTOP, a frozen container) its system answers those; so one that asks nothing for some seconds is given up too.
_KEEPALIVE = (
    "SET tcp_keepalives_idle = 1; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 2; "
    "SET idle_session_timeout = '5s'"
)
_log = structlog.get_logger("tallygate.usage")


class Leader:
    """A worker that leads whenever no other does."""

    def __init__(self, dsn: str, work: Callable[[], Awaitable[None]], *, interval_s: float = _INTERVAL_S) -> None:
        """Run `work`, which does not return, while leading; ask each `interval_s` whether we do."""
        self._dsn = dsn
        self._work = work
        self._interval_s = interval_s
        self.is_leading = False

    async def run(self) -> None:
        """Lead whenever that is possible, until cancelled. Raises what `work` raises."""
        while True:
            try:
                await self._stand()
            except StoreUnavailableError as error:
                _log.debug("cannot lead", problem=str(error))
            await asyncio.sleep(self._interval_s)

    async def _stand(self) -> None:
        """Wait for the lock and lead, on one connection; raise StoreUnavailableError when that is lost."""
        connection = await connect(
            self._dsn,
            application_name="tallygate-leader",
            connect_timeout_s=_DEADLINE_S,
            command_timeout_s=_DEADLINE_S,
        )
        try:
            with store_errors("lead"):
                await connection.execute(_KEEPALIVE)
                await self._wait_for_lock(connection)
            await self._lead(connection)
        finally:
            connection.terminate()

    async def _wait_for_lock(self, connection: Connection) -> None:
        # Asked for, not waited for: a statement that waits for hours keeps the database from tidying up.
        while True:
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
                return
            await asyncio.sleep(self._interval_s)

    async def _lead(self, connection: Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        tasks = [asyncio.ensure_future(self._work()), asyncio.create_task(self._keep(connection, lost))]
        self.is_leading = True
        _log.info("this worker leads")
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            self.is_leading = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            _log.info("this worker leads no more")

    async def _keep(self, connection: Connection, lost: asyncio.Event) -> None:
        """Ask for a sign of life each second; raise StoreUnavailableError when the connection is over."""
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await lost.wait()
                raise StoreUnavailableError("the leader's connection was closed")
            except TimeoutError:
                with store_errors("lead"):
                    await connection.execute("SELECT 1")
