"""Use cases of exports: look how far each has come, hold it, let it go on, send again."""

from datetime import UTC, datetime, timedelta

from tallygate.admin.desk import Desk, check_reason
from tallygate.admin.records import as_json
from tallygate.admin.transaction import Transaction
from tallygate.billing.exports.cursor import Aside, Cursor
from tallygate.core.errors import InputError

_SHOWN = 100


class Exports:
    """What an operator does with exports; which there are says the file of them (`billing.exports.config`)."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def all(self) -> list[Cursor]:
        """Return how far every export has come that ever ran."""
        async with self._desk.transaction() as rows:
            return await rows.exports.cursors()

    async def show(self, name: str) -> tuple[Cursor, list[Aside]]:
        """Return how far an export has come, and the first entries it put aside."""
        async with self._desk.transaction() as rows:
            return await _begun(rows, name), await rows.exports.asides(name, _SHOWN)

    async def hold(self, name: str, *, is_paused: bool, reason: str = "") -> Cursor:
        """Pause an export, or let it go on."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            before = await _begun(rows, name)
            await rows.exports.set_paused(name, rows.now, is_paused=is_paused)
            after = await _begun(rows, name)
            action = "export.pause" if is_paused else "export.resume"
            rows.audit(action, name, as_json(before), as_json(after), reason)
        return after

    async def send_aside_again(self, name: str, *, is_forced: bool, reason: str = "") -> int:
        """Let what was put aside be sent again, what is uncertain only if forced; return how many entries."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            await _begun(rows, name)
            entries = await rows.exports.make_due(name, rows.now, is_forced=is_forced)
            rows.audit("export.replay", name, None, {"entries": entries, "is_forced": is_forced}, reason)
        return entries

    async def rewind(
        self,
        name: str,
        *,
        from_id: int | None = None,
        from_at: datetime | None = None,
        forgets_after: timedelta | None = None,
        is_forced: bool = False,
        reason: str = "",
    ) -> Cursor:
        """Let everything from a number, or from what was recorded at an instant, be sent again.

        Raises InputError where the receiver has forgotten by then what it was sent (`forgets_after`), unless forced: it
        would count twice.
        """
        check_reason(reason)
        async with self._desk.transaction() as rows:
            before = await _begun(rows, name)
            number = await rows.exports.id_before(from_at) if from_at is not None else (from_id or 1) - 1
            number = max(0, min(number, before.last_id or 0))
            if forgets_after is not None and not is_forced:
                oldest = await rows.exports.oldest_after(number)
                if number < (before.last_id or 0) and (oldest is None or rows.now - oldest > forgets_after):
                    hours = forgets_after / timedelta(hours=1)
                    raise InputError(
                        "from", f"the receiver forgets what it has after {hours:g} hours: it would count twice",
                        "--force sends it all the same",
                    )  # fmt: skip
            await rows.exports.rewind(name, number, rows.now)
            after = await _begun(rows, name)
            rows.audit("export.replay", name, as_json(before), as_json(after), reason)
        return after

    async def write_again(self, name: str, from_at: datetime, *, reason: str = "") -> int:
        """Let the files from a day on be written again, the same as they were; return how many."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            await _begun(rows, name)
            files = await rows.exports.unwrite(name, from_at.astimezone(UTC).date())
            rows.audit("export.replay", name, None, {"files": files}, reason)
        return files


async def _begun(rows: Transaction, name: str) -> Cursor:
    """Return how far an export has come: nowhere, if it never ran."""
    found = await rows.exports.cursor(name)
    if found is None:
        await rows.exports.add(name, rows.now)
        return Cursor(name, updated_at=rows.now)
    return found
