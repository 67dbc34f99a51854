"""Bills by hand: plans as they are written, a contract, and usage that nobody had to count."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tallygate.billing.home import cuts_of
from tallygate.billing.invoice import Invoice, Payer, invoice
from tallygate.billing.life import Stretch, life
from tallygate.billing.period import BillingPeriod, Schedule, WhichPeriod, period_of
from tallygate.billing.usage import BilledUsage, LedgerState, Outcome, UsageTotal, UsageTrace
from tallygate.plans.contract import Contract, PlanChange
from tallygate.plans.document import Plan
from tallygate.plans.parse import parse

NOBODY = LedgerState(None, 0)
PAYER = Payer("cus_1", "sub_1", "live")


def day(text: str) -> datetime:
    """Return midnight of `2026-08-11`, or the instant that is written, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def plans_of(text: str) -> dict[str, Plan]:
    """Return plans written one a line, `pro@1: {…}`, by their versions; without a key and a name, which they get."""
    found = {}
    for line in filter(None, text.splitlines()):
        ref, _, body = line.strip().partition(": ")
        key = ref.partition("@")[0]
        fallback = "" if key == "free" else ", {key: free}"
        written = parse(f"plans: [{{key: {key}, name: {key.title()}, {body.strip()[1:]}{fallback}]", ref)
        found[ref] = written.plans[0]
    return found


@dataclass(frozen=True)
class Row:
    """A row of the ledger: units of a minute. Without one (`minute_at`) it is of the middle of the period."""

    plan: str
    meter: str
    outcome: Outcome
    quantity: int
    minute_at: datetime | None = None
    recorded_at: datetime | None = None


def used(
    plan: str, meter: str = "requests", allowed: int = 0, overage: int = 0, *, at: datetime | None = None
) -> tuple[Row, ...]:
    """Return what the ledger has of a meter: its units within the limits, and those beyond, a row each."""
    units = {Outcome.ALLOWED: allowed, Outcome.OVERAGE: overage}
    return tuple(Row(plan, meter, outcome, count, at) for outcome, count in units.items() if count)


def read(
    rows: Iterable[Row], period: BillingPeriod, life: tuple[Stretch, ...], ledger: LedgerState = NOBODY
) -> BilledUsage:
    """Return what is read of a ledger with these rows for a period's bill, as Postgres would have it."""
    cuts = cuts_of(period, life)
    default = (period.from_at + (period.to_at - period.from_at) / 2).replace(second=0, microsecond=0)
    found: dict[tuple[str, str, Outcome, int], list[tuple[datetime, int]]] = {}
    for row in rows:
        minute_at = row.minute_at or default
        if cuts[0] <= minute_at < cuts[-1]:
            key = (row.plan, row.meter, row.outcome, bisect_right(cuts, minute_at) - 1)
            found.setdefault(key, []).append((row.recorded_at or minute_at, row.quantity))
    totals = (
        UsageTotal(plan, meter, outcome, cuts[place], max(group)[0], len(group), sum(units for _, units in group))
        for (plan, meter, outcome, place), group in found.items()
    )
    return BilledUsage("sub_1", period, life, ledger, tuple(totals))


def traces_of(made: Invoice) -> set[UsageTrace]:
    """Return where all units of an invoice are from; what two lines price is there once."""
    return {trace for line in made.lines for trace in line.usage} | {each.usage for each in made.unbilled}


@dataclass(frozen=True)
class Account:
    """A subscription made on `pro@1` at its start, in UTC, billed from its anchor."""

    plans: Mapping[str, Plan]
    starts_at: datetime
    anchor_at: datetime
    changes: tuple[tuple[datetime, str], ...] = ()
    ends_at: datetime | None = None
    first_used_at: datetime | None = None
    ledger: LedgerState = NOBODY
    contract: Contract = field(init=False)

    def __post_init__(self) -> None:
        """Write the contract."""
        changes = tuple(PlanChange(f"chg_{number}", *rest) for number, rest in enumerate(self.changes))
        contract = Contract(
            "cus_1", "pro@1", self.anchor_at, "UTC", self.starts_at, self.ends_at, trial_to="free@1", changes=changes
        )  # fmt: skip
        object.__setattr__(self, "contract", contract)

    def bill(self, at: datetime, *rows: Row, which: WhichPeriod = WhichPeriod.CURRENT) -> Invoice:
        """Return the invoice of the period that contains `at`."""
        plans = {ref: self.plans.get(ref) or Plan(ref, ref) for ref in {*self.plans, *self.contract.plans}}
        stretches = life(self.contract, plans, self.first_used_at)
        period = period_of(Schedule(stretches, self.anchor_at, "UTC"), plans, at, which)
        return invoice(PAYER, plans, read(rows, period, stretches, self.ledger))


def amounts(made: Invoice) -> list[tuple[str, str]]:
    """Return each line's description and amount."""
    return [(line.description, str(line.amount)) for line in made.lines]


def whys(made: Invoice) -> list[tuple[str, str, str, int]]:
    """Return the reason, plan version, meter and units of what is in no line."""
    return [(each.reason.value, each.usage.plan, each.usage.meter, each.usage.quantity) for each in made.unbilled]
