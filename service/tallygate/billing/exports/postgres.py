"""Cursors of exports in Postgres, and what they read of the ledger.

Owns the statements, and the lock that lets one process at a time send for an export: it belongs to a connection of its
own, as the leader's does, which is why that must reach Postgres itself or a pooler in session mode. The lock only saves
work: what was sent twice counts once, and a cursor that somebody moved is not moved on from where it was.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import asyncpg

from tallygate.billing.exports.cursor import Aside, Cursor, DayFile
from tallygate.billing.exports.row import LedgerRow
from tallygate.storage.postgres import Connection, PooledConnection, connect, store_errors
from tallygate.storage.queries import load

_SQL = load("tallygate.billing.exports", "queries.sql")
_CONNECT_S, _STATEMENT_S = 5.0, 30.0
_AT_ONCE = 5000
_TICK = timedelta(microseconds=1)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresExports:
    """The way to the cursors for whoever sends."""

    def __init__(self, dsn: str) -> None:
        """Connect to `dsn`, once for each turn."""
        self._dsn = dsn

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator["ExportRows | None"]:
        """Take a turn at an export while the block runs; None when another process has it.

        Raises StoreUnavailableError when Postgres does not answer.
        """
        connection = await connect(
            self._dsn,
            application_name="tallygate-exports",
            connect_timeout_s=_CONNECT_S,
            command_timeout_s=_STATEMENT_S,
        )
        try:
            with store_errors("export usage"):
                is_ours = await connection.fetchval(_SQL["take_turn"], name)
                yield ExportRows(connection) if is_ours else None
        finally:
            connection.terminate()


class ExportRows:
    """Cursors on one connection; whoever lends it calls its failures by name."""

    def __init__(self, connection: "Connection | PooledConnection") -> None:
        """Use `connection`."""
        self._connection = connection

    async def add(self, name: str, now: datetime) -> None:
        """Add an export that has not begun, unless it is there."""
        await self._connection.execute(_SQL["add_export"], name, now)

    async def cursor(self, name: str) -> Cursor | None:
        """Return how far an export has come; None for one that never ran."""
        row = await self._connection.fetchrow(_SQL["export"], name)
        return None if row is None else Cursor(**dict(row))

    async def cursors(self) -> list[Cursor]:
        """Return every export that ever ran."""
        return [Cursor(**dict(row)) for row in await self._connection.fetch(_SQL["all_exports"])]

    async def ledger(self) -> tuple[int, datetime | None]:
        """Return the newest number, and the instant before which everything is there."""
        row = await self._connection.fetchrow(_SQL["newest_id"])
        return (0, None) if row is None else (row["last_id"], row["moved_to"])

    async def id_before(self, at: datetime) -> int:
        """Return the number after which everything recorded from an instant on stands."""
        found = await self._connection.fetchval(_SQL["id_from"], at)
        return int((await self.ledger())[0] if found is None else found - 1)

    async def after(self, number: int, last: int, limit: int, system: str) -> list[LedgerRow]:
        """Return entries after `number`, up to the number `last`."""
        return list(map(_row, await self._connection.fetch(_SQL["entries_after"], number, last, limit, system)))

    async def due(self, name: str, limit: int, system: str) -> list[LedgerRow]:
        """Return entries put aside that are to be sent again."""
        return list(map(_row, await self._connection.fetch(_SQL["due_entries"], name, limit, system)))

    async def oldest_after(self, number: int) -> datetime | None:
        """Return when the first entry after a number was recorded."""
        at: datetime | None = await self._connection.fetchval(_SQL["oldest_after"], number)
        return at

    async def note_tried(self, name: str, number: int, now: datetime | None) -> None:
        """Note that entries up to a number may be sent from `now` on; None: that none was."""
        await self._connection.execute(_SQL["note_tried"], name, number, now)

    async def move_on(self, cursor: Cursor, number: int, asides: Sequence[Aside], now: datetime) -> bool:
        """Move a cursor on to `number`, putting these aside on the way; say no if it does not stand there any more."""
        async with self._connection.transaction():
            moved = await self._connection.fetchval(_SQL["move_on"], cursor.name, cursor.last_id, number, now)
            if moved is not None:
                await self.put_aside(cursor.name, asides, now)
        return moved is not None

    async def put_aside(self, name: str, asides: Sequence[Aside], now: datetime) -> None:
        """Put entries aside, to be sent when somebody says so."""
        rows = [(name, aside.entry_id, aside.reason, aside.is_uncertain, now) for aside in asides]
        await self._connection.executemany(_SQL["put_aside"], rows)

    async def take_back(self, name: str, numbers: Sequence[int]) -> None:
        """Put these aside no more."""
        await self._connection.execute(_SQL["take_back"], name, numbers)

    async def note_failure(self, name: str, problem: str, now: datetime) -> None:
        """Note what keeps an export from going on."""
        await self._connection.execute(_SQL["note_failure"], name, problem, now)

    async def set_paused(self, name: str, now: datetime, *, is_paused: bool) -> None:
        """Pause an export, or let it go on."""
        await self._connection.execute(_SQL["set_paused"], name, is_paused, now)

    async def rewind(self, name: str, number: int, now: datetime) -> None:
        """Let everything after a number be sent again."""
        await self._connection.execute(_SQL["rewind"], name, number, now)
        await self._connection.execute(_SQL["take_back_after"], name, number)

    async def make_due(self, name: str, now: datetime, *, is_forced: bool) -> int:
        """Let what was put aside be sent again, what is uncertain only if forced; return how many."""
        return len(await self._connection.fetch(_SQL["make_due"], name, is_forced, now))

    async def give_up_due(self, name: str, before_at: datetime, reason: str) -> None:
        """Call uncertain what was to be sent again before an instant, and was not answered for."""
        await self._connection.execute(_SQL["give_up_due"], name, before_at, reason)

    async def asides(self, name: str, limit: int) -> list[Aside]:
        """Return what is put aside, oldest first."""
        return [Aside(**dict(row)) for row in await self._connection.fetch(_SQL["asides"], name, limit)]

    async def count_asides(self, name: str, most: int) -> int:
        """Return how many are put aside, counted up to `most`."""
        return int(await self._connection.fetchval(_SQL["count_asides"], name, most))

    async def oldest(self, from_at: datetime | None) -> datetime | None:
        """Return when the ledger's oldest entry, or the oldest from an instant on, was recorded."""
        at: datetime | None = await self._connection.fetchval(_SQL["oldest_entry"], from_at or _BEGINNING)
        return at

    async def newest_file(self, name: str) -> DayFile | None:
        """Return the file of the newest day that was planned."""
        row = await self._connection.fetchrow(_SQL["newest_file"], name)
        return None if row is None else DayFile(**dict(row))

    async def unwritten_files(self, name: str) -> list[DayFile]:
        """Return files that are planned, and not written."""
        return [DayFile(**dict(row)) for row in await self._connection.fetch(_SQL["unwritten_files"], name)]

    async def plan_file(self, name: str, file: DayFile) -> None:
        """Note what a file will hold, whenever it is written."""
        await self._connection.execute(_SQL["plan_file"], name, file.day, file.after_id, file.to_id)

    async def note_written(self, name: str, file: DayFile) -> None:
        """Note that a file is written."""
        await self._connection.execute(_SQL["note_written"], name, file.day, file.rows, file.sha256, file.written_at)

    async def unwrite(self, name: str, day: date) -> int:
        """Let the files from a day on be written again; return how many."""
        return len(await self._connection.fetch(_SQL["unwrite"], name, day))

    async def pages_of(self, file: DayFile, from_at: datetime) -> AsyncIterator[list[LedgerRow]]:
        """Return what belongs to a file, in pages: the same each time, as all of it is of one instant."""
        before_at = from_at - _TICK
        own = _SQL["day_entries"], before_at, from_at + timedelta(days=1) - _TICK, file.to_id
        late = _SQL["late_entries"], before_at, file.after_id, file.to_id
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            for statement, *values in (own, late):
                cursor = await self._connection.cursor(statement, *values)
                while page := await cursor.fetch(_AT_ONCE):
                    yield list(map(_row, page))


def _row(row: asyncpg.Record) -> LedgerRow:
    return LedgerRow(
        id=row["id"],
        recorded_at=row["recorded_at"],
        bucket=row["bucket"],
        customer=row["customer_id"],
        subscription=row["subscription_id"],
        family=row["family_id"],
        plan=row["plan"],
        meter=row["meter"],
        route=row["route"],
        outcome=row["outcome"],
        entry=row["entry"],
        minute_at=row["minute_at"],
        quantity=row["quantity"],
        customer_key=row["customer_key"] or "",
        environment=row["environment"] or "",
        reference=row["reference"] or "",
    )
