"""Reading the phases of a contract that the plan sets: trial and grace.

Owns what they may say. Does not own when they begin and end: that is a subscription's.
"""

from tallygate.plans.document import Grace, GraceLimits, Trial, TrialBasis, TrialEnd
from tallygate.plans.fields import NAME, NAME_MEND, Field, Record
from tallygate.plans.notation import read_share

MAXIMUM_DAYS = 3650
TRIAL_KEYS = ("days", "basis", "at_end", "to", "bill_usage")
GRACE_KEYS = ("days", "limits", "share")


def read_trial(field: Field) -> tuple[Trial | None, Field | None]:
    """Return the trial, and where it names the plan to downgrade to."""
    record = field.record(TRIAL_KEYS)
    days = _days(record, 14)
    basis = record.choice("basis", TrialBasis.CREATION)
    at_end = record.choice("at_end", TrialEnd.CONVERT)
    to_field = record.get("to")
    if at_end is TrialEnd.DOWNGRADE:
        to_field = record.need("to", "write to: free, the plan to downgrade to")
    elif to_field:
        to_field.wrong(f"to says nothing where the trial ends in {at_end.value}", "remove it, or at_end: downgrade")
        to_field = None
    to = to_field.matching(NAME, NAME_MEND) if to_field else None
    trial = None if days is None else Trial(days, basis, at_end, to, record.flag("bill_usage"))
    return trial, to_field if to else None


def read_grace(field: Field) -> Grace | None:
    """Return how long, and how much of it, a customer who is past due is served."""
    record = field.record(GRACE_KEYS)
    days = _days(record, 7)
    is_reduced = record.choice("limits", GraceLimits.FULL) is GraceLimits.REDUCED
    share_field = record.get("share")
    share = share_field.read(read_share) if share_field else None
    if share_field and not is_reduced:
        share_field.wrong("share says nothing where limits are full", "remove it, or limits: reduced")
    if days is None:
        return None
    return Grace(days, is_reduced) if share is None else Grace(days, is_reduced, share)


def _days(record: Record, example: int) -> int | None:
    field = record.need("days", f"write days: {example}")
    return field.whole(1, MAXIMUM_DAYS + 1) if field else None
