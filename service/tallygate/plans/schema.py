"""The JSON Schema of the plan file (draft 2020-12), for editors and for those who generate plan files.

Owns what of the grammar a schema can say: keys, forms, and which words go together within one value. What
parts ask of each other across the file (`coherence`) it cannot say: `tallygate plans validate` has the last
word. A valid plan file is valid here, as long as text that YAML takes for a number or a truth value is quoted.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from tallygate.limits.limit import EXACT_INTEGER, CountedPer, FailPolicy, LimitKind, OnExceed
from tallygate.plans import (
    fields,
    notation,
    parse_amounts,
    parse_features,
    parse_limits,
    parse_meters,
    parse_phases,
    parse_plan,
    parse_policies,
    parse_prices,
    parse_routes,
)
from tallygate.plans.charge import ChargeModel
from tallygate.plans.document import Exactness, GraceLimits, LimitMode, QuotaPeriod, TrialBasis, TrialEnd
from tallygate.plans.parse import MAXIMUM_PLANS

Schema = dict[str, Any]


def plan_file_schema() -> Schema:
    """Return the schema of a plan file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:tallygate:plan-file:1",
        "title": "Tallygate plan file",
        "type": "object",
        "properties": {
            "meters": _map(fields.NAME, _ref("meter"), parse_meters.MAXIMUM_METERS, "What is counted."),
            "routes": _list(_ref("route"), parse_routes.MAXIMUM_ROUTES, "Route rules: the first that matches decides."),
            "plans": _list(_ref("plan"), MAXIMUM_PLANS, "What is offered."),
        },
        "additionalProperties": False,
        "anyOf": [{"required": ["plans"]}, {"required": ["routes"]}],
        "$defs": {
            "name": _text(fields.NAME, fields.NAME_MEND),
            "whole": _whole(),
            "money": _money(),
            "scope": _text(parse_plan.SCOPE, parse_plan.SCOPE_MEND),
            "meter": _meter(),
            "route": _route(),
            "plan": _plan(),
            "price": _price(),
            "trial": _trial(),
            "grace": _grace(),
            "feature": _feature(),
            "limit": _limit(),
            "charge": _charge(),
        },
    }


def overrides_schema() -> Schema:
    """Return the schema of the terms a contract has of its own; which names there are only its plans know."""
    units = {"type": "integer", "minimum": 0, "maximum": EXACT_INTEGER - 1}
    limit = {"amount": units, "burst": units, "on_exceed": _one_of(OnExceed), "ceiling": units}
    scopes = {"type": "array", "items": _text(parse_plan.SCOPE, parse_plan.SCOPE_MEND)}
    return _record({
        "limits": _each(_record(limit) | {"minProperties": 1}, "By the limit's name: what it is instead."),
        "features": _each({"type": ["boolean", "number", "string"]}, "By the feature's key: its value."),
        "scopes": _record({"add": scopes, "remove": scopes}),
    })  # fmt: skip


def _meter() -> Schema:
    status = {"type": ["string", "integer"], "minimum": 100, "maximum": 599, "pattern": _whole_of(notation.STATUSES)}
    name = _text(parse_policies.FIELD_NAME, parse_policies.FIELD_NAME_MEND)
    sources = [_record({source.value: name}, required=[source.value]) for source in parse_policies.NAMED_SOURCES]
    refunding = {"const": parse_policies.Unsettled.REFUND}
    properties = {
        "parent": _ref("name"),
        "refund_on": _list(status, parse_policies.MAXIMUM_STATUSES, "Statuses that give units back, such as 5xx."),
        "actual": {"anyOf": [_one_of(parse_policies.PLAIN_SOURCES), *sources]},
        "within": _text(notation.HOLD, "How long a request may be settled, such as 10m."),
        "unsettled": _one_of(parse_policies.Unsettled),
    }
    outcomes = [_need("refund_on"), _need("actual"), _having("unsettled", refunding)]
    return _record(properties) | {"if": {"anyOf": [_need("within"), _need("unsettled")]}, "then": {"anyOf": outcomes}}


def _route() -> Schema:
    return _record(
        {
            "match": _text(
                re.compile(rf"(?!HEAD )(?:{parse_routes.METHOD.pattern}) +/[^?]*"), "Such as: GET /v1/things/{id}"
            ),
            "cost": _map(fields.NAME, _ref("whole"), None, "Units for each meter.") | {"minProperties": 1},
            "scope": _ref("scope"),
            "feature": _text(parse_features.FEATURE_KEY, "The feature a plan must have."),
        },
        required=["match"],
    )


