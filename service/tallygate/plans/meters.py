"""Meters in a tree: a unit of a child counts in its parent, and so on up.

Owns what the tree does to the costs of routes, and which policies a rule has by them. Pure. Documents keep the
costs as they were written; what is expanded here is what a request is charged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tallygate.licenses.routes import MeterPolicy, RouteRule, policies_of

Costs = tuple[tuple[str, int], ...]
Meters = Mapping[str, str | None]
"""Each meter's parent, None at the top; a meter that is not named has none. Never a cycle."""
Policies = Mapping[str, MeterPolicy]
"""What becomes of the units of each meter that has a policy."""


def expand_costs(costs: Costs, meters: Meters) -> Costs:
    """Return the units by meter, those of each child counted in all its ancestors too.

    A cost that is written for an ancestor itself adds to that. The order is that of the meters' names.
    """
    units: dict[str, int] = {}
    for meter, count in costs:
        for counted in (meter, *ancestors(meter, meters)):
            units[counted] = units.get(counted, 0) + count
    return tuple(sorted(units.items()))


def expand_routes(
    rules: Iterable[RouteRule], meters: Meters, policies: Policies | None = None
) -> tuple[RouteRule, ...]:
    """Return the rules as requests are charged by them, with the policies of all that is charged."""
    return tuple(_expanded(rule, expand_costs(rule.costs, meters), policies or {}) for rule in rules)


def ancestors(meter: str, meters: Meters) -> tuple[str, ...]:
    """Return the meters that a unit of `meter` counts in besides itself, nearest first."""
    found: list[str] = []
    parent = meters.get(meter)
    while parent is not None:
        found.append(parent)
        parent = meters.get(parent)
    return tuple(found)


def _expanded(rule: RouteRule, costs: Costs, policies: Policies) -> RouteRule:
    return replace(rule, costs=costs, policies=policies_of(costs, policies))
