"""Rows of references: what other systems call our customers."""

from datetime import datetime

from tallygate.admin.postgres import Statements
from tallygate.admin.records import CustomerReference


class ReferenceRows:
    """References in one transaction, at the instant `now`."""

    def __init__(self, statements: Statements, now: datetime) -> None:
        """Run `statements`."""
        self._sql = statements
        self._now = now

    async def of(self, customer_id: str) -> list[CustomerReference]:
        """Return what other systems call a customer."""
        return [CustomerReference(**dict(row)) for row in await self._sql.rows("references_of_customer", customer_id)]

    async def put(self, customer_id: str, system: str, reference: str) -> None:
        """Set what a system calls a customer."""
        await self._sql.run("put_reference", customer_id, system, reference, self._now)

    async def remove(self, customer_id: str, system: str) -> None:
        """Forget what a system calls a customer."""
        await self._sql.run("remove_reference", customer_id, system)