def _plan() -> Schema:
    properties = {
        "key": _ref("name"),
        "name": {"type": "string", "minLength": 1, "maxLength": parse_plan.TITLE_LENGTH},
        "price": _ref("price"),
        "trial": _ref("trial"),
        "grace": _ref("grace"),
        "scopes": _list(_ref("scope"), parse_plan.MAXIMUM_SCOPES, "What its tokens may do.") | {"uniqueItems": True},
        "features": _map(
            parse_features.FEATURE_KEY, _ref("feature"), parse_features.MAXIMUM_FEATURES, "What the upstream reads."
        ),
        "limits": _list(_ref("limit"), parse_limits.MAXIMUM_LIMITS, "All apply at once."),
        "charges": _map(fields.NAME, _ref("charge"), None, "What every unit costs, by meter."),
        "overage": _map(fields.NAME, _ref("charge"), None, "What units beyond the amount cost, by meter."),
        "upgrade_url": _text(parse_plan.URL, "Told in refusals that a larger plan would have allowed."),
    }
    charged, exceeding = (_having(name, {"minProperties": 1}) for name in ("charges", "overage"))
    needs = [{"if": charged, "then": _need("price")}, {"if": exceeding, "then": _need("price", "limits")}]
    return _record(properties, required=["key"]) | {"allOf": needs}


def _price() -> Schema:
    currency = _text(re.compile("[A-Z]{3}"), "ISO 4217, such as USD.")
    properties = {
        "amount": _ref("money"),
        "currency": currency,
        "every": _one_of(parse_prices.BILLED_EVERY),
        "prorate": {"type": "boolean"},
    }
    return _record(properties, required=["amount", "currency"])


def _trial() -> Schema:
    properties = {
        "days": _days(),
        "basis": _one_of(TrialBasis),
        "at_end": _one_of(TrialEnd),
        "to": _ref("name"),
        "bill_usage": {"type": "boolean"},
    }
    downgrades = {"properties": {"at_end": {"const": TrialEnd.DOWNGRADE}}, "required": ["at_end"]}
    return _record(properties, required=["days"]) | {"if": downgrades, "then": _need("to"), "else": _without("to")}


def _grace() -> Schema:
    share = _text(notation.SHARE, "Percent of each limit, from 1% to 99%.")
    reduced = {"properties": {"limits": {"const": GraceLimits.REDUCED}}, "required": ["limits"]}
    properties = {"days": _days(), "limits": _one_of(GraceLimits), "share": share}
    return _record(properties, required=["days"]) | {"if": reduced, "else": _without("share")}


def _feature() -> Schema:
    percent = {"type": ["number", "string"], "minimum": 0, "maximum": 100, "pattern": _whole_of(notation.PERCENT)}
    return {
        "anyOf": [
            {"type": "boolean"},
            {"type": "number", "exclusiveMinimum": -(10**15), "exclusiveMaximum": 10**15},
            _text(parse_features.TEXT, "Printable ASCII."),
            _record({"rollout": percent}, required=["rollout"]),
        ]
    }


def _limit() -> Schema:
    properties = {
        "name": _ref("name"),
        "rate": _text(re.compile(rf"[0-9_]+ */ *{notation.WINDOW.pattern}"), "Such as 50/s or 100/10s."),
        "burst": _whole(1),
        "quota": _ref("whole"),
        "period": _one_of(QuotaPeriod),
        "credits": _ref("whole"),
        "refill": _record(
            {"amount": _whole(1), "every": _one_of(parse_amounts.REFILLED_EVERY)}, required=["amount", "every"]
        ),
        "concurrency": _whole(1),
        "hold": _text(notation.HOLD, "Such as 30s, 5m or 1h."),
        "meter": _ref("name"),
        "per": _one_of(CountedPer),
        "on_exceed": _one_of(OnExceed),
        "allow_until": _text(
            re.compile(f"{notation.TIMES.pattern}|{notation.UNITS.pattern}"), "Such as 3x, 1.5x or 4500 units."
        ),
        "mode": _one_of(LimitMode),
        "fail": _one_of(FailPolicy),
        "exactness": _one_of(Exactness),
    }
    needs = {name: [kind.value] for name, kind in parse_amounts.BELONGS_TO.items()}
    of_customer = {"properties": {"per": {"const": CountedPer.CUSTOMER}}, "required": ["per"]}
    own_period = {"const": QuotaPeriod.BILLING}
    own_refill = {"type": "object", "properties": {"every": own_period}, "required": ["every"]}
    shared = {"not": {"anyOf": [_having("period", own_period), _having("refill", own_refill)]}}
    overage = {"properties": {"on_exceed": {"const": OnExceed.OVERAGE}}, "required": ["on_exceed"]}
    return _record(properties, required=["name"]) | {
        "oneOf": [_need(kind.value) for kind in LimitKind],
        "dependentRequired": needs | {"quota": ["period"]},
        "if": overage,
        "then": {"not": {"anyOf": [_need("rate"), _need("concurrency")]}},
        "else": _without("allow_until"),
        "allOf": [
            {"if": of_customer, "then": shared},
            {"if": _need("concurrency"), "then": {"not": _having("exactness", {"const": Exactness.LEASED})}},
        ],
    }


