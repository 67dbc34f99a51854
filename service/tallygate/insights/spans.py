"""Cutting a span of time into parts that the ledger has added up already: months, days, hours, and minutes at its ends.

Owns only the cut, in UTC, as the roll-ups have it. The parts of a span share nothing and leave nothing out, so that the
sum over them is the sum over its minutes. Pure.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from tallygate.core.periods import add_months


class Grain(StrEnum):
    """How long a time the rows of a roll-up are about; minutes are the ledger itself."""

    MONTH = "month"
    DAY = "day"
    HOUR = "hour"
    MINUTE = "minute"


_FINER = {Grain.MONTH: Grain.DAY, Grain.DAY: Grain.HOUR, Grain.HOUR: Grain.MINUTE}
_LENGTHS = {Grain.DAY: timedelta(days=1), Grain.HOUR: timedelta(hours=1)}

Part = tuple[Grain, datetime, datetime]


def cover(from_at: datetime, to_at: datetime, grain: Grain = Grain.MONTH) -> Iterator[Part]:
    """Return the parts of a span of whole minutes, half-open, each as coarse as it can be."""
    if from_at >= to_at:
        return
    if grain is Grain.MINUTE:
        yield grain, from_at, to_at
        return
    finer, inner_from, inner_to = _FINER[grain], _next(from_at, grain), _start(to_at, grain)
    if inner_from >= inner_to:
        yield from cover(from_at, to_at, finer)
        return
    yield from cover(from_at, inner_from, finer)
    yield grain, inner_from, inner_to
    yield from cover(inner_to, to_at, finer)


def _start(at: datetime, grain: Grain) -> datetime:
    at = at.replace(minute=0, second=0, microsecond=0)
    if grain is Grain.HOUR:
        return at
    return at.replace(hour=0) if grain is Grain.DAY else at.replace(day=1, hour=0)


def _next(at: datetime, grain: Grain) -> datetime:
    """Return the first start of a unit that is not before `at`."""
    start = _start(at, grain)
    if start == at:
        return at
    return add_months(start, 1) if grain is Grain.MONTH else start + _LENGTHS[grain]
