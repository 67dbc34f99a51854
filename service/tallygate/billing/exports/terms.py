"""What an export tells: which entries, under which names. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tallygate.billing.exports.row import LedgerRow

ALL = "all"
_REFERENCE = "reference:"


@dataclass(frozen=True, slots=True)
class Terms:
    """Which entries are told: of these meters (all, under their own names, when None), outcomes and environment.

    `subject` says by what the receiver knows whose usage it is: `id` or `key` of the customer, `subscription`, or
    `reference:SYSTEM`. Entries recorded before `from_at` are left out.
    """

    subject: str = "key"
    meters: Mapping[str, str] | None = None
    outcomes: str = ALL
    environment: str = "live"
    from_at: datetime | None = None

    @property
    def system(self) -> str:
        """Return the system whose references are needed; empty where none are."""
        return self.subject.removeprefix(_REFERENCE) if self.subject.startswith(_REFERENCE) else ""

    def takes(self, row: LedgerRow) -> bool:
        """Say whether an entry is told. One whose subscription is not known is told as a live one."""
        return (
            (self.meters is None or row.meter in self.meters)
            and self.outcomes in {ALL, row.outcome}
            and self.environment in {ALL, row.environment or "live"}
            and (self.from_at is None or row.recorded_at >= self.from_at)
        )

    def name_of(self, row: LedgerRow) -> str:
        """Return what the receiver calls the entry's meter."""
        return row.meter if self.meters is None else self.meters[row.meter]

    def subject_of(self, row: LedgerRow) -> str:
        """Return by what the receiver knows whose usage it is; empty if that is not known."""
        match self.subject:
            case "id":
                return row.customer
            case "key":
                return row.customer_key
            case "subscription":
                return row.subscription
        return row.reference

    def missing_subject(self, row: LedgerRow) -> str:
        """Say what is missing of an entry without a subject, and how to mend it."""
        customer = row.customer_key or row.customer
        if not self.system:
            return f"the customer {row.customer} is not known"
        mend = f"tallygate customers refer {customer} {self.system} REFERENCE"
        return f"{self.system} has no reference for the customer {customer}: `{mend}`"
