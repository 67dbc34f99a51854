"""What `lua/amend.lua` is sent, described there; what it answers. Pure; `script` has the other scripts."""

from tallygate.limits.amendment import Amendment, AmendOutcome, Change, Granted
from tallygate.limits.keys import (
    ALLOWED,
    OVERAGE,
    Owner,
    due_key,
    due_member,
    idempotency_key,
    index_key,
    receipt_key,
    usage_head,
    usage_prefix,
)
from tallygate.limits.limiter import IDEMPOTENCY_TTL_S
from tallygate.limits.script import KIND_NUMBERS, Call, packed_arguments

AMEND_OUTCOMES = {1: AmendOutcome.DONE, 0: AmendOutcome.REPEATED, -1: AmendOutcome.UNKNOWN}
"""What the script answers."""


def amend_request(amendment: Amendment) -> Call:
    """Return KEYS and ARGV of `amend.lua`."""
    customer = amendment.customer
    once = (idempotency_key if amendment.is_slab else receipt_key)(customer, amendment.id)
    layout = _Layout(amendment)
    keys = [once, usage_prefix(customer), index_key(customer), due_key(customer), *layout.records]
    return keys, packed_arguments(layout.numbers, layout.texts)


class _Layout:
    """Numbers and texts of one call."""

    def __init__(self, amendment: Amendment) -> None:
        """Lay an amendment out."""
        self.records: list[str] = []
        self.texts: list[str] = []
        self._meters = [each.meter for each in amendment.usage]
        changes = [number for change in amendment.changes for number in self._change(change)]
        usage = [units for each in amendment.usage for units in (each.allowed, each.overage)]
        heads = [
            amendment.is_slab + amendment.is_late,
            amendment.until_us,
            IDEMPOTENCY_TTL_S * 1000,
            amendment.minute,
            len(amendment.changes),
            len(amendment.usage),
        ]
        self.numbers = [*heads, len(heads) + 1 + len(changes) + len(usage), *changes, *usage]
        owner = Owner(amendment.subscription, amendment.plan, amendment.family)
        self.texts += (due_member(amendment.customer, amendment.id) if amendment.is_due else "", amendment.route)
        self.texts += (
            usage_head(owner, meter, outcome, amendment.entry)
            for meter in self._meters
            for outcome in (ALLOWED, OVERAGE)
        )

    def _change(self, change: Change) -> list[int]:
        meter = self._meters.index(change.meter) + 1 if change.meter in self._meters else 0
        numbers = [KIND_NUMBERS[change.kind], *self._place(change.key, change.field), meter, change.units]
        numbers += (change.amount, change.over, change.end_us, change.most, change.window_us, change.was_us, change.own)
        return [*numbers, len(change.grants), *(number for grant in change.grants for number in self._grant(grant))]

    def _grant(self, grant: Granted) -> list[int]:
        return [*self._place(grant.key, grant.field), grant.amount, grant.until_us, grant.back]

    def _place(self, key: str, field: str) -> tuple[int, int]:
        if key not in self.records:
            self.records.append(key)
        self.texts.append(field)
        return self.records.index(key) + 1, len(self.texts)
