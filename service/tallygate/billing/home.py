"""Homes: when units count, by the plan version they were decided on and the minute they were counted in.

Owns whose bill the ledger's units are on: every unit has one home, so the bills of a subscription come to its ledger.
A data plane that has not heard of a change, or whose clock differs, decides on a plan that is over, or not yet in
force. Its units count with the time on that plan that was last, or else with the next, up to `REACH` away: there they
have the prices, tiers and currency they were decided on. Any others count when they were used. The ledger knows no part
of a minute: one belongs to what begins in it. Nothing further off than `REACH` moves a unit, so bills that are older
stay as they are. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tallygate.billing.life import Stretch
from tallygate.billing.period import BillingPeriod

MINUTE = timedelta(minutes=1)
REACH = timedelta(days=1)
"""Far more than a license outlives its change while Postgres is away (an hour, unless it is set)."""
_LEAST = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Home:
    """The instant at which units count, and whether the trial was not over by then."""

    at: datetime
    is_trial: bool


def home_of(plan: str, minute_at: datetime, life: Sequence[Stretch]) -> Home:
    """Return when units of a minute that were decided on a plan version count.

    Of one version the homes of later minutes are never earlier, and whatever is before the end of the trial is of the
    trial: so a period has minutes of a version without a gap, in its trial and after.
    """
    last_at = minute_at + MINUTE - _LEAST
    own = [each for each in life if each.plan == plan]
    begun = [each for each in own if each.from_at <= last_at]
    if begun and minute_at - REACH < minute_of(begun[-1].to_at):
        return Home(min(last_at, begun[-1].to_at - _LEAST), begun[-1].is_trial)
    ahead = own[len(begun) :]
    if ahead and minute_of(ahead[0].from_at) <= minute_at + REACH:
        return Home(ahead[0].from_at, ahead[0].is_trial)
    return Home(last_at, any(each.is_trial and last_at < each.to_at for each in life))


def cuts_of(period: BillingPeriod, life: Sequence[Stretch]) -> tuple[datetime, ...]:
    """Return where the minutes that a period may have units of are cut, ascending, first and last of them included.

    Between two cuts, all minutes have their home in the same period, whatever the plan.
    """
    first, last = minute_of(period.from_at) - REACH, minute_of(period.to_at) + REACH
    ends = [period.from_at, period.to_at, *(end for each in life for end in (each.from_at, each.to_at))]
    near = [minute_of(end) for end in ends if first - REACH <= end <= last + REACH]
    cuts = {at + lapse for at in near for lapse in (-REACH, timedelta(), MINUTE, REACH)}
    return tuple(sorted(at for at in cuts if first <= at <= last))


def minute_of(at: datetime) -> datetime:
    """Return the beginning of the minute of an instant."""
    return at.replace(second=0, microsecond=0)
