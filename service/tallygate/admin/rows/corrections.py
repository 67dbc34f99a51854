"""Rows of corrections: entries of the usage ledger that somebody wrote, beside those that were counted."""

from datetime import datetime

from tallygate.admin.postgres import Statements
from tallygate.usage.entry import UsageEntry
from tallygate.usage.postgres import make_partitions, next_correction, store_rows


class CorrectionRows:
    """Corrections of the ledger."""

    def __init__(self, statements: Statements, now: datetime) -> None:
        """Use statements that are inside a transaction; `now` is when the correction is made."""
        self._connection = statements.connection
        self._now = now

    async def insert(self, entry: UsageEntry, reason: str) -> int:
        """Add an entry and return its number; the ledger's other writers wait until this transaction ends."""
        await make_partitions(self._connection, [self._now, entry.minute_at])
        number = await next_correction(self._connection)
        await store_rows(self._connection, [(self._now, number, entry)], reason)
        return number
