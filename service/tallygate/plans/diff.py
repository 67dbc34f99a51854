"""What changes between two versions of a plan, and which way.

Owns the judgement of each change. Pure. Two plans differ by nothing exactly when their documents are the
same, so what `plans apply` would leave alone has no changes.
"""

from collections.abc import Iterator
from typing import Any

from tallygate.plans.change import Change, ChangeKind, Width, kind_of
from tallygate.plans.codec import canonical, plan_to_document
from tallygate.plans.diff_limits import limit_changes
from tallygate.plans.document import Grace, Plan, PlanFeature, Rollout, Trial, TrialBasis, TrialEnd

_Document = dict[str, Any]

_NEUTRAL = {
    "name": "the name that people read",
    "price": "money: it widens and narrows nothing, and subscriptions keep the price of the version they are on",
    "upgrade_url": "where refusals point to",
}
_ENDS = (TrialEnd.CANCEL, TrialEnd.SUSPEND, TrialEnd.DOWNGRADE, TrialEnd.CONVERT)
_BASES = (TrialBasis.CREATION, TrialBasis.FIRST_USE)


def diff(old: Plan | None, new: Plan) -> tuple[Change, ...]:
    """Return how `new` differs from `old`, part by part; None: the plan is new, which is one change."""
    if old is None:
        return (Change("", None, new.key, ChangeKind.NEUTRAL, f"the plan {new.key} is new"),)
    before, after = plan_to_document(old), plan_to_document(new)
    return (
        *_neutral_changes(before, after),
        *_trial_changes(old.trial, new.trial, before.get("trial"), after.get("trial")),
        *_grace_changes(old.grace, new.grace, before.get("grace"), after.get("grace")),
        *_scope_changes(old.scopes, new.scopes),
        *_feature_changes(old, new, before["features"], after["features"]),
        *limit_changes(old, new, before["limits"], after["limits"]),
        *_charge_changes("charges", "", before.get("charges", {}), after.get("charges", {})),
        *_charge_changes("overage", " beyond the limits", before["overage"], after["overage"]),
    )


def _neutral_changes(before: _Document, after: _Document) -> Iterator[Change]:
    for field, sentence in _NEUTRAL.items():
        if before.get(field) != after.get(field):
            yield Change(field, before.get(field), after.get(field), ChangeKind.NEUTRAL, sentence)


def _scope_changes(old: frozenset[str], new: frozenset[str]) -> Iterator[Change]:
    for scope in sorted(old ^ new):
        if scope in new:
            yield Change(f"scopes.{scope}", None, scope, ChangeKind.WIDENS, f"tokens may have the scope {scope}")
        else:
            yield Change(f"scopes.{scope}", scope, None, ChangeKind.NARROWS, f"tokens lose the scope {scope}")


def _feature_changes(old: Plan, new: Plan, before: _Document, after: _Document) -> Iterator[Change]:
    for key in sorted({*before, *after}):
        was, is_now = before.get(key), after.get(key)
        if canonical(was) != canonical(is_now):
            kind = _feature_kind(old.features.get(key, False), new.features.get(key, False))
            yield Change(f"features.{key}", was, is_now, kind, _goes(f"the feature {key}", was, is_now))


def _feature_kind(old: PlanFeature, new: PlanFeature) -> ChangeKind:
    """Judge by how many customers have it, then by the number; only the upstream could weigh texts."""
    if (had := _share(old)) != (has := _share(new)):
        return kind_of(had, has)
    numbers = [value for value in (old, new) if isinstance(value, int | float) and not isinstance(value, bool)]
    return kind_of(*numbers) if len(numbers) == 2 else ChangeKind.NEUTRAL  # noqa: PLR2004 - both


def _share(value: PlanFeature) -> Width:
    if isinstance(value, Rollout):
        return float(value.percent)
    return 0 if value is False else 100


def _trial_changes(
    old: Trial | None, new: Trial | None, before: _Document | None, after: _Document | None
) -> Iterator[Change]:
    """Judge a trial by what it takes away at its end: one that converts changes no access at all."""
    takes = any(trial is not None and trial.at_end is not TrialEnd.CONVERT for trial in (old, new))
    if old is None or new is None:
        if old is not new:
            # A trial that ends otherwise than by converting is an end that was not there.
            kind = kind_of(old is None, new is None) if takes else ChangeKind.NEUTRAL
            yield Change("trial", before, after, kind, _goes("the trial", before, after))
        return
    kinds = {
        "days": kind_of(old.days, new.days) if takes else ChangeKind.NEUTRAL,
        "basis": kind_of(_BASES.index(old.basis), _BASES.index(new.basis)) if takes else ChangeKind.NEUTRAL,
        "at_end": kind_of(_ENDS.index(old.at_end), _ENDS.index(new.at_end)),
        "to": ChangeKind.NEUTRAL,
        "bill_usage": ChangeKind.NEUTRAL,
    }
    yield from _field_changes("trial", before or {}, after or {}, kinds)


def _grace_changes(
    old: Grace | None, new: Grace | None, before: _Document | None, after: _Document | None
) -> Iterator[Change]:
    if old is None or new is None:
        if old is not new:
            kind = kind_of(old is not None, new is not None)
            yield Change("grace", before, after, kind, _goes("the grace", before, after))
        return
    served = kind_of(*(grace.share_percent if grace.is_reduced else 100 for grace in (old, new)))
    kinds = {"days": kind_of(old.days, new.days), "limits": served, "share": served}
    yield from _field_changes("grace", before or {}, after or {}, kinds)


def _field_changes(name: str, before: _Document, after: _Document, kinds: dict[str, ChangeKind]) -> Iterator[Change]:
    for field, kind in kinds.items():
        was, is_now = before.get(field), after.get(field)
        if was != is_now:
            yield Change(f"{name}.{field}", was, is_now, kind, _goes(f"{field} of the {name}", was, is_now))


def _charge_changes(name: str, which: str, before: _Document, after: _Document) -> Iterator[Change]:
    for meter in sorted({*before, *after}):
        was, is_now = before.get(meter), after.get(meter)
        if was != is_now:
            sentence = f"what {meter}{which} cost: money, which widens and narrows nothing"
            yield Change(f"{name}.{meter}", was, is_now, ChangeKind.NEUTRAL, sentence)


def _goes(subject: str, before: object, after: object) -> str:
    if before is None:
        return f"{subject} is added"
    if after is None:
        return f"{subject} is removed"
    return f"{subject} goes from {canonical(before)} to {canonical(after)}"
