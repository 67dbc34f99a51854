"""What every use case shares: the rows, the clock, and who acts."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from secrets import choice

from tallygate.admin.postgres import Registry, Statements
from tallygate.admin.records import Customer
from tallygate.admin.transaction import Transaction
from tallygate.core.clock import Clock
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.core.redaction import hide_secrets

PAGE = 1000
"""Rows a list returns at most."""
_REASON_CHARS = 500
_NAME_CHARS = 200
_CENTURY = timedelta(days=36_525)


class Desk:
    """One actor's access to the registry, for one request at a time."""

    def __init__(self, registry: Registry, clock: Clock, actor: str, request_id: str = "") -> None:
        """`actor` is written into the audit log, such as `cli:root`, and so is `request_id`."""
        self._registry = registry
        self._clock = clock
        self.actor = actor
        self._request_id = request_id
        self._joined: Statements | None = None
        self.choose: Callable[[str], str] = choice
        """Picks a character of a secret; see `answers`."""

    def now(self) -> datetime:
        """Return the instant of the desk's clock."""
        return self._clock.now()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run the block as one transaction at the present instant; inside `joined` as a part of that one."""
        if self._joined is None:
            async with self._registry.session() as statements:
                yield (rows := self._rows(statements))
                await rows.settle()
        else:
            async with self._joined.savepoint():
                yield (rows := self._rows(self._joined))
                await rows.settle()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """Run the block, which may only read, on everything as it is at one instant."""
        async with self._registry.snapshot() as statements:
            yield self._rows(statements)

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[Transaction]:
        """Open a transaction that every `transaction` in the block is a part of."""
        async with self._registry.session() as statements:
            self._joined = statements
            try:
                yield self._rows(statements)
            finally:
                self._joined = None

    def _rows(self, statements: Statements) -> Transaction:
        return Transaction(statements, self.now(), self.actor, self._request_id)


async def need_customer(rows: Transaction, ref: str) -> Customer:
    """Return the customer with this id or key; raise NotFoundError."""
    customer = await rows.customers.find(ref)
    if customer is None:
        raise NotFoundError("customer", f"there is no customer {ref!r}", "see `tallygate customers list`")
    return customer


def check_revision(expected: int | None, standing: int) -> None:
    """Raise ConflictError when somebody has changed the object since revision `expected` was read."""
    if expected is not None and expected != standing:
        raise ConflictError("revision", f"is {standing}, not {expected}: it was changed meanwhile", "read it again")


def check_name(name: str, shortest: int = 1) -> None:
    """Raise InputError for a name that people cannot read, or that would keep a secret for all to see."""
    if not shortest <= len(name) <= _NAME_CHARS or not (name.isprintable() or not name):
        raise InputError("name", "cannot be used", f"use {shortest} to {_NAME_CHARS} printable characters")
    if hide_secrets(name) != name:
        raise InputError("name", "holds what looks like a secret", "names are stored: choose another, and revoke it")


def check_reach(field: str, at: datetime, now: datetime) -> None:
    """Raise InputError for an instant so far away that trials, periods and changes would leave the calendar."""
    if abs(at - now) > _CENTURY:
        raise InputError(field, "is more than a century away", "choose an instant nearer to now")


def check_reason(reason: str) -> None:
    """Raise InputError for a reason that is no text for the audit log."""
    if len(reason) > _REASON_CHARS or not (reason.isprintable() or not reason):
        raise InputError("reason", "cannot be used", f"use up to {_REASON_CHARS} printable characters")