def _charge() -> Schema:
    tier = {"up_to": _whole(1), "unit": _ref("money"), "flat": _ref("money")}
    tiers = _list(_record(tier, required=["unit"]), parse_prices.MAXIMUM_TIERS, "From the lowest up.")
    parts = {
        "unit": _ref("money"),
        "tiers": tiers | {"minItems": 1},
        "size": _whole(1),
        "price": _ref("money"),
        "rate": _text(parse_prices.RATE, "Such as 1.5%."),
        "worth": _ref("money"),
        "free_amount": _ref("money"),
        "fee": _ref("money"),
        "events": _ref("name"),
        "free_events": _ref("whole"),
        "included": _ref("whole"),
    }
    bounds = {name: _ref("money") for name in parse_prices.BOUNDS}
    models = []
    for model, names in parse_prices.CHARGE_KEYS.items():
        properties = {"model": {"const": model.value}, **{name: parts[name] for name in names}, **bounds}
        required = ["model", *(name for name in names if name not in parse_prices.OPTIONAL_KEYS)]
        models.append(_record(properties, required=required))
    return {
        "type": "object",
        "properties": {"model": _one_of(ChargeModel)},
        "required": ["model"],
        "oneOf": models,
        "dependentRequired": {name: ["fee"] for name in parse_prices.FEE_KEYS},
    }


def _whole(minimum: int = 0) -> Schema:
    """Return what a whole number may be: a number, or its digits, for YAML 1.2 reads `1_000` as text."""
    digits = _whole_of(notation.WHOLE)
    return {"type": ["integer", "string"], "minimum": minimum, "maximum": EXACT_INTEGER - 1, "pattern": digits}


def _money() -> Schema:
    return {"type": ["string", "number"], "minimum": 0, "pattern": _whole_of(fields.DECIMAL)}


def _days() -> Schema:
    return _whole(1) | {"maximum": parse_phases.MAXIMUM_DAYS}


def _record(properties: Schema, required: list[str] | None = None) -> Schema:
    record = {"type": "object", "properties": properties, "additionalProperties": False}
    return record | ({"required": required} if required else {})


def _map(key: re.Pattern[str], value: Schema, most: int | None, description: str) -> Schema:
    described = {"description": description, "type": "object", "propertyNames": {"pattern": _whole_of(key)}}
    return described | {"additionalProperties": value} | ({"maxProperties": most} if most else {})


def _each(value: Schema, description: str) -> Schema:
    return {"description": description, "type": "object", "additionalProperties": value}


def _list(item: Schema, most: int, description: str) -> Schema:
    return {"description": description, "type": "array", "items": item, "maxItems": most}


def _text(pattern: re.Pattern[str], description: str) -> Schema:
    return {"description": description, "type": "string", "pattern": _whole_of(pattern)}


def _one_of(choices: Iterable[StrEnum]) -> Schema:
    return {"enum": [choice.value for choice in choices]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _need(*names: str) -> Schema:
    return {"required": list(names)}


def _having(name: str, value: Schema) -> Schema:
    return _need(name) | {"properties": {name: value}}


def _without(name: str) -> Schema:
    return {"not": _need(name)}


def _whole_of(pattern: re.Pattern[str]) -> str:
    """Return the pattern for all of a text; ours are such as ECMA 262 reads alike."""
    return f"^(?:{pattern.pattern})$"
