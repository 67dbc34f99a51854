"""Meters in a tree: a unit of a child counts in its parent, and so on up.

Owns what the tree does to the costs of routes. Pure. Documents keep the costs as they were written; what
is expanded here is what a request is charged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tallygate.licenses.routes import RouteRule

Costs = tuple[tuple[str, int], ...]
Meters = Mapping[str, str | None]
"""Each meter's parent, None at the top; a meter that is not named has none. Never a cycle."""


def expand_costs(costs: Costs, meters: Meters) -> Costs:
    """Return the units by meter, those of each child counted in all its ancestors too.

    A cost that is written for an ancestor itself adds to that. The order is that of the meters' names.
    """
    units: dict[str, int] = {}
    for meter, count in costs:
        for counted in (meter, *ancestors(meter, meters)):
            units[counted] = units.get(counted, 0) + count
    return tuple(sorted(units.items()))


def expand_routes(rules: Iterable[RouteRule], meters: Meters) -> tuple[RouteRule, ...]:
    """Return the rules as requests are charged by them."""
    return tuple(replace(rule, costs=expand_costs(rule.costs, meters)) for rule in rules)


def ancestors(meter: str, meters: Meters) -> tuple[str, ...]:
    """Return the meters that a unit of `meter` counts in besides itself, nearest first."""
    found: list[str] = []
    parent = meters.get(meter)
    while parent is not None:
        found.append(parent)
        parent = meters.get(parent)
    return tuple(found)
