"""Postgres as a service: connections, the pool, deadlines, and one translation of its errors.

Owns how we connect and what a failure is called. Does not own queries; those stand beside their feature.
The pool opens no connection until one is asked for, so a process starts while Postgres is down and is
ready when it comes. Every wait has an end: connecting, waiting for a free connection, a statement (here
and, should we die, in the server), and giving a connection back.
Behind PgBouncer in transaction mode pass `statement_cache_size=0` and let it ignore the start-up
parameters `statement_timeout` and `timezone`; listening and migrating need a direct connection.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg

from tallygate.core.errors import InputError, StoreUnavailableError

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

CONNECT_TIMEOUT_S = 5.0
_DSN_SHAPE = "postgresql://user:password@host:5432/database"

# What the caller's own values can cause stays as it is; whoever sent the values can name it best.
_CALLERS_OWN = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError)
_OUTAGES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
_BEHIND = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.UndefinedFunctionError)


@contextmanager
def store_errors(action: str) -> Iterator[None]:
    """Raise StoreUnavailableError, saying which `action` failed and why, where the block meets an outage.

    An outage is everything but integrity errors (SQLSTATE 23…), data errors (22…) and RAISE: also a schema
    that is not migrated yet, a missing right, or a server gone read-only, for all these end without us.
    """
    try:
        yield
    except _CALLERS_OWN:
        raise
    except _OUTAGES as error:
        message = f"cannot {action}: {_why(error)}"
        raise StoreUnavailableError(message) from error


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, _BEHIND):
        return f"{error} (bring the schema up to this version: `tallygate db migrate`)"
    return str(error) or type(error).__name__


async def create_pool(
    dsn: str,
    *,
    min_size: int = 1,
    max_size: int = 8,
    command_timeout_s: float = 5.0,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    application_name: str = "tallygate",
    statement_cache_size: int = 100,
) -> Pool:
    """Return a pool of at most `max_size` connections; close it with `close_pool`.

    `min_size` connections are opened at once if Postgres answers; if not, the pool opens them when asked
    for one. A statement is given `command_timeout_s`, in the server too. Raises InputError for a DSN that
    is none; with `min_size=0` only the first use finds that out.
    """
    pool = await asyncpg.create_pool(
        dsn,
        min_size=0,  # a floor above 0 would make asyncpg insist on Postgres being up right now
        max_size=max_size,
        max_inactive_connection_lifetime=0,
        connect=_connect,
        timeout=connect_timeout_s,
        command_timeout=command_timeout_s,
        statement_cache_size=statement_cache_size,
        server_settings=_session_settings(application_name, command_timeout_s),
    )
    await _warm(pool, min(min_size, max_size), connect_timeout_s)
    return pool


async def close_pool(pool: Pool, *, timeout_s: float = 5.0) -> None:
    """Close `pool` once its connections are given back, by force after `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@asynccontextmanager
async def acquire(pool: Pool, deadline_s: float, action: str) -> AsyncIterator[PooledConnection]:
    """Lend a connection of `pool` for one `action` that must be done within `deadline_s`.

    Raises StoreUnavailableError as `store_errors` does. The time counts from here, waiting for a free
    connection included.
    """
    with store_errors(action):
        async with asyncio.timeout(deadline_s), pool.acquire(timeout=deadline_s) as connection:
            yield connection


async def connect(
    dsn: str,
    *,
    application_name: str,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    command_timeout_s: float | None = None,
) -> Connection:
    """Return a connection outside any pool; the caller closes it.

    Raises StoreUnavailableError when Postgres does not answer in time, InputError for a DSN that is none.
    """
    with store_errors("connect to Postgres"):
        return await _connect(
            dsn,
            timeout=connect_timeout_s,
            command_timeout=command_timeout_s,
            server_settings=_session_settings(application_name, command_timeout_s),
        )


async def _warm(pool: Pool, size: int, timeout_s: float) -> None:
    lent = await asyncio.gather(*(pool.acquire(timeout=timeout_s) for _ in range(size)), return_exceptions=True)
    for connection in lent:
        if not isinstance(connection, BaseException):
            await pool.release(connection)
        elif not isinstance(connection, _OUTAGES):
            raise connection


def _session_settings(application_name: str, command_timeout_s: float | None) -> dict[str, str]:
    settings = {"application_name": application_name, "timezone": "UTC"}
    if command_timeout_s is not None:
        settings["statement_timeout"] = str(round(command_timeout_s * 1000))
    return settings


async def _connect(*dsn: Any, **options: Any) -> Connection:  # noqa: ANN401 - passed on as they are
    try:
        connection: Connection = await asyncpg.connect(*dsn, **options)
    except ValueError:
        # Neither the text nor its cause is shown: a mangled DSN may hold its password anywhere.
        field, problem = "postgres_dsn", "is no Postgres connection string"
        raise InputError(field, problem, f"write it as {_DSN_SHAPE}") from None
    return connection
