"""Laws of what is told of two tables of routes."""

from hypothesis import given
from hypothesis import strategies as st

from tallygate.licenses.routes import RouteRule, RouteTable
from tallygate.plans.change import ChangeKind
from tallygate.plans.diff_routes import diff_routes
from tallygate.plans.parse_routes import overlap

OPPOSITE = {
    ChangeKind.WIDENS: ChangeKind.NARROWS,
    ChangeKind.NARROWS: ChangeKind.WIDENS,
    ChangeKind.NEUTRAL: ChangeKind.NEUTRAL,
}
PATHS = ("/a", "/a/b", "/a/{x}", "/{x}/b", "/{x}", "/a/**", "/**", "/b", "/a/b/c")
RULES = st.builds(
    RouteRule,
    st.sampled_from(["GET", "POST", "*"]),
    st.sampled_from(PATHS),
    costs=st.sampled_from([(("requests", 1),), (("requests", 2),), (("bytes", 3), ("requests", 1))]),
    scope=st.sampled_from([None, "a", "b"]),
    feature=st.sampled_from([None, "f"]),
)
TABLES = st.lists(RULES, unique_by=lambda rule: rule.text, max_size=4)


@given(table=TABLES)
def test_a_table_does_not_differ_from_itself(table: list[RouteRule]) -> None:
    """An unchanged file is said to change nothing."""
    assert diff_routes(table, table) == ()


@given(old=TABLES, new=TABLES)
def test_the_way_back_is_of_the_opposite_kind(old: list[RouteRule], new: list[RouteRule]) -> None:
    """What widens there narrows back."""
    there = sorted((change.field, OPPOSITE[change.kind].value) for change in diff_routes(old, new))
    assert there == sorted((change.field, change.kind.value) for change in diff_routes(new, old))


@given(one=RULES, other=RULES)
def test_rules_overlap_exactly_when_a_request_meets_both(one: RouteRule, other: RouteRule) -> None:
    """No rule is said to be new where its requests met another, nor the other way round."""
    paths = ["/", *(f"/{'/'.join(parts)}" for parts in (["a"], ["b"], ["z"], ["a", "b"], ["z", "b"], ["a", "z"]))]
    requests = [(method, path) for method in ("GET", "POST", "PUT") for path in [*paths, "/a/b/c", "/a/z/z", "/z/z/z"]]
    meets = [RouteTable((rule,)) for rule in (one, other)]
    both = any(all(table.look_up(*asked)[1] is not None for table in meets) for asked in requests)
    assert overlap(one, other) == both
