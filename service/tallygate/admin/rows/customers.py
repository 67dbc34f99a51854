"""Rows of customers."""

from datetime import datetime

from tallygate.admin.postgres import Row, Statements
from tallygate.admin.records import Customer

_ID_PREFIX = "cus_"


class CustomerRows:
    """Customers in one transaction, at the instant `now`."""

    def __init__(self, statements: Statements, now: datetime) -> None:
        """Run `statements`."""
        self._sql = statements
        self._now = now

    async def insert(self, customer_id: str, key: str, name: str) -> None:
        """Add an active customer; raise ConflictError when the key is taken."""
        await self._sql.run("insert_customer", customer_id, key, name, self._now)

    async def find(self, ref: str) -> Customer | None:
        """Return a customer by id or key."""
        row = await self._sql.row("customer", ref) if ref.startswith(_ID_PREFIX) else None
        row = row or await self._sql.row("customer_by_key", ref)
        return None if row is None else _customer(row)

    async def page(self, status: str | None, after: str, limit: int) -> list[Customer]:
        """Return customers created after the id `after`, oldest first."""
        if status is None:
            rows = await self._sql.rows("customers", after, limit)
        else:
            rows = await self._sql.rows("customers_by_status", status, after, limit)
        return [_customer(row) for row in rows]

    async def lock(self, customer_id: str) -> None:
        """Let nobody else change the customer, or give them a subscription, until the transaction ends."""
        await self._sql.row("lock_customer", customer_id)

    async def set_status(self, customer_id: str, status: str, past_due_at: datetime | None) -> None:
        """Set the status of a customer, and since when a payment is due."""
        await self._sql.run("set_customer_status", customer_id, status, past_due_at, self._now)

    async def rename(self, customer_id: str, name: str) -> None:
        """Set the name people read."""
        await self._sql.run("rename_customer", customer_id, name, self._now)


def _customer(row: Row) -> Customer:
    return Customer(**dict(row))
