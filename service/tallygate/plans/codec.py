"""Plans as JSON-able values: what the database keeps and `plans show` prints. Routes are in `codec_routes`.

A document has the shape of the plan file, every default written out and every value in its one normal
form, so that equal plans are equal documents; keys of later versions are there only where they say something.
Python holds `True == 1 == 1.0`: compare documents by `canonical`, not by `==`. Readers trust what they read (it
was validated when it was published) and fill what an older version did not write with its default; anything
else is a KeyError or a ValueError.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tallygate.core.money import Money
from tallygate.core.periods import PeriodUnit
from tallygate.licenses.license import Feature
from tallygate.licenses.routes import DEFAULT_METER
from tallygate.limits.limit import CountedPer, FailPolicy, LimitKind, OnExceed
from tallygate.plans.codec_charges import charge_from, charge_to_document
from tallygate.plans.document import (
    Exactness,
    Grace,
    GraceLimits,
    LimitMode,
    Plan,
    PlanFeature,
    PlanLimit,
    Price,
    QuotaPeriod,
    Refill,
    Rollout,
    Trial,
    TrialBasis,
    TrialEnd,
)
from tallygate.plans.notation import (
    allow_until_text,
    decimal_text,
    hold_text,
    rate_text,
    read_allow_until,
    read_hold,
    read_rate,
    read_share,
)

Document = dict[str, Any]


def canonical(document: object) -> str:
    """Return the JSON text of a document; two are equal exactly when what they say is equal."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def plan_to_document(plan: Plan) -> Document:
    """Return the plan in the shape of the file, keys in the order a reader wants them."""
    document: Document = {"key": plan.key, "name": plan.name}
    if plan.price is not None:
        document["price"] = _price_to_document(plan.price)
    if plan.trial is not None:
        document["trial"] = _trial_to_document(plan.trial)
    if plan.grace is not None:
        document["grace"] = _grace_to_document(plan.grace)
    document["scopes"] = sorted(plan.scopes)
    document["features"] = {key: _feature_to_document(value) for key, value in sorted(plan.features.items())}
    document["limits"] = [_limit_to_document(limit) for limit in plan.limits]
    document["overage"] = {meter: charge_to_document(charge) for meter, charge in sorted(plan.overage.items())}
    if plan.charges:
        document["charges"] = {meter: charge_to_document(charge) for meter, charge in sorted(plan.charges.items())}
    if plan.upgrade_url is not None:
        document["upgrade_url"] = plan.upgrade_url
    return document


