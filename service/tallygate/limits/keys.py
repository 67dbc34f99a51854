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

from binascii import crc_hqx
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from tallygate.limits.limit import CountedPer, Limit, LimitKind
from tallygate.limits.limiter import Acquisition, Subject

PREFIX = "tg:v1:"
EXPIRY_FIELD, NEVER = "x", "0"
"""The field of a record that repeats its expiry in ms since 1970, or `NEVER`; every other holds a colon."""

ALLOWED = "allowed"
OVERAGE = "overage"

COUNTED, REPORT, REFUND, SETTLEMENT, DEGRADED = "", "report", "refund", "settlement", "degraded"
"""How units came to be counted: the entry of a usage field."""

OPENED_FIELD = "#"
"""The field of a usage bucket that has the instant it was opened, us since 1970."""

MOVED_TO_KEY = f"{PREFIX}ledger:moved_to"
"""Up to when everything counted is in Postgres, us since 1970."""

SLOTS = 16_384


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
    return f"{PREFIX}{{{customer}}}:i:{request_id}"


def holding_key(customer: str, request_id: str) -> str:
    """Return the key that remembers which sets hold a request, for its release."""
    return f"{PREFIX}{{{customer}}}:h:{request_id}"


def first_use_key(subject: Subject) -> str:
    """Return the key of the instant a subscription was first used."""
    return f"{PREFIX}{{{subject.customer}}}:first:{subject.subscription}"


def report_key(customer: str, request_id: str) -> str:
    """Return the key that remembers a report; no request has such an id."""
    return idempotency_key(customer, f"report:{request_id}")


def receipt_key(customer: str, receipt_id: str) -> str:
    """Return the key of a receipt: what its request was charged; empty once that was settled."""
    return f"{PREFIX}{{{customer}}}:r:{receipt_id}"


def due_key(customer: str) -> str:
    """Return the key of the receipts of the customer's slot that are given back when their time is over."""
    return f"{PREFIX}{{{slot_tag(customer)}}}:due"


def due_member(customer: str, receipt_id: str) -> str:
    """Return the name of a receipt among those; its score is when its time is over, ms since 1970."""
    return f"{customer}:{receipt_id}"


def index_key(customer: str) -> str:
    """Return the key of the index of all usage buckets in the customer's slot."""
    return f"{PREFIX}{{{slot_tag(customer)}}}:open"


def index_keys() -> list[str]:
    """Return the index keys of all slots."""
    return [f"{PREFIX}{{{tag}}}:open" for tag in _tags().values()]


def due_keys() -> list[str]:
    """Return the keys of receipts to give back of all slots."""
    return [f"{PREFIX}{{{tag}}}:due" for tag in _tags().values()]


def index_member(customer: str, minute: int, opened_us: int | None = None) -> str:
    """Return the name of a bucket in the index; a sealed one is told by the instant it was opened."""
    return f"{customer}:{minute}" if opened_us is None else f"{customer}:{minute}:{opened_us}"


def slot_tag(customer: str) -> str:
    """Return a short hash tag in the slot of the customer's keys."""
    return _tags()[crc_hqx(customer.encode(), 0) % SLOTS]


@lru_cache(maxsize=1)
def _tags() -> dict[int, str]:
    """Return a tag for each slot. These strings of four hit each slot once: CRC-16 is linear in their low bits."""
    tags = (bytes(letters) for letters in product(b"@ABC", *[b"@ABCDEFGHIJKLMNO"] * 3))
    return {crc_hqx(tag, 0) % SLOTS: tag.decode() for tag in tags}


def usage_prefix(customer: str) -> str:
    """Return what a usage bucket's key begins with; the script appends `:` and the minute it reads off Redis."""
    return f"{PREFIX}{{{customer}}}:u"


def usage_bucket(customer: str, minute: int) -> str:
    """Return the key of the usage counted in one minute since 1970."""
    return f"{usage_prefix(customer)}:{minute}"


def sealed_bucket(customer: str, minute: int, opened_us: int) -> str:
    """Return the key of a bucket that does not change any more; it was opened at that instant, us since 1970."""
    return f"{usage_bucket(customer, minute)}:{opened_us}"


def aside_bucket(customer: str, minute: int, opened_us: int) -> str:
    """Return the key of what the ledger could not take of a sealed bucket; it does not expire."""
    return f"{usage_prefix(customer)}:aside:{minute}:{opened_us}"


class Owner(NamedTuple):
    """Whose usage it is, and under which plan version (`pro@3`)."""

    subscription: str
    plan: str
    family: str


def usage_field(owner: Owner, meter: str, outcome: str, route: str, *, entry: str = COUNTED, at: int | str = "") -> str:
    """Return a field of a usage bucket: `sub_1|pro@3|fam_1|requests|allowed|||GET /v1/things`.

    `entry` says how the units came to be counted, `COUNTED` for those of a request as it was admitted. `at` is the
    minute since 1970 that they belong to where that is not the bucket's. The route comes last: it may hold a `|`.
    """
    return f"{usage_head(owner, meter, outcome, entry)}{at}|{route}"


def usage_head(owner: Owner, meter: str, outcome: str, entry: str) -> str:
    """Return what comes before the minute in a field of a usage bucket."""
    return f"{owner.subscription}|{owner.plan}|{owner.family}|{meter}|{outcome}|{entry}|"
