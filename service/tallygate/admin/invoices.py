"""Use case of invoices: what a customer's subscriptions come to in a billing period, as far as the ledger goes.

Reads the contract, its plan versions and the ledger in one snapshot, and changes nothing: a preview is computed
anew each time. How money is made of it is `billing`.
"""

from collections.abc import Iterable
from datetime import datetime

from tallygate.admin.desk import PAGE, Desk, check_reach, need_customer
from tallygate.admin.dossier import contract_of, plans_of
from tallygate.admin.rows.plans import split_ref
from tallygate.admin.rows.subscriptions import StoredContract
from tallygate.admin.transaction import Transaction
from tallygate.billing.home import cuts_of
from tallygate.billing.invoice import Invoice, Payer, invoice
from tallygate.billing.life import life
from tallygate.billing.period import Schedule, WhichPeriod, period_of
from tallygate.billing.usage import BilledUsage
from tallygate.core.errors import InputError
from tallygate.plans.codec import plan_from_document
from tallygate.plans.document import Plan
from tallygate.tokens.format import Environment

_DIGITS = 9
"""A version's number fits int4."""


class Invoices:
    """Preview invoices."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def preview(
        self,
        customer: str,
        *,
        at: datetime | None = None,
        period: WhichPeriod = WhichPeriod.CURRENT,
        environment: Environment = Environment.LIVE,
    ) -> list[Invoice]:
        """Return an invoice for each subscription that has a part in its billing period that contains `at` (now).

        Or in the one before. Oldest subscription first; there are several where one followed another. Raises
        NotFoundError for the customer, InputError for an instant that lies ahead.
        """
        async with self._desk.snapshot() as rows:
            payer = await need_customer(rows, customer)
            instant = at or rows.now
            check_reach("at", instant, rows.now)
            if instant > rows.now:
                raise InputError("at", "lies ahead", "choose an instant that has gone by")
            found = await rows.subscriptions.get(await _subscriptions(rows, payer.id))
            stored = [each for each in found if each.row.environment == environment]
            plans = await plans_of(rows, [ref for each in stored for ref in contract_of(each).plans])
            made = [await _preview(rows, each, plans, instant, period) for each in stored]
        return [each for each in made if each is not None]


async def _subscriptions(rows: Transaction, customer: str) -> list[str]:
    ids: list[str] = []
    while page := await rows.subscriptions.ids(customer, None, ids[-1] if ids else "", PAGE):
        ids += page
    return ids


async def _preview(
    rows: Transaction, stored: StoredContract, plans: dict[str, Plan], at: datetime, which: WhichPeriod
) -> Invoice | None:
    """Return a subscription's invoice, None where it was on no plan in that period, and nothing counts in it."""
    row = stored.row
    stretches = life(contract_of(stored), plans, row.first_used_at)
    period = period_of(Schedule(stretches, row.anchor_at, row.timezone), plans, at, which)
    totals = await rows.billed_usage.totals(row.id, cuts_of(period, stretches))
    usage = BilledUsage(row.id, period, stretches, await rows.billed_usage.ledger(), totals)
    if not period.within(stretches) and not usage.own:
        return None
    known = plans | await _versions(rows, set(usage.plans) - plans.keys())
    return invoice(Payer(row.customer, row.id, row.environment), known, usage)


async def _versions(rows: Transaction, refs: Iterable[str]) -> dict[str, Plan]:
    """Return those of the plan versions that there are: the ledger takes any text, and must."""
    found = {ref: await rows.plans.version(*split_ref(ref)) for ref in sorted(refs) if _is_version(ref)}
    return {ref: plan_from_document(version.document) for ref, version in found.items() if version is not None}


def _is_version(ref: str) -> bool:
    number = ref.partition("@")[2]
    return number.isascii() and number.isdecimal() and len(number) <= _DIGITS
