"""An entry of the ledger as it is told to others, and the key by which they know it again.

The key is made from what the entry is about, not from its number: a ledger that was restored from a backup may give the
same entry another number, and receivers still know it. Pure.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

_KEY_CHARS = 32
"""128 bits: no two entries of one ledger, or of two ledgers with one receiver, have the same."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """An entry of `usage_entries`; `bucket` is when its bucket was opened, or a correction's own number.

    `customer_key`, `environment` and `reference` (what the receiver's system calls the customer) are looked up; empty
    where there is none.
    """

    id: int
    recorded_at: datetime
    bucket: int
    customer: str
    subscription: str
    family: str
    plan: str
    meter: str
    route: str
    outcome: str
    entry: str
    minute_at: datetime
    quantity: int
    customer_key: str = ""
    environment: str = ""
    reference: str = ""

    @property
    def key(self) -> str:
        """Return its idempotency key: `use_` and 32 hexadecimal digits."""
        told = (
            *(self.recorded_at.isoformat(), str(self.bucket), self.customer, self.subscription, self.family, self.plan),
            *(self.meter, self.outcome, self.entry, self.minute_at.isoformat(), self.route),
        )
        # Each with its length before it: no text of one can be read as the end of another's.
        text = "".join(f"{len(part)}:{part}" for part in told)
        return "use_" + sha256(text.encode()).hexdigest()[:_KEY_CHARS]
