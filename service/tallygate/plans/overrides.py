"""The terms a contract has of its own, as a document: read with every mistake named, and written.

Owns what may be overridden and how it is typed against the plans the contract is, or will be, on. Does not
own how overrides meet a plan (`grant`). Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from tallygate.licenses.license import Feature
from tallygate.limits.limit import EXACT_INTEGER, LimitKind, OnExceed
from tallygate.plans.contract import LimitOverride, Overrides
from tallygate.plans.document import Plan, PlanFeature, PlanLimit, Rollout
from tallygate.plans.fields import Field, Record
from tallygate.plans.parse_features import read_value
from tallygate.plans.parse_plan import SCOPE, SCOPE_MEND
from tallygate.plans.problems import InvalidCatalogueError, Problems, did_you_mean, shown
from tallygate.plans.yaml_source import compose

Document = dict[str, Any]

_SECTIONS = ("limits", "features", "scopes")
_LIMIT_KEYS = ("amount", "burst", "on_exceed", "ceiling")
_WITH_OVERAGE = (LimitKind.QUOTA, LimitKind.CREDITS)
_KIND_NAMES = {bool: "true or false", float: "a number", str: "a text"}


class InvalidOverridesError(InvalidCatalogueError):
    """Overrides that cannot be used; `problems` are all that is wrong with them."""


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to override: limits by name and scopes of the contract's plans, and features by key.

    `features` may be more than the plans have: None where only a route asks for it, with a type unknown.
    """

    limits: Mapping[str, PlanLimit]
    features: Mapping[str, PlanFeature | None]
    scopes: frozenset[str]


def known_of(plans: Sequence[Plan], asked_features: Sequence[str] = ()) -> Known:
    """Return what `plans` have to override; the first plan's word counts where two differ in kind."""
    features: dict[str, PlanFeature | None] = dict.fromkeys(asked_features)
    for plan in reversed(plans):
        features |= plan.features
    limits = {limit.name: limit for plan in reversed(plans) for limit in plan.limits}
    return Known(limits, features, frozenset[str]().union(*(plan.scopes for plan in plans)))


def parse_overrides(text: str, source: str, known: Known) -> Overrides:
    """Return what the document in YAML or JSON says; raise InvalidOverridesError with all of its problems.

    An empty mapping takes every override away.
    """
    problems = Problems(source)
    root = compose(text, problems)
    found = Overrides() if root is None else _read(Field(root, "", 1, problems), known)
    try:
        problems.raise_if_any()
    except InvalidCatalogueError as error:
        raise InvalidOverridesError(error.problems) from None
    return found


def overrides_to_document(overrides: Overrides) -> Document:
    """Return overrides in the shape they are written in, without what is not said."""
    document: Document = {
        "limits": {name: _limit_to_document(own) for name, own in sorted(overrides.limits.items())},
        "features": dict(sorted(overrides.features.items())),
        "scopes": {
            word: sorted(scopes)
            for word, scopes in (("add", overrides.add_scopes), ("remove", overrides.remove_scopes))
            if scopes
        },
    }
    return {section: content for section, content in document.items() if content}


def overrides_from_document(document: Mapping[str, Any]) -> Overrides:
    """Return the overrides that `overrides_to_document` wrote."""
    scopes = document.get("scopes", {})
    return Overrides(
        limits={name: _limit_from(own) for name, own in document.get("limits", {}).items()},
        features=dict(document.get("features", {})),
        add_scopes=frozenset(scopes.get("add", ())),
        remove_scopes=frozenset(scopes.get("remove", ())),
    )


def _limit_to_document(own: LimitOverride) -> Document:
    said = {"amount": own.amount, "burst": own.burst, "on_exceed": own.on_exceed, "ceiling": own.ceiling}
    return {key: getattr(value, "value", value) for key, value in said.items() if value is not None}


def _limit_from(document: Mapping[str, Any]) -> LimitOverride:
    on_exceed = OnExceed(document["on_exceed"]) if "on_exceed" in document else None
    return LimitOverride(document.get("amount"), document.get("burst"), on_exceed, document.get("ceiling"))


def _read(field: Field, known: Known) -> Overrides:
    record = field.record(_SECTIONS)
    limits_field, features_field, scopes_field = (record.get(section) for section in _SECTIONS)
    scopes = scopes_field.record(("add", "remove")) if scopes_field else None
    return Overrides(
        limits=_read_limits(limits_field, known) if limits_field else {},
        features=_read_features(features_field, known) if features_field else {},
        add_scopes=_read_scopes(scopes.get("add"), None) if scopes else frozenset(),
        remove_scopes=_read_scopes(scopes.get("remove"), known) if scopes else frozenset(),
    )


