"""Use cases of customers."""

import re
import unicodedata
from datetime import datetime

from tallygate.admin.desk import PAGE, Desk, check_name, check_reason, check_revision, need_customer
from tallygate.admin.dossier import recompile
from tallygate.admin.records import Customer, as_json
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError
from tallygate.core.ids import new_id
from tallygate.licenses.license import CustomerStatus

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ID = re.compile(r"cus_[0-9a-z]{26}")
_STATUSES = tuple(CustomerStatus)


class Customers:
    """Create, list, show and rename customers; set what they may do by what they pay."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def create(self, key: str | None, name: str | None, *, reason: str = "") -> Customer:
        """Add an active customer; the key is made from the name, or the name from the key, when one is missing.

        Raises InputError for a key or name that cannot be used, ConflictError for a key that is taken.
        """
        check_reason(reason)
        chosen_key, chosen_name = _named(key, name)
        async with self._desk.transaction() as rows:
            customer_id = new_id("cus", rows.now)
            await rows.customers.insert(customer_id, chosen_key, chosen_name)
            customer = await need_customer(rows, customer_id)
            rows.audit("customer.create", customer.id, None, as_json(customer), reason)
        return customer

    async def list(self, after: str = "", limit: int = PAGE, *, status: str | None = None) -> list[Customer]:
        """Return customers in order of creation, after the id `after`, of one status or of all."""
        if status is not None:
            _check_status(status)
        async with self._desk.transaction() as rows:
            return await rows.customers.page(status, after, limit)

    async def show(self, ref: str) -> Customer:
        """Return the customer with this id or key; raise NotFoundError."""
        async with self._desk.transaction() as rows:
            return await need_customer(rows, ref)

    async def rename(self, ref: str, name: str, *, reason: str = "", revision: int | None = None) -> Customer:
        """Give a customer another name; the key stays."""
        check_reason(reason)
        chosen = _checked_name(name)
        async with self._desk.transaction() as rows:
            before = await _need_locked(rows, ref, revision)
            await rows.customers.rename(before.id, chosen)
            after = await need_customer(rows, before.id)
            rows.audit("customer.rename", before.id, as_json(before), as_json(after), reason)
        return after

    async def set_status(
        self,
        ref: str,
        status: str,
        reason: str = "",
        *,
        since: datetime | None = None,
        revision: int | None = None,
    ) -> Customer:
        """Set a customer `active`, `past_due`, `suspended` or `closed`; their tokens follow within a second.

        From `past_due` on, `since` when the payment failed (now unless told), the grace of their plans runs;
        it goes on, and stays due, through a suspension, until they are `active` again: all is paid.
        """
        check_reason(reason)
        _check_status(status)
        async with self._desk.transaction() as rows:
            before = await _need_locked(rows, ref, revision)
            if before.status == CustomerStatus.CLOSED and status != CustomerStatus.CLOSED:
                raise ConflictError("customer", f"{before.key} is closed", "create a new customer")
            due_at = _due_at(before, status, since, rows.now)
            if (status, due_at) == (before.status, before.past_due_at):
                return before
            await rows.customers.set_status(before.id, status, due_at)
            rows.changed(before.id)
            if due_at != before.past_due_at:
                live = await rows.subscriptions.live_ids(before.id)
                await recompile(rows, await rows.subscriptions.lock(live), before.id)
            after = await need_customer(rows, before.id)
            rows.audit(f"customer.{status}", before.id, as_json(before), as_json(after), reason)
        return after


async def _need_locked(rows: Transaction, ref: str, revision: int | None) -> Customer:
    await rows.customers.lock((await need_customer(rows, ref)).id)
    customer = await need_customer(rows, ref)
    check_revision(revision, customer.revision)
    return customer


def _due_at(before: Customer, status: str, since: datetime | None, now: datetime) -> datetime | None:
    """Return since when a payment is due, once the customer has this status."""
    if since is not None and status != CustomerStatus.PAST_DUE:
        raise InputError("since", "goes with past_due only", "leave it out")
    if since is not None and since > now:
        raise InputError("since", "lies ahead", "write when the payment failed, or leave it out")
    if status == CustomerStatus.ACTIVE:
        return None
    if status == CustomerStatus.PAST_DUE:
        return since or before.past_due_at or now
    return before.past_due_at


def _check_status(status: str) -> None:
    if status not in _STATUSES:
        raise InputError("status", f"{status!r} is not known", "one of " + ", ".join(_STATUSES))


def _named(key: str | None, name: str | None) -> tuple[str, str]:
    if key is None and name is None:
        raise InputError("key", "is missing", "give a key such as acme, or --name")
    chosen_key = _slug(name or "") if key is None else key
    if not _KEY.fullmatch(chosen_key):
        raise InputError("key", f"{chosen_key!r} cannot be used", "use up to 63 of a-z, 0-9, '.', '_' and '-'")
    if _ID.fullmatch(chosen_key):
        raise InputError("key", f"{chosen_key!r} looks like an id", "choose a key of your own")
    return chosen_key, _checked_name(name if name is not None else chosen_key)


def _checked_name(name: str) -> str:
    chosen = name.strip()
    check_name(chosen)
    return chosen


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63]
