"""Bills by hand: plans as they are written, a contract, and usage that nobody had to count."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tallygate.billing.invoice import Invoice, Payer, invoice
from tallygate.billing.life import life
from tallygate.billing.period import Schedule, WhichPeriod, period_of
from tallygate.billing.usage import BilledUsage, LedgerState, Outcome, UsageTotal, window_of
from tallygate.plans.contract import Contract, PlanChange
from tallygate.plans.document import Plan
from tallygate.plans.parse import parse

NOBODY = LedgerState(None, 0)


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


def used(
    plan: str, meter: str = "requests", allowed: int = 0, overage: int = 0, *, is_trial: bool = False
) -> tuple[UsageTotal, ...]:
    """Return what the ledger says of a meter: its units within the limits, and those beyond, of two rows each."""
    units = {Outcome.ALLOWED: allowed, Outcome.OVERAGE: overage}
    return tuple(UsageTotal(plan, meter, outcome, is_trial, 2, count) for outcome, count in units.items() if count)


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

    def bill(self, at: datetime, *usage: UsageTotal, which: WhichPeriod = WhichPeriod.CURRENT) -> Invoice:
        """Return the invoice of the period that contains `at`."""
        plans = {ref: self.plans.get(ref) or Plan(ref, ref) for ref in {*self.plans, *self.contract.plans}}
        stretches = life(self.contract, plans, self.first_used_at)
        period = period_of(Schedule(stretches, self.anchor_at, "UTC"), plans, at, which)
        billed = BilledUsage("sub_1", window_of(period, stretches), self.ledger, usage)
        return invoice(Payer("cus_1", "sub_1", "live"), period, stretches, plans, billed)


def amounts(made: Invoice) -> list[tuple[str, str]]:
    """Return each line's description and amount."""
    return [(line.description, str(line.amount)) for line in made.lines]
