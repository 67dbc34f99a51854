"""Plans and routes as JSON-able values: what the database keeps and `plans show` prints.

A document has the shape of the plan file, every default written out and every value in its one normal
form, so that equal plans are equal documents. Python holds `True == 1 == 1.0`: compare documents by
`canonical`, not by `==`. Readers trust what they read (it was validated when it was published) and fill
what an older version did not write with its default; anything else is a KeyError or a ValueError.
"""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from tallygate.core.money import Money
from tallygate.core.periods import PeriodUnit
from tallygate.licenses.license import Feature
from tallygate.licenses.routes import DEFAULT_METER, RouteRule
from tallygate.limits.limit import CountedPer, FailPolicy, LimitKind, OnExceed
from tallygate.plans.document import (
    ChargeModel,
    Exactness,
    Grace,
    GraceLimits,
    LimitMode,
    OverageCharge,
    Package,
    PerUnit,
    Plan,
    PlanFeature,
    PlanLimit,
    Price,
    QuotaPeriod,
    Refill,
    Rollout,
    Tier,
    Tiered,
    Trial,
    TrialBasis,
    TrialEnd,
)
from tallygate.plans.meters import Costs, Meters, expand_costs
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
        document["price"] = {
            "amount": decimal_text(plan.price.money.amount),
            "currency": plan.price.money.currency,
            "every": plan.price.every.value,
        }
    if plan.trial is not None:
        document["trial"] = _trial_to_document(plan.trial)
    if plan.grace is not None:
        document["grace"] = _grace_to_document(plan.grace)
    document["scopes"] = sorted(plan.scopes)
    document["features"] = {key: _feature_to_document(value) for key, value in sorted(plan.features.items())}
    document["limits"] = [_limit_to_document(limit) for limit in plan.limits]
    document["overage"] = {meter: _charge_to_document(charge) for meter, charge in sorted(plan.overage.items())}
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
        overage={meter: _charge_from(charge) for meter, charge in document.get("overage", {}).items()},
        trial=_trial_from(document["trial"]) if "trial" in document else None,
        grace=_grace_from(document["grace"]) if "grace" in document else None,
    )


def routes_to_document(rules: Iterable[RouteRule], meters: Meters) -> list[Document]:
    """Return the rules as the `routes` list of a file; scope and feature are null where none is asked.

    Where the tree of meters adds to the `cost` that is written, `counts` is what a request is charged:
    the data plane reads that, and knows nothing of trees.
    """
    return [_route_to_document(rule, expand_costs(rule.costs, meters)) for rule in rules]


def routes_from_document(document: Iterable[Mapping[str, Any]]) -> tuple[RouteRule, ...]:
    """Return the rules that `routes_to_document` wrote, with the costs that their author wrote."""
    return tuple(_route_from(rule) for rule in document)


def _route_to_document(rule: RouteRule, counts: Costs) -> Document:
    document: Document = {"match": rule.text, "cost": dict(sorted(rule.costs))}
    if counts != tuple(sorted(rule.costs)):
        document["counts"] = dict(counts)
    return document | {"scope": rule.scope, "feature": rule.feature}


def _route_from(rule: Mapping[str, Any]) -> RouteRule:
    method, _, template = rule["match"].partition(" ")
    costs = rule.get("cost") or {DEFAULT_METER: 1}
    return RouteRule(method, template, tuple(sorted(costs.items())), rule.get("scope"), rule.get("feature"))


def _price_from(price: Mapping[str, Any]) -> Price:
    return Price(Money.parse(price["amount"], price["currency"]), PeriodUnit(price.get("every", PeriodUnit.MONTH)))


def _trial_to_document(trial: Trial) -> Document:
    document: Document = {"days": trial.days, "basis": trial.basis.value, "at_end": trial.at_end.value}
    return document if trial.to is None else document | {"to": trial.to}


def _trial_from(document: Mapping[str, Any]) -> Trial:
    basis = TrialBasis(document.get("basis", TrialBasis.CREATION))
    return Trial(document["days"], basis, TrialEnd(document.get("at_end", TrialEnd.CONVERT)), document.get("to"))


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


def _charge_to_document(charge: OverageCharge) -> Document:
    match charge:
        case PerUnit():
            return {"model": ChargeModel.PER_UNIT.value, "unit": decimal_text(charge.unit)}
        case Package():
            model = ChargeModel.PACKAGE.value
            return {"model": model, "size": charge.size, "price": decimal_text(charge.price)}
        case Tiered():
            return {"model": charge.model.value, "tiers": [_tier_to_document(tier) for tier in charge.tiers]}


def _tier_to_document(tier: Tier) -> Document:
    document: Document = {} if tier.up_to is None else {"up_to": tier.up_to}
    return document | {"unit": decimal_text(tier.unit), "flat": decimal_text(tier.flat)}


def _charge_from(document: Mapping[str, Any]) -> OverageCharge:
    model = ChargeModel(document["model"])
    if model is ChargeModel.PER_UNIT:
        return PerUnit(Decimal(document["unit"]))
    if model is ChargeModel.PACKAGE:
        return Package(document["size"], Decimal(document["price"]))
    tiers = (
        Tier(Decimal(tier["unit"]), tier.get("up_to"), Decimal(tier.get("flat", "0"))) for tier in document["tiers"]
    )
    return Tiered(model, tuple(tiers))
