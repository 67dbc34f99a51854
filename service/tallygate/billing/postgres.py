"""Reading the ledger for a bill, on the connection of whoever reads the contract, so that both are of one instant."""

from collections.abc import Sequence
from datetime import datetime

from tallygate.billing.usage import LedgerState, Outcome, UsageTotal
from tallygate.storage.postgres import PooledConnection
from tallygate.storage.queries import load

_SQL = load("tallygate.billing", "queries.sql")


class PostgresBilledUsage:
    """The usage ledger as bills read it; whoever lends the connection calls its failures by name."""

    def __init__(self, connection: PooledConnection) -> None:
        """Use a connection that is inside a transaction."""
        self._connection = connection

    async def totals(self, subscription: str, cuts: Sequence[datetime]) -> tuple[UsageTotal, ...]:
        """Return what a subscription used from the first cut to the last, added up between cuts."""
        rows = await self._connection.fetch(_SQL["billed_usage"], subscription, cuts)
        return tuple(
            UsageTotal(
                plan=row["plan"],
                meter=row["meter"],
                outcome=Outcome(row["outcome"]),
                from_at=cuts[row["place"] - 1],
                recorded_at=row["recorded_at"],
                rows=row["rows"],
                quantity=row["quantity"],
            )
            for row in rows
        )

    async def ledger(self) -> LedgerState:
        """Return how far the ledger goes."""
        row = await self._connection.fetchrow(_SQL["ledger"])
        return LedgerState(None, 0) if row is None else LedgerState(row["moved_to"], row["last_id"])
