"""The names of everything counted: the one place where keys and fields are built.

All keys of a customer carry `{customer}` as their hash tag, so Redis Cluster keeps them in one slot and one
script may change them in one step. A counter's field names the limit and, for a quota, its calendar unit
(another unit is another counter). It holds no amount, plan version, route or node: a plan may change, a
token rotate and a request arrive anywhere without resetting what was used. A shadow limit has fields of its
own. Only `Subject.counters` begins a record afresh, never a customer's, and never a grant of credits: what
was granted once is spent once. `tg:v1:` is the version of this layout; another layout is another prefix.

Pure. Ids are those of `core.ids`; limit names and meters hold no `|` and no space (the plan document sees
to that).
"""

from dataclasses import replace
from typing import NamedTuple

from tallygate.limits.limit import CountedPer, Limit, LimitKind
from tallygate.limits.limiter import Acquisition, Subject

PREFIX = "tg:v1:"
EXPIRY_FIELD = "x"
"""The field of a record that repeats its expiry in ms since 1970, `0` for never; every other holds a colon."""

ALLOWED = "allowed"
OVERAGE = "overage"


class Place(NamedTuple):
    """Where something is counted: a field of a record."""

    key: str
    field: str


def record_key(subject: Subject, per: CountedPer) -> str:
    """Return the key of the hash that holds every counter of one customer, subscription or token family."""
    owner = f"{PREFIX}{{{subject.customer}}}"
    afresh = f":{subject.counters}" if subject.counters else ""
    match per:
        case CountedPer.CUSTOMER:
            return f"{owner}:c"
        case CountedPer.SUBSCRIPTION:
            return f"{owner}:s:{subject.subscription}{afresh}"
        case CountedPer.TOKEN:
            return f"{owner}:f:{subject.family}{afresh}"


def counter_field(limit: Limit) -> str:
    """Return the field of a limit within its record: `r:burst`, `q:monthly:month`, `c:prepaid`, `shadow:r:burst`."""
    field = _counter_field(limit)
    return f"shadow:{field}" if limit.is_shadow else field


def holds_key(subject: Subject, limit: Limit) -> str:
    """Return the key of the sorted set of the requests that hold a concurrency limit: `…:s:sub_1|h:uploads`."""
    return f"{record_key(subject, limit.per)}|{counter_field(limit)}"


def holder(request_id: str | None) -> str:
    """Return the member of a request in every set of holds; the script numbers those without an id."""
    return "" if request_id is None else f"i:{request_id}"


def places(acquisition: Acquisition) -> tuple[tuple[Place, ...], ...]:
    """Return where each charge is counted: its limit's own place, then one for each of the limit's buckets.

    Raise ValueError when two charges name the same counter: each would see room for itself alone.
    """
    found = tuple(_places(acquisition, charge.limit) for charge in acquisition.charges)
    every = [place for each in found for place in each]
    if len(set(every)) < len(every):
        message = "two charges of one acquisition name the same counter"
        raise ValueError(message)
    return found


def _places(acquisition: Acquisition, limit: Limit) -> tuple[Place, ...]:
    subject = acquisition.subject
    if limit.kind is LimitKind.CONCURRENCY:
        return (Place(holds_key(subject, limit), holder(acquisition.idempotency_key)),)
    field = counter_field(limit)
    own = Place(record_key(subject, limit.per), field)
    if not limit.buckets:
        return (own,)
    granted = record_key(replace(subject, counters=""), limit.per)
    return (own, *(Place(granted, f"{field}:{bucket.id}") for bucket in limit.buckets))


def _counter_field(limit: Limit) -> str:
    match limit.kind:
        case LimitKind.RATE:
            return f"r:{limit.name}"
        case LimitKind.QUOTA:
            return f"q:{limit.name}:{limit.calendar.unit.value if limit.calendar else ''}"
        case LimitKind.CREDITS:
            return f"c:{limit.name}"
        case LimitKind.CONCURRENCY:
            return f"h:{limit.name}"


def idempotency_key(customer: str, request_id: str) -> str:
    """Return the key that remembers an admitted request."""
    return idempotency_prefix(customer) + request_id


def idempotency_prefix(customer: str) -> str:
    """Return what that key begins with, before the request's id."""
    return f"{PREFIX}{{{customer}}}:i:"


def holding_key(customer: str, request_id: str) -> str:
    """Return the key that remembers which sets hold a request, for its release."""
    return f"{PREFIX}{{{customer}}}:h:{request_id}"


def first_use_key(subject: Subject) -> str:
    """Return the key of the instant a subscription was first used."""
    return f"{PREFIX}{{{subject.customer}}}:first:{subject.subscription}"


def usage_prefix(customer: str) -> str:
    """Return what a usage bucket's key begins with; the script appends `:` and the minute it reads off Redis."""
    return f"{PREFIX}{{{customer}}}:u"


def usage_bucket(customer: str, minute: int) -> str:
    """Return the key of the usage counted in one minute since 1970."""
    return f"{usage_prefix(customer)}:{minute}"


def usage_field(subject: Subject, meter: str, route: str) -> str:
    """Return the field of a usage bucket, before `|allowed` or `|overage` is appended.

    Read it as three parts from the left and the outcome from the right; the route between may hold a `|`.
    """
    return f"{subject.subscription}|{subject.family}|{meter}|{route}"
