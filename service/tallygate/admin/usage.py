"""Use cases of usage: what a question is about, and whether counters and ledger agree.

Owns finding whose usage is asked for, and which counters can be compared. Does not own reading either
(`usage.reading`, `usage.reconcile`).
"""

from collections.abc import Collection
from datetime import datetime

from tallygate.admin.accounts import accounts_of
from tallygate.admin.desk import Desk, need_customer
from tallygate.admin.dossier import need_subscription
from tallygate.admin.records import Json, as_json
from tallygate.admin.rows.tokens import TokenScope
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import InputError, NotFoundError
from tallygate.usage.question import By, UsageQuery, UsageRow, chosen, span
from tallygate.usage.reconcile import Comparison, Reconciler

_LONGEST = 500
_SHOWN = {"from_at": "from", "to_at": "to"}


class Usage:
    """Ask about usage."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def question(
        self,
        *,
        by: By = By.DAY,
        from_at: datetime | None = None,
        to_at: datetime | None = None,
        customer: str | None = None,
        subscription: str | None = None,
        family: str | None = None,
        plan: str | None = None,
        meter: str | None = None,
        route: str | None = None,
        outcome: str | None = None,
        columns: Collection[str] = (),
    ) -> UsageQuery:
        """Return the question; without instants it is about this month, without `columns` rows have all.

        `customer` is an id or a key. Raises NotFoundError for a customer, subscription or family there is not, or that
        is somebody else's, InputError for instants that begin no unit of time.
        """
        for field, text in (("meter", meter), ("route", route), ("plan", plan)):
            _check_text(field, text)
        from_at, to_at = span(by, from_at, to_at, self._desk.now())
        asked = chosen(columns)
        async with self._desk.transaction() as rows:
            owner = await _owner(rows, customer, subscription, family)
        if by is By.MINUTE and owner is None:
            raise InputError("by", "minutes are of one customer", "name a --customer, or ask by hour")
        return UsageQuery(
            from_at, to_at, by, owner, subscription, family, plan, meter, route, outcome, asked
        )  # fmt: skip

    async def reconcile(self, ref: str, *, reconciler: Reconciler) -> tuple[Comparison, ...]:
        """Compare the counters of a customer's quotas with the ledger; raise DependencyError where one is silent."""
        async with self._desk.transaction() as rows:
            customer = (await need_customer(rows, ref)).id
            accounts = await accounts_of(rows, customer)
        return await reconciler.compare(customer, accounts)


async def _owner(
    rows: Transaction, customer: str | None, subscription: str | None, family: str | None
) -> str | None:  # fmt: skip
    """Return whose usage it is, None for everybody's: a customer's is found without going through the others'."""
    owners = {}
    if customer is not None:
        owners["customer"] = (await need_customer(rows, customer)).id
    if subscription is not None:
        owners["subscription"] = (await need_subscription(rows, subscription)).customer
    if family is not None:
        owners["family"] = await _owner_of_family(rows, family)
    for field, owner in owners.items():
        if owner != next(iter(owners.values())):
            raise NotFoundError(field, "belongs to another customer", "leave --customer out")
    return next(iter(owners.values()), None)


async def _owner_of_family(rows: Transaction, family: str) -> str:
    tokens = await rows.tokens.get(await rows.tokens.ids(TokenScope(family=family), "", 1))
    if not tokens:
        raise NotFoundError("family", f"there is no token family {family!r}", "see `tallygate tokens list`")
    return tokens[0].customer


def row_as_json(row: UsageRow) -> Json:
    """Return a row as it is shown; what it is added up over is null."""
    return {_SHOWN.get(name, name): value for name, value in as_json(row).items()}


def _check_text(field: str, text: str | None) -> None:
    if text is not None and (not text.isprintable() or not 0 < len(text) <= _LONGEST):
        raise InputError(field, "cannot be looked for", f"write 1 to {_LONGEST} printable characters")
