"""What is wrong with a route rule is told, with what would be right."""

import pytest
from support.plan_files import in_route, problems


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("/v1", '"/v1" is not a method, a space and a path (write "GET /v1/things/{id}")'),
        ("GET v1", '"GET v1" is not a method, a space and a path (write "GET /v1/things/{id}")'),
        ("GET https://a/b", '"GET https://a/b" is not a method, a space and a path (write "GET /v1/things/{id}")'),
        ("post /v1", '"post" is not a method (write POST)'),
        ("G*T /v1", '"G*T" is not a method (or * for any)'),
        ("HEAD /v1", "a HEAD request is matched as GET (write GET)"),
        ("GET /v1?x=1", "a rule looks at the path, not at the query (write /v1)"),
        ("GET /v1/", '"/v1/" is not a path in normal form (write /v1)'),
        (
            "GET /a/../b",
            (
                '"/a/../b" is not a path in normal form (no doubled slash, no dot segment, none of ; # and '
                "backslash, and no %2F, %5C, %25)"
            ),
        ),
        (
            "GET /a//b",
            (
                '"/a//b" is not a path in normal form (no doubled slash, no dot segment, none of ; # and '
                "backslash, and no %2F, %5C, %25)"
            ),
        ),
        ("GET /%41", '"/%41" is not a path in normal form (write /A)'),
        ("GET /caf\u00e9", '"/caf\\u00e9" is not a path in normal form (write /caf%C3%A9)'),
        ("GET /a b", '"/a b" is not a path in normal form (write /a%20b)'),
        ("GET /**/b", "** stands for the rest of a path (write it last, or {name} for one segment)"),
        ("GET /a*", 'the segment "a*" is not allowed (write text, {name} for one segment, or a last **)'),
        ("GET /{id}.json", 'the segment "{id}.json" is not allowed (write text, {name} for one segment, or a last **)'),
        ("GET /{}", 'the segment "{}" is not allowed (write text, {name} for one segment, or a last **)'),
        ("GET /" + "a" * 1024, "the path is too long (at most 1024 characters)"),
    ],
)
def test_a_rule_that_could_never_match_is_refused(match: str, expected: str) -> None:
    """A template is written as the path is seen, or it would protect nothing."""
    assert in_route(f'match: "{match}"') == [f".match: {expected}"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("cost: {requests: 1}", ': has no match (write "GET /v1/things/{id}")'),
        (
            'match: "GET /", cost: {}',
            ".cost: names no meter (write {requests: 1}; {requests: 0} looks without spending)",
        ),
        ('match: "GET /", cost: 5', ".cost: is not a mapping (write key: value)"),
        (
            'match: "GET /", cost: {Requests: 1}',
            (
                '.cost.Requests: "Requests" is not a meter '
                "(begin with a-z, then a-z, 0-9, _ and -, at most 63 characters)"
            ),
        ),
        (
            'match: "GET /", cost: {requests: -1}',
            ('.cost.requests: "-1" is not a whole number (write digits, such as 1000 or 1_000_000)'),
        ),
        (
            'match: "GET /", scope: "a b"',
            (
                r'.scope: "a b" is not allowed '
                r'(printable ASCII without space, " and \, at most 128 characters)'
            ),
        ),
    ],
)
def test_a_rule_says_what_it_costs_and_needs(body: str, expected: str) -> None:
    """Costs are whole units of meters; scope and feature are such as a plan can grant."""
    told = in_route(body)
    assert told[0] == expected


def test_a_rule_that_an_earlier_one_hides_is_refused() -> None:
    """A rule below one that matches all of it would never be asked: its scope and cost would be a pretence."""
    text = 'routes:\n - match: "* /v1/**"\n - {match: "GET /v1/reports/{id}", scope: reports.read}'
    assert problems(text) == [
        'plans.yaml:3: routes[1]: is never reached: "* /v1/**" above matches all of it (move it up)'
    ]


def test_what_a_route_asks_for_some_plan_grants() -> None:
    """A scope or feature that no plan grants would close the route to everyone."""
    text = """\
routes:
  - match: GET /a
    scope: things.raed
  - match: GET /b
    feature: sso
  - {match: GET /c, feature: audit}
plans:
  - {key: p, scopes: [things.read], features: {reports: true, sso: false, audit: 0}}
"""
    assert problems(text) == [
        'plans.yaml:3: routes[0].scope: no plan grants "things.raed" (did you mean things.read?)',
        'plans.yaml:5: routes[1].feature: no plan grants "sso" (known here: audit, reports)',
    ]
