"""Reading one plan.

Owns the plan's own keys: names, scopes and the link to a larger plan. A plan is always returned, with what
of it could be read, so that checks across the file find the rest of its mistakes too.
"""

import re
from dataclasses import dataclass

from tallygate.plans.document import Plan
from tallygate.plans.fields import NAME, NAME_MEND, Field, Record
from tallygate.plans.parse_features import read_features
from tallygate.plans.parse_limits import ReadLimit, read_limits
from tallygate.plans.parse_meters import KnownMeters
from tallygate.plans.parse_phases import read_grace, read_trial
from tallygate.plans.parse_prices import ChargeReader, read_price
from tallygate.plans.problems import shown

SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,128}")  # RFC 6749 §3.3, scope-token
SCOPE_MEND = r'printable ASCII without space, " and \, at most 128 characters'
MAXIMUM_SCOPES = 100
_KEYS = (
    *("key", "name", "price", "charges", "overage", "trial", "grace"),
    *("scopes", "features", "limits", "upgrade_url"),
)
TITLE_LENGTH = 200
URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:[/?#][A-Za-z0-9._~:/?#@!$&'()*+,;=%-]{0,2000})?")


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A plan, with the places in the file of what other parts of it have a say in."""

    plan: Plan
    limits: tuple[ReadLimit, ...]
    downgrade_to: Field | None


def read_plan(field: Field, meters: KnownMeters) -> ReadPlan:
    """Return the plan as far as it can be read."""
    record = field.record(_KEYS)
    key_field = record.need("key", "write key: pro")
    key = key_field.matching(NAME, NAME_MEND) if key_field else None
    get = record.get
    price_field, limits_field = get("price"), get("limits")
    charges_field, overage_field = get("charges"), get("overage")
    trial_field, grace_field, features_field = get("trial"), get("grace"), get("features")
    trial, downgrade_to = read_trial(trial_field) if trial_field else (None, None)
    read = read_limits(limits_field, meters) if limits_field else ()
    limits = tuple(limit for _, limit in read)
    price = read_price(price_field) if price_field else None
    costs = ChargeReader(meters, price_field, price)
    plan = Plan(
        key=key or "",
        name=_name(record) or key or "",
        price=price,
        scopes=_scopes(record),
        features=read_features(features_field) if features_field else {},
        limits=limits,
        upgrade_url=_upgrade_url(record),
        charges=costs.charges(charges_field) if charges_field else {},
        overage=costs.overage(overage_field, limits) if overage_field else {},
        trial=trial,
        grace=read_grace(grace_field) if grace_field else None,
    )
    return ReadPlan(plan, read, downgrade_to)


def _name(record: Record) -> str | None:
    field = record.get("name")
    name = field.text() if field else None
    if field and name is not None and not (1 <= len(name) <= TITLE_LENGTH and name.isprintable() and name.strip()):
        field.wrong("is not a name", f"one line of 1 to {TITLE_LENGTH} printable characters")
    return name


def _scopes(record: Record) -> frozenset[str]:
    field = record.get("scopes")
    items = field.items() if field else []
    if field and len(items) > MAXIMUM_SCOPES:
        field.wrong(f"has {len(items)} scopes", f"at most {MAXIMUM_SCOPES}")
    scopes: set[str] = set()
    for item in items[:MAXIMUM_SCOPES]:
        scope = item.matching(SCOPE, SCOPE_MEND)
        if scope in scopes:
            item.wrong(f"{shown(scope)} is written twice", "remove one of them")
        elif scope is not None:
            scopes.add(scope)
    return frozenset(scopes)


def _upgrade_url(record: Record) -> str | None:
    field = record.get("upgrade_url")
    return field.matching(URL, "write https://example.com/pricing") if field else None
