"""Columns of files: the ledger's own, or those of FOCUS that usage has. Pure.

FOCUS is the FinOps cost and usage format. Its cost columns are not here: the ledger knows units, not money.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tallygate.billing.exports.row import LedgerRow

Value = str | int | datetime
Column = Callable[[LedgerRow], Value]
_MINUTE = timedelta(minutes=1)


class Shape(StrEnum):
    """Which columns a file has."""

    LEDGER = "ledger"
    FOCUS = "focus"


def _month(at: datetime) -> datetime:
    return datetime(at.year, at.month, 1, tzinfo=UTC)


def _month_after(at: datetime) -> datetime:
    return _month(_month(at) + timedelta(days=32))


_LEDGER: Mapping[str, Column] = {
    "key": lambda row: row.key,
    "recorded_at": lambda row: row.recorded_at,
    "minute_at": lambda row: row.minute_at,
    "customer": lambda row: row.customer,
    "customer_key": lambda row: row.customer_key,
    "subscription": lambda row: row.subscription,
    "family": lambda row: row.family,
    "plan": lambda row: row.plan,
    "meter": lambda row: row.meter,
    "route": lambda row: row.route,
    "outcome": lambda row: row.outcome,
    "entry": lambda row: row.entry,
    "quantity": lambda row: row.quantity,
}
_FOCUS: Mapping[str, Column] = {
    "BillingAccountId": lambda row: row.customer,
    "BillingAccountName": lambda row: row.customer_key,
    "BillingPeriodStart": lambda row: _month(row.minute_at),
    "BillingPeriodEnd": lambda row: _month_after(row.minute_at),
    "ChargeCategory": lambda _: "Usage",
    "ChargeClass": lambda row: "Correction" if row.entry == "correction" else "",
    "ChargeDescription": lambda row: f"{row.meter} of {row.route or 'no route'}, {row.outcome}",
    "ChargeFrequency": lambda _: "Usage-Based",
    "ChargePeriodStart": lambda row: row.minute_at,
    "ChargePeriodEnd": lambda row: row.minute_at + _MINUTE,
    "ConsumedQuantity": lambda row: row.quantity,
    "ConsumedUnit": lambda row: row.meter,
    "ResourceId": lambda row: row.family,
    "SkuId": lambda row: f"{row.plan}:{row.meter}",
    "SubAccountId": lambda row: row.subscription,
    "x_Key": lambda row: row.key,
}
COLUMNS: Mapping[Shape, Mapping[str, Column]] = {Shape.LEDGER: _LEDGER, Shape.FOCUS: _FOCUS}
