"""Use cases of references: what other systems call our customers, for those who are told of usage."""

import re

from tallygate.admin.desk import Desk, check_reason, need_customer
from tallygate.admin.records import CustomerReference, as_json
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import InputError, NotFoundError
from tallygate.core.redaction import hide_secrets

_SYSTEM = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_REFERENCE = re.compile(r"[!-~]{1,200}")


class References:
    """Say, show and forget what another system calls a customer."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def list(self, customer: str) -> list[CustomerReference]:
        """Return what other systems call a customer, by system."""
        async with self._desk.transaction() as rows:
            return await rows.references.of((await need_customer(rows, customer)).id)

    async def show(self, customer: str, system: str) -> CustomerReference:
        """Return what a system calls a customer; raise NotFoundError."""
        async with self._desk.transaction() as rows:
            return await _need(rows, (await need_customer(rows, customer)).id, system)

    async def put(self, customer: str, system: str, reference: str, *, reason: str = "") -> CustomerReference:
        """Set what a system calls a customer, whatever it was before.

        Raises InputError for a name of a system, or a reference, that cannot be used.
        """
        check_reason(reason)
        _check(system, reference)
        async with self._desk.transaction() as rows:
            owner = (await need_customer(rows, customer)).id
            await rows.customers.lock(owner)
            before = await _find(rows, owner, system)
            if before is not None and before.reference == reference:
                return before
            await rows.references.put(owner, system, reference)
            after = await _need(rows, owner, system)
            rows.audit("customer.refer", owner, None if before is None else as_json(before), as_json(after), reason)
        return after

    async def remove(self, customer: str, system: str, *, reason: str = "") -> CustomerReference:
        """Forget what a system calls a customer; return what it was. Raises NotFoundError."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            owner = (await need_customer(rows, customer)).id
            await rows.customers.lock(owner)
            before = await _need(rows, owner, system)
            await rows.references.remove(owner, system)
            rows.audit("customer.unrefer", owner, as_json(before), None, reason)
        return before


async def _find(rows: Transaction, customer_id: str, system: str) -> CustomerReference | None:
    return next((each for each in await rows.references.of(customer_id) if each.system == system), None)


async def _need(rows: Transaction, customer_id: str, system: str) -> CustomerReference:
    found = await _find(rows, customer_id, system)
    if found is None:
        raise NotFoundError("system", f"{system!r} has no reference for this customer", "see the customer's references")
    return found


def _check(system: str, reference: str) -> None:
    if not _SYSTEM.fullmatch(system):
        raise InputError(
            "system", f"{system!r} cannot be used", "use up to 63 of a-z, 0-9, '_' and '-', a letter first"
        )
    if not _REFERENCE.fullmatch(reference):
        raise InputError("reference", "cannot be used", "use 1 to 200 printable ASCII characters without spaces")
    if hide_secrets(reference) != reference:
        raise InputError("reference", "looks like a secret", "references are stored: choose another, and revoke it")
