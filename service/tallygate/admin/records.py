"""What people see of customers, plans, subscriptions and tokens; `as_json` is their REST representation."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Final

Json = dict[str, Any]


class Unset(Enum):
    """The one value that says a field is to stay as it is, where None means something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Role(StrEnum):
    """What the holder of an admin key may do; each may what the ones before may."""

    VIEWER = "viewer"
    ISSUER = "issuer"
    ADMIN = "admin"

    def may(self, needed: "Role") -> bool:
        """Tell whether this role is enough where `needed` is asked for."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Customer:
    """Who pays; `key` is the operator's own name for them. `past_due_at` is when a payment failed."""

    id: str
    key: str
    name: str
    status: str
    created_at: datetime
    updated_at: datetime
    past_due_at: datetime | None
    revision: int


@dataclass(frozen=True, slots=True)
class CustomerReference:
    """What another system, such as `stripe`, calls a customer."""

    customer: str
    system: str
    reference: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PlanVersion:
    """A plan version, `pro@3`: `published`, `deprecated` or `retired`; `document` is the plan in normal form.

    `shadow` is the version that is tried beside it.
    """

    key: str
    version: int
    name: str
    status: str
    published_at: datetime
    deprecated_at: datetime | None
    retired_at: datetime | None
    shadow: str | None
    revision: int
    document: Json

    @property
    def ref(self) -> str:
        """Return `pro@3`."""
        return f"{self.key}@{self.version}"


@dataclass(frozen=True, slots=True)
class PhaseAhead:
    """What a subscription becomes at an instant to come, if nobody does anything."""

    at: datetime
    status: str
    plan: str


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """Another plan version from `at` on; `carry` says what becomes of the units already used."""

    id: str
    at: datetime
    plan: str
    carry: str
    created_at: datetime
    canceled_at: datetime | None


@dataclass(frozen=True, slots=True)
class CreditRecord:
    """Units granted to a credits limit, to be spent from `at` until `expires_at`."""

    id: str
    limit: str
    amount: int
    at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A customer's contract.

    `plan` is the version in force (before the start: the one it begins with), `pinned` the one it was made on,
    `trial_to` the one its trial falls back to. `first_used_at` is told of one whose trial begins with the first
    request, seconds after that. `phases` are what is to come; `overrides` are terms of its own.
    """

    id: str
    customer: str
    plan: str
    environment: str
    status: str
    anchor_at: datetime
    timezone: str
    starts_at: datetime
    ends_at: datetime | None
    created_at: datetime
    updated_at: datetime
    pinned: str
    trial_to: str | None
    first_used_at: datetime | None
    trial_ends_at: datetime | None
    grace_until: datetime | None
    suspended_at: datetime | None
    phases: tuple[PhaseAhead, ...]
    changes: tuple[ChangeRecord, ...]
    overrides: Json | None
    credits: tuple[CreditRecord, ...]
    shadow: str | None
    revision: int


@dataclass(frozen=True, slots=True)
class Token:
    """One token, without its secret; `hint` is its last four characters, `scopes` None the plan's.

    `last_used_at` may lag by an hour. `leaked_at` is when it was found in public.
    """

    id: str
    family: str
    subscription: str
    customer: str
    environment: str
    name: str
    hint: str
    status: str
    scopes: tuple[str, ...] | None
    networks: tuple[str, ...]
    not_before_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    disabled_at: datetime | None
    leaked_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime
    revision: int


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and its secret, shown this once."""

    record: Token
    secret: str

    def __repr__(self) -> str:
        """Say which token it is, without the secret."""
        return f"IssuedToken(record={self.record!r}, secret='…')"


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A key to the control plane's API, without its secret."""

    id: str
    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """An admin key and its secret, shown this once."""

    record: AdminKey
    secret: str

    def __repr__(self) -> str:
        """Say which key it is, without the secret."""
        return f"IssuedKey(record={self.record!r}, secret='…')"


@dataclass(frozen=True, slots=True)
class Correction:
    """An entry of the usage ledger that somebody wrote: `quantity` units that belong to the minute at `at`."""

    number: int
    customer: str
    subscription: str
    family: str
    plan: str
    meter: str
    route: str
    outcome: str
    at: datetime
    quantity: int
    reason: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class PlanChange:
    """What applying a catalogue did, or would do, to one plan: `created`, `published` or `unchanged`."""

    plan: str
    action: str


@dataclass(frozen=True, slots=True)
class AppliedCatalogue:
    """What applying a catalogue did, or would do."""

    plans: tuple[PlanChange, ...]
    routes: str
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class Migration:
    """What moving a cohort did, or would do.

    `eligible` subscriptions were on `from_plan`; of those in the cohort `moved` went, `trialing` stay until
    their trial is over, since a change would end it, and `ended` stay for good: their trial ended in suspension or
    cancellation, and a change would serve them again.
    """

    from_plan: str
    to_plan: str
    percent: str
    eligible: int
    moved: int
    trialing: int
    ended: int
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version tried beside the one in force; `subscriptions` are compiled with it by this call."""

    id: str
    plan: str
    shadow: str
    started_at: datetime
    stopped_at: datetime | None
    subscriptions: int = 0


@dataclass(frozen=True, slots=True)
class LimitInShadow:
    """A limit in shadow of a plan version: the requests it saw, and those it would have refused, and why and whose."""

    name: str
    requests: int
    refused: Mapping[str, int]
    subscriptions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class InShadow:
    """What is in shadow on `plan` and what it has seen: the version tried beside it, and its own `limits` in shadow.

    Without a version that is tried `id`, `shadow` and `started_at` are null, and nothing was seen. A limit has been
    looking on since its version was published. `subscriptions` are those that would have been refused most.
    """

    id: str | None
    plan: str
    shadow: str | None
    started_at: datetime | None
    stopped_at: datetime | None
    requests: int
    refused: Mapping[str, int]
    subscriptions: Mapping[str, int]
    limits: tuple[LimitInShadow, ...]


@dataclass(frozen=True, slots=True)
class Revocation:
    """What revoking by a filter did, or would do; with a `next_cursor` there is more to look at."""

    matched: int
    revoked: int
    is_dry_run: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class LeakAnswer:
    """What became of one reported secret; `token` is the id of ours, None for a false positive."""

    type: str
    url: str
    label: str
    action: str
    token: str | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the audit log; the hashes are in hexadecimal."""

    id: int
    at: datetime
    actor: str
    action: str
    object: str
    before: Json | list[Json] | None
    after: Json | list[Json] | None
    reason: str
    request_id: str
    previous_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """What is wrong at one entry of the audit log."""

    entry: int
    problem: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What verifying the audit log found; `head` is `number:hash` of its newest entry, to be noted elsewhere."""

    is_intact: bool
    entries: int
    head: str | None
    problems: tuple[AuditProblem, ...]


def as_json(record: object) -> Json:
    """Return a record as JSON-able values: instants in RFC 3339 UTC, money as decimal text, names as they are."""
    if not dataclasses.is_dataclass(record):
        raise TypeError(record)
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def issued_as_json(issued: IssuedToken) -> Json:
    """Return a token's representation with its secret in `token`, for this one time."""
    return as_json(issued.record) | {"token": issued.secret}


def key_as_json(issued: IssuedKey) -> Json:
    """Return an admin key's representation with its secret in `key`, for this one time."""
    return as_json(issued.record) | {"key": issued.secret}


def version_as_json(version: PlanVersion) -> Json:
    """Return a plan version's representation, its `id` being `pro@3`."""
    return {"id": version.ref} | as_json(version)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return as_json(value) if dataclasses.is_dataclass(value) else value
