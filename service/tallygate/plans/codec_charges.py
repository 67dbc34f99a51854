"""Charges as JSON-able values, in the shape of the plan file; `codec` is the rest of the plan.

What bounds a charge is written only where it says something: a plan that was published before there were bounds
is still the same document.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tallygate.plans.charge import Charge, ChargeModel, Package, Percentage, PerUnit, Pricing, Tier, Tiered
from tallygate.plans.notation import decimal_text

Document = dict[str, Any]


def charge_to_document(charge: Charge) -> Document:
    """Return a charge in the shape of the file."""
    document = _pricing_to_document(charge.pricing)
    if charge.included:
        document["included"] = charge.included
    if charge.minimum:
        document["minimum"] = decimal_text(charge.minimum)
    if charge.maximum is not None:
        document["maximum"] = decimal_text(charge.maximum)
    return document


def charge_from(document: Mapping[str, Any]) -> Charge:
    """Return the charge that `charge_to_document` wrote."""
    maximum = document.get("maximum")
    return Charge(
        pricing=_pricing_from(document),
        included=document.get("included", 0),
        minimum=Decimal(document.get("minimum", "0")),
        maximum=None if maximum is None else Decimal(maximum),
    )


def _pricing_to_document(pricing: Pricing) -> Document:
    match pricing:
        case PerUnit():
            return {"model": ChargeModel.PER_UNIT.value, "unit": decimal_text(pricing.unit)}
        case Package():
            return {"model": ChargeModel.PACKAGE.value, "size": pricing.size, "price": decimal_text(pricing.price)}
        case Tiered():
            return {"model": pricing.model.value, "tiers": [_tier_to_document(tier) for tier in pricing.tiers]}
        case Percentage():
            return _percentage_to_document(pricing)


def _pricing_from(document: Mapping[str, Any]) -> Pricing:
    match ChargeModel(document["model"]):
        case ChargeModel.PER_UNIT:
            return PerUnit(Decimal(document["unit"]))
        case ChargeModel.PACKAGE:
            return Package(document["size"], Decimal(document["price"]))
        case ChargeModel.PERCENTAGE:
            return _percentage_from(document)
        case model:
            return Tiered(model, tuple(_tier_from(tier) for tier in document["tiers"]))


def _tier_to_document(tier: Tier) -> Document:
    document: Document = {} if tier.up_to is None else {"up_to": tier.up_to}
    return document | {"unit": decimal_text(tier.unit), "flat": decimal_text(tier.flat)}


def _tier_from(document: Mapping[str, Any]) -> Tier:
    return Tier(Decimal(document["unit"]), document.get("up_to"), Decimal(document.get("flat", "0")))


def _percentage_to_document(pricing: Percentage) -> Document:
    document: Document = {
        "model": ChargeModel.PERCENTAGE.value,
        "rate": f"{decimal_text(pricing.rate)}%",
        "worth": decimal_text(pricing.worth),
        "free_amount": decimal_text(pricing.free_amount),
    }
    if pricing.events is None:
        return document
    fee = {"fee": decimal_text(pricing.fee), "events": pricing.events, "free_events": pricing.free_events}
    return document | fee


def _percentage_from(document: Mapping[str, Any]) -> Percentage:
    return Percentage(
        rate=Decimal(document["rate"].removesuffix("%")),
        worth=Decimal(document["worth"]),
        fee=Decimal(document.get("fee", "0")),
        events=document.get("events"),
        free_events=document.get("free_events", 0),
        free_amount=Decimal(document["free_amount"]),
    )
