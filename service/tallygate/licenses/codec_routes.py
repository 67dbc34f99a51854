"""Route tables as JSON, the form in which Postgres keeps them.

Owns what the data plane reads of what `plans.codec_routes` wrote: leniently what it does not know, strictly what
it does, as `codec` reads licenses. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tallygate.licenses.codec import plain, read
from tallygate.licenses.routes import DEFAULT_METER, MeterPolicy, RouteRule, policies_of

Meters = Mapping[str, str | None]


class _StoredRule(msgspec.Struct):
    """A route rule as a plan file has it; `counts` is its cost with children counted in their parent meters."""

    match: str
    cost: dict[str, int] = msgspec.field(default_factory=lambda: {DEFAULT_METER: 1})
    scope: str | None = None
    feature: str | None = None
    counts: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class _StoredMeter(msgspec.Struct):
    """A declared meter; the rest of what the file says of it is in the table's policies."""

    parent: str | None = None


class _StoredTable(msgspec.Struct):
    """A route table; `policies` is what the notations of its meters come to."""

    routes: tuple[_StoredRule, ...]
    meters: dict[str, _StoredMeter] = {}
    policies: tuple[MeterPolicy, ...] = ()


# Before there were meters in it, a table was its rules alone.
_routes = msgspec.json.Decoder(_StoredTable | tuple[_StoredRule, ...])


def encode_routes(rules: Sequence[RouteRule], meters: Meters | None = None) -> dict[str, Any]:
    """Return a table of `rules`, and the parents of its meters, for the column `route_tables.document`."""
    stored = tuple(_StoredRule(rule.text, dict(rule.costs), rule.scope, rule.feature) for rule in rules)
    parents = {meter: _StoredMeter(parent) for meter, parent in (meters or {}).items()}
    policies = {policy.meter: policy for rule in rules for policy in rule.policies}
    document: dict[str, Any] = plain(_StoredTable(stored, parents, tuple(policies.values())))
    return document


def decode_routes(text: str | bytes) -> tuple[tuple[RouteRule, ...], Meters]:
    """Return the rules in the JSON `text`, each with its policies, and the parents of the meters.

    Raises ValueError when they cannot be read.
    """
    stored = read(_routes, text)
    table = stored if isinstance(stored, _StoredTable) else _StoredTable(stored)
    policies = {policy.meter: policy for policy in table.policies}
    rules = tuple(_rule(rule, policies) for rule in table.routes)
    return rules, {name: meter.parent for name, meter in table.meters.items()}


def _rule(stored: _StoredRule, policies: Mapping[str, MeterPolicy]) -> RouteRule:
    method, _, template = stored.match.partition(" ")
    if not method or not template.startswith("/"):
        message = f"{stored.match!r} is no method and path"
        raise ValueError(message)
    counts = stored.cost if stored.counts is msgspec.UNSET else stored.counts
    costs = tuple(sorted(counts.items()))
    return RouteRule(method, template, costs, stored.scope, stored.feature, policies_of(costs, policies))
