"""Writes a file for each day that is over: usage as it was recorded, once each.

Owns which entries are in which file. A day is over once the ledger has everything counted before its end; what it
holds is noted before it is written, so a file that is written again is the same. An entry that comes for a day whose
file is planned already (a clock that stepped back) is in the next day's file. So every entry is in one file, and in
one only.

Failure: a disk that cannot be written ends the round, and the next one tries again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar

from tallygate.billing.exports.columns import Shape
from tallygate.billing.exports.cursor import DayFile
from tallygate.billing.exports.files import DayWriter, Format
from tallygate.billing.exports.postgres import ExportRows, PostgresExports
from tallygate.billing.exports.round import Round
from tallygate.billing.exports.terms import Terms
from tallygate.core.clock import Clock

_DAY = timedelta(days=1)
P = ParamSpec("P")
T = TypeVar("T")


class _DiskError(Exception):
    """The disk, and not the database, cannot be used."""


class Archive:
    """Writes the files of one export."""

    def __init__(
        self,
        name: str,
        terms: Terms,
        directory: Path,
        exports: PostgresExports,
        clock: Clock,
        *,
        kind: Format = Format.CSV,
        shape: Shape = Shape.LEDGER,
    ) -> None:
        """Write what `terms` say to `directory`."""
        self.name = name
        self._terms = terms
        self._directory = directory
        self._exports = exports
        self._clock = clock
        self._kind = kind
        self._shape = shape

    async def round(self, *, is_forced: bool = False) -> Round | None:  # noqa: ARG002 - there is no pause to force
        """Write the files of all days that are over, and whose are not written."""
        done = Round()
        async with self._exports.turn(self.name) as rows:
            if rows is None:
                return Round(is_others_turn=True)
            await rows.add(self.name, self._clock.now())
            cursor = await rows.cursor(self.name)
            done.is_paused = cursor is not None and cursor.is_paused
            if not done.is_paused:
                await self._plan(rows)
                await self._write(rows, done)
            if done.problem:
                await rows.note_failure(self.name, done.problem, self._clock.now())
            done.oldest_at = await self._oldest(rows)
        return done

    async def _plan(self, rows: ExportRows) -> None:
        """Note what belongs to the file of each day that is over by now."""
        newest_id, moved_to = await rows.ledger()
        newest = await rows.newest_file(self.name)
        day = await self._first_day(rows) if newest is None else newest.day + _DAY
        while day is not None and moved_to is not None and _begin(day + _DAY) <= moved_to:
            # Before the first file nothing can be late.
            planned = DayFile(day, newest_id if newest is None else newest.to_id, newest_id)
            await rows.plan_file(self.name, planned)
            newest, day = planned, day + _DAY

    async def _first_day(self, rows: ExportRows) -> date | None:
        oldest = await rows.oldest(self._terms.from_at)
        return None if oldest is None else oldest.astimezone(UTC).date()

    async def _write(self, rows: ExportRows, done: Round) -> None:
        for file in await rows.unwritten_files(self.name):
            try:
                written = await self._written(rows, file, done)
            except _DiskError as error:
                done.problem = f"cannot write to {self._directory}: {error}"
                return
            await rows.note_written(self.name, written)
            done.files += 1
            done.sent += written.rows or 0
            await self._move_on(rows, file.to_id)

    async def _written(self, rows: ExportRows, file: DayFile, done: Round) -> DayFile:
        async with self._writing(file) as writer:
            async for page in rows.pages_of(file, _begin(file.day)):
                told = [row for row in page if self._terms.takes(row)]
                done.skipped += len(page) - len(told)
                await _on_disk(writer.write, told)
            count, sha256 = await _on_disk(writer.finish)
        return replace(file, rows=count, sha256=sha256, written_at=self._clock.now())

    @asynccontextmanager
    async def _writing(self, file: DayFile) -> AsyncIterator[DayWriter]:
        writer = await _on_disk(DayWriter, self._directory, self.name, file, self._kind, self._shape)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise

    async def _move_on(self, rows: ExportRows, number: int) -> None:
        cursor = await rows.cursor(self.name)
        if cursor is not None and number > (cursor.last_id or 0):
            await rows.move_on(cursor, number, [], self._clock.now())

    async def _oldest(self, rows: ExportRows) -> datetime | None:
        """Return when the oldest entry that may be in no file yet was recorded."""
        unwritten = await rows.unwritten_files(self.name)
        if unwritten:
            return _begin(unwritten[0].day)
        newest = await rows.newest_file(self.name)
        return await rows.oldest(self._terms.from_at) if newest is None else _begin(newest.day + _DAY)


def _begin(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


async def _on_disk(call: Callable[P, T], *values: P.args, **more: P.kwargs) -> T:
    try:
        return await asyncio.to_thread(call, *values, **more)
    except OSError as error:
        raise _DiskError(error.strerror or str(error)) from error
