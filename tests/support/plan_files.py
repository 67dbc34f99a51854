"""Plan files that are wrong, and what is printed about them."""

import pytest

from tallygate.plans.parse import InvalidCatalogueError, parse


def problems(text: str | bytes) -> list[str]:
    """Return what is printed about a file, one problem each."""
    with pytest.raises(InvalidCatalogueError) as caught:
        parse(text, "plans.yaml")
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return str(caught.value).splitlines()


def in_plan(body: str) -> list[str]:
    """Return what is wrong with a plan that has `body`, without the place that all share."""
    return [line.removeprefix("plans.yaml:2: plans[0]") for line in problems(f"plans:\n  - {{key: p, {body}}}")]


def in_limit(body: str) -> list[str]:
    """Return what is wrong with a limit that has `body`, without the place that all share."""
    return [line.removeprefix(".limits[0]") for line in in_plan(f"limits: [{{name: it, {body}}}]")]


def in_route(body: str) -> list[str]:
    """Return what is wrong with a rule, without the place that all share."""
    return [line.removeprefix("plans.yaml:1: routes[0]") for line in problems(f"routes: [{{{body}}}]")]