def plan_from_document(document: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_to_document` wrote."""
    price = document.get("price")
    return Plan(
        key=document["key"],
        name=document["name"],
        price=_price_from(price) if price else None,
        scopes=frozenset(document.get("scopes", ())),
        features={key: _feature_from(value) for key, value in document.get("features", {}).items()},
        limits=tuple(_limit_from(limit) for limit in document.get("limits", ())),
        upgrade_url=document.get("upgrade_url"),
        overage={meter: charge_from(charge) for meter, charge in document.get("overage", {}).items()},
        trial=_trial_from(document["trial"]) if "trial" in document else None,
        grace=_grace_from(document["grace"]) if "grace" in document else None,
        charges={meter: charge_from(charge) for meter, charge in document.get("charges", {}).items()},
    )


def _price_to_document(price: Price) -> Document:
    document = {
        "amount": decimal_text(price.money.amount),
        "currency": price.money.currency,
        "every": price.every.value,
    }
    return document | {"prorate": True} if price.is_prorated else document


def _price_from(document: Mapping[str, Any]) -> Price:
    every = PeriodUnit(document.get("every", PeriodUnit.MONTH))
    return Price(Money.parse(document["amount"], document["currency"]), every, document.get("prorate", False))


def _trial_to_document(trial: Trial) -> Document:
    document: Document = {"days": trial.days, "basis": trial.basis.value, "at_end": trial.at_end.value}
    if trial.to is not None:
        document["to"] = trial.to
    return document | {"bill_usage": True} if trial.is_usage_billed else document


def _trial_from(document: Mapping[str, Any]) -> Trial:
    basis = TrialBasis(document.get("basis", TrialBasis.CREATION))
    at_end, is_usage_billed = TrialEnd(document.get("at_end", TrialEnd.CONVERT)), document.get("bill_usage", False)
    return Trial(document["days"], basis, at_end, document.get("to"), is_usage_billed)


def _grace_to_document(grace: Grace) -> Document:
    if not grace.is_reduced:
        return {"days": grace.days, "limits": GraceLimits.FULL.value}
    return {"days": grace.days, "limits": GraceLimits.REDUCED.value, "share": f"{grace.share_percent}%"}


def _grace_from(document: Mapping[str, Any]) -> Grace:
    is_reduced = GraceLimits(document.get("limits", GraceLimits.FULL)) is GraceLimits.REDUCED
    return Grace(document["days"], is_reduced, read_share(document["share"])) if is_reduced else Grace(document["days"])


def _feature_to_document(value: PlanFeature) -> Feature | Document:
    if not isinstance(value, Rollout):
        return value
    percent = value.percent
    return {"rollout": int(percent) if percent == int(percent) else float(percent)}


def _feature_from(value: Feature | Mapping[str, Any]) -> PlanFeature:
    return Rollout(Decimal(str(value["rollout"]))) if isinstance(value, Mapping) else value


def _limit_to_document(limit: PlanLimit) -> Document:
    document: Document = {"name": limit.name}
    if limit.kind is LimitKind.RATE:
        document |= {"rate": rate_text(limit.amount, limit.window_us), "burst": limit.burst}
    else:
        document[limit.kind.value] = limit.amount
    if limit.period is not None:
        document["period"] = limit.period.value
    if limit.refill is not None:
        document["refill"] = {"amount": limit.refill.amount, "every": limit.refill.every.value}
    if limit.kind is LimitKind.CONCURRENCY:
        document["hold"] = hold_text(limit.hold_s)
    document |= {"meter": limit.meter, "per": limit.per.value, "on_exceed": limit.on_exceed.value}
    if limit.allow_until is not None:
        document["allow_until"] = allow_until_text(limit.allow_until)
    document |= {"mode": limit.mode.value, "fail": limit.fail.value}
    # Only where it is not the default: what was published before there was a choice still reads the same.
    return document if limit.exactness is Exactness.EXACT else document | {"exactness": limit.exactness.value}


def _limit_from(document: Mapping[str, Any]) -> PlanLimit:
    kind = next(kind for kind in LimitKind if kind.value in document)
    amount, window_us = read_rate(document["rate"]) if kind is LimitKind.RATE else (document[kind.value], 0)
    return PlanLimit(
        name=document["name"],
        kind=kind,
        amount=amount,
        window_us=window_us,
        burst=document.get("burst", amount) if kind is LimitKind.RATE else 0,
        period=QuotaPeriod(document["period"]) if kind is LimitKind.QUOTA else None,
        meter=document.get("meter", DEFAULT_METER),
        per=CountedPer(document.get("per", CountedPer.SUBSCRIPTION)),
        on_exceed=OnExceed(document.get("on_exceed", OnExceed.DENY)),
        allow_until=read_allow_until(document["allow_until"]) if "allow_until" in document else None,
        mode=LimitMode(document.get("mode", LimitMode.ENFORCE)),
        fail=FailPolicy(document.get("fail", FailPolicy.CLOSED)),
        hold_s=read_hold(document["hold"]) if kind is LimitKind.CONCURRENCY else 0,
        refill=_refill_from(document["refill"]) if "refill" in document else None,
        exactness=Exactness(document.get("exactness", Exactness.EXACT)),
    )


def _refill_from(document: Mapping[str, Any]) -> Refill:
    return Refill(document["amount"], QuotaPeriod(document["every"]))
