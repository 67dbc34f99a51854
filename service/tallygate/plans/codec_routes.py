"""Routes and meters as JSON-able values: what the database keeps of them, and the file's own shape of it.

A stored table is `{meters, policies, routes}`. `meters` and `routes` say what was written, in the shape of the
file; the data plane reads what that comes to, so that it knows nothing of notations and of adding up: of a rule
`counts`, where the tree of meters adds to its `cost`, and `policies`, as `licenses.codec` reads them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from tallygate.licenses.routes import DEFAULT_METER, EVERYTHING, ActualSource, MeterPolicy, RouteRule
from tallygate.plans.meters import Costs, Meters, Policies, expand_costs
from tallygate.plans.notation import hold_text, statuses_text
from tallygate.plans.parse_policies import NAMED_SOURCES, Unsettled

Document = dict[str, Any]


def routes_to_document(rules: Iterable[RouteRule], meters: Meters, policies: Policies | None = None) -> Document:
    """Return what is stored of a table of rules, in whose list scope and feature are null where none is asked.

    Where there are no rules but meters, these say something of the rule that then takes everything: it is written.
    """
    policies, rules = policies or {}, tuple(rules) or ((EVERYTHING,) if meters else ())
    return {
        "meters": meters_to_document(meters, policies),
        "policies": [asdict(policy) for _, policy in sorted(policies.items())],
        "routes": [_route_to_document(rule, expand_costs(rule.costs, meters)) for rule in rules],
    }


def as_table(stored: Document | list[Document]) -> Document:
    """Return a stored table; those of before there were meters in it are a list of rules."""
    return {"meters": {}, "policies": [], "routes": stored} if isinstance(stored, list) else stored


def meters_to_document(meters: Meters, policies: Policies) -> Document:
    """Return the meters as the file has them, every default of a policy written out."""
    return {meter: _meter_to_document(parent, policies.get(meter)) for meter, parent in sorted(meters.items())}


def routes_from_document(routes: Iterable[Mapping[str, Any]]) -> tuple[RouteRule, ...]:
    """Return the rules of a stored table, with the costs that their author wrote."""
    return tuple(_route_from(rule) for rule in routes)


def charged(routes: Iterable[Document]) -> list[Document]:
    """Return the rules of a stored table, the `cost` of each being what a request is charged."""
    return [rule | {"cost": rule.get("counts") or rule["cost"]} for rule in routes]


def _meter_to_document(parent: str | None, policy: MeterPolicy | None) -> Document:
    document: Document = {} if parent is None else {"parent": parent}
    if policy is None:
        return document
    if policy.refund_on:
        document["refund_on"] = [statuses_text(first, last) for first, last in policy.refund_on]
    if policy.actual is not None:
        document["actual"] = _actual_to_document(policy.actual, policy.field_name)
    unsettled = Unsettled.REFUND if policy.is_refunded_unsettled else Unsettled.CHARGE
    return document | {"within": hold_text(policy.within_s), "unsettled": unsettled.value}


def _actual_to_document(source: ActualSource, name: str) -> str | Document:
    return {source.value: name} if source in NAMED_SOURCES else source.value


def _route_to_document(rule: RouteRule, counts: Costs) -> Document:
    document: Document = {"match": rule.text, "cost": dict(sorted(rule.costs))}
    if counts != tuple(sorted(rule.costs)):
        document["counts"] = dict(counts)
    return document | {"scope": rule.scope, "feature": rule.feature}


def _route_from(rule: Mapping[str, Any]) -> RouteRule:
    method, _, template = rule["match"].partition(" ")
    costs = rule.get("cost") or {DEFAULT_METER: 1}
    return RouteRule(method, template, tuple(sorted(costs.items())), rule.get("scope"), rule.get("feature"))