def _read_limits(field: Field, known: Known) -> dict[str, LimitOverride]:
    found: dict[str, LimitOverride] = {}
    for name, item in field.named().items():
        limit = known.limits.get(name)
        record = item.record(_LIMIT_KEYS)
        if limit is None:
            item.wrong(f"there is no limit {shown(name)} in the plan", did_you_mean(name, known.limits))
        elif not record.fields:
            item.wrong("says nothing", "write {amount: 5000000}, or remove it")
        else:
            found[name] = _read_limit(record, limit)
    return found


def _read_limit(record: Record, limit: PlanLimit) -> LimitOverride:
    lowest = 1 if limit.kind is LimitKind.RATE else 0
    amount = _whole(record.get("amount"), lowest)
    burst = _whole(record.get("burst"), 0)
    on_exceed_field, ceiling_field = record.get("on_exceed"), record.get("ceiling")
    on_exceed = on_exceed_field.choice(OnExceed) if on_exceed_field else None
    ceiling = _whole(ceiling_field, 0)
    _check_burst(record.get("burst"), burst, limit)
    if on_exceed_field and on_exceed is OnExceed.OVERAGE and limit.kind not in _WITH_OVERAGE:
        on_exceed_field.wrong(f"a limit of kind {limit.kind.value} has no overage", "remove it")
    if ceiling_field and ceiling is not None:
        _check_ceiling(ceiling_field, ceiling, on_exceed or limit.on_exceed, limit.amount if amount is None else amount)
    return LimitOverride(amount, burst, on_exceed, ceiling)


def _whole(field: Field | None, minimum: int) -> int | None:
    if field is None:
        return None
    if field.kind != "int":
        field.wrong("is not a whole number", "write digits, without quotes")
        return None
    return field.whole(minimum, EXACT_INTEGER)


def _check_burst(field: Field | None, burst: int | None, limit: PlanLimit) -> None:
    if field is None or burst is None:
        return
    if limit.kind is not LimitKind.RATE:
        field.wrong(f"a limit of kind {limit.kind.value} has no burst", "remove it")
    elif burst * limit.window_us >= EXACT_INTEGER:
        field.wrong("is too large to be counted exactly", f"at most {(EXACT_INTEGER - 1) // limit.window_us}")


def _check_ceiling(field: Field, ceiling: int, on_exceed: OnExceed, amount: int) -> None:
    if on_exceed is OnExceed.DENY:
        field.wrong("there is no overage to end", "add on_exceed: overage or remove it")
    elif ceiling < amount:
        field.wrong(f"{ceiling} is below the amount, {amount}", "write the amount or more")


def _read_features(field: Field, known: Known) -> dict[str, Feature]:
    found: dict[str, Feature] = {}
    for key, item in field.named().items():
        if key not in known.features:
            item.wrong(f"there is no feature {shown(key)}", did_you_mean(key, known.features))
            continue
        value, like = read_value(item), known.features[key]
        if value is None:
            continue
        if like is not None and not _is_like(value, like):
            item.wrong(f"{shown(str(item.node.value))} is not of the feature's type", f"write {_kind_name(like)}")
        found[key] = value
    return found


def _is_like(value: Feature, like: PlanFeature) -> bool:
    if _is_switch(like):
        return isinstance(value, bool)
    if isinstance(like, str):
        return isinstance(value, str)
    return not isinstance(value, bool | str)


def _is_switch(like: PlanFeature) -> TypeGuard[bool | Rollout]:
    return isinstance(like, bool | Rollout)


def _kind_name(like: PlanFeature) -> str:
    if _is_switch(like):
        return _KIND_NAMES[bool]
    return _KIND_NAMES[str] if isinstance(like, str) else _KIND_NAMES[float]


def _read_scopes(field: Field | None, known: Known | None) -> frozenset[str]:
    """Return a list of scopes; with `known` they must be granted, or there is nothing to remove."""
    found: set[str] = set()
    for item in field.items() if field else ():
        scope = item.matching(SCOPE, SCOPE_MEND)
        if scope is None:
            continue
        if known is not None and scope not in known.scopes:
            item.wrong(f"the plan does not grant {shown(scope)}", did_you_mean(scope, known.scopes))
        found.add(scope)
    return frozenset(found)
