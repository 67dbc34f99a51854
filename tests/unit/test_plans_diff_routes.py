"""What a new table of routes gives and takes is told, rule by rule."""

import pytest

from tallygate.licenses.routes import RouteRule
from tallygate.plans.change import ChangeKind
from tallygate.plans.diff_routes import diff_routes
from tallygate.plans.meters import expand_routes
from tallygate.plans.parse import parse

OLD = '[{match: "GET /v1/reports/{id}", cost: {requests: 5}}, {match: "* /v1/**"}]'


def rules(text: str) -> tuple[RouteRule, ...]:
    """Return the rules of a list as it stands in a file, as requests are charged by them."""
    read = parse(f"routes: {text}", "plans.yaml")
    return expand_routes(read.routes, read.meters)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (OLD, []),
        (OLD.replace("5", "9"), ["narrows GET /v1/reports/{id}.cost.requests"]),
        (OLD.replace("5", "0"), ["widens GET /v1/reports/{id}.cost.requests"]),
        (OLD.replace('v1/**"', 'v1/**", scope: a'), ["narrows * /v1/**.scope"]),
        (
            '[{match: "GET /v1/things", feature: f}, ' + OLD[1:],
            ["neutral GET /v1/things", "narrows GET /v1/things.feature"],
        ),
        ('[{match: "GET /v2"}, ' + OLD[1:], ["widens GET /v2"]),
        ('[{match: "* /v1/**"}]', ["neutral GET /v1/reports/{id}", "widens GET /v1/reports/{id}.cost.requests"]),
        ('[{match: "GET /v1/reports/{id}", cost: {requests: 5}}]', ["neutral * /v1/**"]),
        (
            '[{match: "GET /v2"}]',
            ["widens GET /v2", "narrows GET /v1/reports/{id}", "narrows * /v1/**"],
        ),
    ],
)
def test_each_change_of_a_route_is_told_which_way_it_goes(new: str, told: list[str]) -> None:
    """Dearer, or asking for more, narrows; served where it was refused widens; felt by some only is neutral."""
    assert [f"{change.kind.value} {change.field}" for change in diff_routes(rules(OLD), rules(new))] == told


def test_rules_in_another_order_are_told() -> None:
    """Where two match the first decides, so their order is part of the table."""
    table = rules('[{match: "GET /v1/{x}"}, {match: "* /v1/a", scope: a}]')
    (change,) = diff_routes(table, table[::-1])
    assert (change.field, change.kind) == ("order", ChangeKind.NEUTRAL)


def test_no_table_at_all_is_the_rule_that_takes_everything() -> None:
    """Whoever writes the first routes is told that the rest is refused from now on."""
    assert {change.kind for change in diff_routes((), rules(OLD))} == {ChangeKind.NEUTRAL, ChangeKind.NARROWS}
