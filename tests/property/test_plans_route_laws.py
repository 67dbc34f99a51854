"""Laws of route rules in a plan file: what is accepted can match, and what is called hidden is."""

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tallygate.licenses.routes import RouteRule, RouteTable, normal_path
from tallygate.plans.parse import InvalidCatalogueError, parse
from tallygate.plans.parse_routes import covers

ELSEWHERE = "zz"
segments = st.sampled_from(["a", "b", "{x}", "{y}"])
templates = st.builds(
    lambda parts, tail: "/" + "/".join([*parts, *tail]), st.lists(segments, max_size=3), st.sampled_from([[], ["**"]])
)
rules = st.builds(RouteRule, st.sampled_from(["*", "GET", "POST"]), templates)


def witnesses(rule: RouteRule) -> list[tuple[str, str]]:
    """Return requests of a rule that no narrower rule shares: unusual segments, and ** both empty and long."""
    method = "PURGE" if rule.method == "*" else rule.method
    parts = [ELSEWHERE if part.startswith("{") else part for part in rule.template[1:].split("/") if part]
    if parts[-1:] == ["**"]:
        return [(method, "/" + "/".join(parts[:-1] + tail)) for tail in ([], [ELSEWHERE] * 5)]
    return [(method, "/" + "/".join(parts))]


@given(rules, rules)
@settings(deadline=None)
def test_one_rule_covers_another_exactly_when_it_matches_all_its_requests(wide: RouteRule, narrow: RouteRule) -> None:
    """No rule that could be reached is refused, and none that could not is accepted."""
    table = RouteTable((wide,))
    assert covers(wide, narrow) == all(table.match(*request) is not None for request in witnesses(narrow))


@given(
    st.sampled_from(["*", "GET", "PATCH"]),
    st.lists(
        st.sampled_from(["{id}", "**", "v1", "caf%C3%A9", "a%20b"])
        | st.text("ab.-_~!$&'()+,;=:@%{}* \u00e9/\\#?2FE", max_size=6),
        max_size=4,
    ),
)
@settings(deadline=None)
def test_a_rule_that_is_accepted_matches_the_path_it_describes(method: str, parts: list[str]) -> None:
    """A template that passes is met by a request written as the template, so its scope and cost take effect."""
    written = f"{method} /{'/'.join(parts)}"
    try:
        (rule,) = parse(yaml.safe_dump({"routes": [{"match": written}]}), "f").routes
    except InvalidCatalogueError:
        return
    asked = rule.template.replace("{id}", "7").replace("**", "x/y")
    path = normal_path(asked)
    assert path is not None
    assert RouteTable((rule,)).match("GET" if method == "*" else method, path) == rule
