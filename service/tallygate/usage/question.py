"""A question about usage, and the rows that answer it.

Owns which spans of time can be asked for, the order of rows, and how counted entries come to rows. Does not own
where they are kept (`reading`, `live`). Pure.

Rows come in the order of their keys: the columns that were asked for, by their bytes, and of these the customer before
the time. A column that was not asked for is None in every row: what it told apart is added up.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import TypeAlias

from tallygate.core.errors import InputError
from tallygate.core.periods import add_months
from tallygate.usage.entry import UsageEntry

Key: TypeAlias = tuple[str | datetime, ...]
"""What tells a row from the others of its answer."""

_YEARS = range(1970, 9000)  # no unit from there on leaves what a datetime can hold
_FIXED = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


class By(StrEnum):
    """How long a stretch of time a row is about; in UTC."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    def start_of(self, at: datetime) -> datetime:
        """Return when the unit began that contains `at` (UTC)."""
        minute = at.replace(second=0, microsecond=0)
        hour = minute.replace(minute=0)
        match self:
            case By.MINUTE:
                return minute
            case By.HOUR:
                return hour
            case By.DAY:
                return hour.replace(hour=0)
            case By.MONTH:
                return hour.replace(hour=0, day=1)

    def end_of(self, start_at: datetime) -> datetime:
        """Return when the unit that begins at `start_at` is over."""
        return add_months(start_at, 1) if self is By.MONTH else start_at + _FIXED[self]


class Column(StrEnum):
    """What rows can be told apart by, beside time; in the order of their keys."""

    CUSTOMER = "customer"
    SUBSCRIPTION = "subscription"
    FAMILY = "family"
    PLAN = "plan"
    METER = "meter"
    ROUTE = "route"
    OUTCOME = "outcome"


EVERY_COLUMN = tuple(Column)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is asked: usage from `from_at` until `to_at`, in rows `by` a unit of time and by `columns`.

    Both instants begin a unit (see `span`). What is given narrows: `plan` is a version (`pro@3`) or all versions of one
    (`pro`), the others are ids and names as they were counted.
    """

    from_at: datetime
    to_at: datetime
    by: By = By.DAY
    customer: str | None = None
    subscription: str | None = None
    family: str | None = None
    plan: str | None = None
    meter: str | None = None
    route: str | None = None
    outcome: str | None = None
    columns: tuple[Column, ...] = EVERY_COLUMN

    @property
    def filters(self) -> dict[Column, str]:
        """Return what narrows, by column."""
        given = {column: getattr(self, column.value) for column in EVERY_COLUMN}
        return {column: value for column, value in given.items() if value is not None}

    @property
    def time_at(self) -> int:
        """Return where in a key the time stands: after the customer, or first."""
        return int(Column.CUSTOMER in self.columns)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Units of one meter in one stretch of time; None: added up over all of that column."""

    customer: str | None
    subscription: str | None
    family: str | None
    plan: str | None
    meter: str | None
    route: str | None
    outcome: str | None
    from_at: datetime
    to_at: datetime
    quantity: int


def chosen(columns: Collection[str]) -> tuple[Column, ...]:
    """Return these columns in the order of keys; all when none is named. Raises InputError for one there is not."""
    unknown = sorted(set(columns) - set(Column))
    if unknown:
        raise InputError("group-by", f"there is no column {unknown[0]!r}", "choose of " + ", ".join(Column))
    return tuple(column for column in Column if column in columns) or EVERY_COLUMN


def span(
    by: By, from_at: datetime | None, to_at: datetime | None, now: datetime
) -> tuple[datetime, datetime]:  # fmt: skip
    """Return from when until when; what is left out is the month's beginning, and the end of the present unit.

    Raises InputError for an instant that does not begin a unit, with the one before that does, and where the first is
    not before the second.
    """
    if to_at is None:
        present = max(now, from_at or now)
        until_at = by.end_of(by.start_of(_usable("from", present)))
        if from_at is None:
            until_at = By.MONTH.end_of(By.MONTH.start_of(now))
    else:
        until_at = _aligned("to", by, to_at)
    since_at = By.MONTH.start_of(until_at - timedelta.resolution) if from_at is None else _aligned("from", by, from_at)
    if since_at >= until_at:
        raise InputError("to", f"{_text(until_at)} is not after {_text(since_at)}", "the end is not part of the answer")
    return since_at, until_at


def sums(query: UsageQuery, entries: Iterable[UsageEntry]) -> dict[Key, int]:
    """Return what the entries that are asked for come to, by the keys of their rows."""
    filters = tuple((attrgetter(column.value), value) for column, value in query.filters.items() if column != "plan")
    parts = attrgetter("minute_at", *query.columns)  # never one alone, so a tuple
    time_at, starts = query.time_at, _Starts(query.by)
    from_at, to_at, plan = query.from_at, query.to_at, query.plan
    found: Counter[Key] = Counter()
    for entry in entries:
        if not from_at <= entry.minute_at < to_at or not (plan is None or _is_of(plan, entry.plan)):
            continue
        if all(part(entry) == value for part, value in filters):
            at, *texts = parts(entry)
            found[(*texts[:time_at], starts[at], *texts[time_at:])] += entry.quantity
    return found


class _Starts(dict[datetime, datetime]):
    """When the unit began that contains an instant, by the instant: there are few."""

    def __init__(self, by: By) -> None:
        self._by = by

    def __missing__(self, at: datetime) -> datetime:
        start_at = self[at] = self._by.start_of(at)
        return start_at


def row_of(query: UsageQuery, key: Key, quantity: int) -> UsageRow:
    """Return the row of a key."""
    texts = list(key)
    from_at = texts.pop(query.time_at)
    assert isinstance(from_at, datetime)  # noqa: S101 - where every key has its time
    text = dict(zip(query.columns, map(str, texts), strict=True)).get
    return UsageRow(
        customer=text(Column.CUSTOMER),
        subscription=text(Column.SUBSCRIPTION),
        family=text(Column.FAMILY),
        plan=text(Column.PLAN),
        meter=text(Column.METER),
        route=text(Column.ROUTE),
        outcome=text(Column.OUTCOME),
        from_at=from_at,
        to_at=query.by.end_of(from_at),
        quantity=quantity,
    )


def _is_of(asked: str, plan: str) -> bool:
    return asked in (plan, plan.partition("@")[0])


def _aligned(field: str, by: By, at: datetime) -> datetime:
    at = _usable(field, at)
    start_at = by.start_of(at)
    if at != start_at:
        article = "an" if by is By.HOUR else "a"
        raise InputError(field, f"{_text(at)} does not begin {article} {by} of UTC", f"write {_text(start_at)}")
    return at


def _usable(field: str, at: datetime) -> datetime:
    if at.year not in _YEARS:
        raise InputError(field, "lies too far away", f"choose a year from {_YEARS[0]} to {_YEARS[-1]}")
    return at.astimezone(UTC)


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
