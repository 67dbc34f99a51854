"""Reading the ledger for a bill, on the connection of whoever reads the contract, so that both are of one instant."""

from tallygate.billing.usage import LedgerState, Outcome, UsageTotal, Window
from tallygate.storage.postgres import PooledConnection
from tallygate.storage.queries import load

_SQL = load("tallygate.billing", "queries.sql")


class PostgresBilledUsage:
    """The usage ledger as bills read it; whoever lends the connection calls its failures by name."""

    def __init__(self, connection: PooledConnection) -> None:
        """Use a connection that is inside a transaction."""
        self._connection = connection

    async def totals(self, subscription: str, window: Window) -> tuple[UsageTotal, ...]:
        """Return what a subscription used in a window."""
        trial_to = window.trial_to or window.from_at
        rows = await self._connection.fetch(
            _SQL["billed_usage"], subscription, window.from_at, window.to_at, trial_to, window.shared
        )  # fmt: skip
        return tuple(
            UsageTotal(
                plan=row["plan"],
                meter=row["meter"],
                outcome=Outcome(row["outcome"]),
                is_trial=row["is_trial"],
                rows=row["rows"],
                quantity=row["quantity"],
                shared_at=row["shared_at"],
            )
            for row in rows
        )

    async def ledger(self) -> LedgerState:
        """Return how far the ledger goes."""
        row = await self._connection.fetchrow(_SQL["ledger"])
        return LedgerState(None, 0) if row is None else LedgerState(row["moved_to"], row["last_id"])
