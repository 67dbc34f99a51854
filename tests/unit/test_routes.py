"""Route rules and the normal form of paths."""

from dataclasses import replace

import pytest

from tallygate.licenses.routes import EVERYTHING, RouteRule, RouteTable, normal_path

REPORT = RouteRule("GET", "/v1/reports/{id}", (("requests", 5),), "reports.read")
ADMIN = RouteRule("*", "/v1/admin/**", scope="admin")
THINGS = RouteRule("POST", "/v1/things")
REST = RouteRule("*", "/v1/**")
TABLE = RouteTable((REPORT, ADMIN, THINGS, REST))


@pytest.mark.parametrize(
    ("method", "path", "rule"),
    [
        ("GET", "/v1/reports/7", REPORT),
        ("HEAD", "/v1/reports/7", REPORT),
        ("get", "/v1/reports/7", REPORT),
        ("POST", "/v1/reports/7", REST),
        ("GET", "/v1/reports", REST),
        ("GET", "/v1/reports/7/pages", REST),
        ("DELETE", "/v1/admin", ADMIN),
        ("DELETE", "/v1/admin/users/7", ADMIN),
        ("GET", "/v1/administration", REST),
        ("POST", "/v1/things", THINGS),
        ("GET", "/v1", REST),
        ("GET", "/v2/things", None),
        ("GET", "/", None),
    ],
)
def test_the_first_rule_that_matches_decides(method: str, path: str, rule: RouteRule | None) -> None:
    """A request gets the cost and the scope of the first rule that fits it; HEAD is judged as GET."""
    assert TABLE.match(method, path) == rule


def test_no_rules_at_all_means_any_request_costs_one() -> None:
    """An API without a catalogue of routes works: everything is allowed and counted."""
    table = RouteTable(())
    assert table.match("PATCH", "/") == EVERYTHING
    assert table.match("GET", "/a/b/c") == EVERYTHING


def test_a_rule_is_found_by_its_text() -> None:
    """An outcome that names its route finds the rule that charged it; a rule that is gone is not found."""
    hidden = replace(REPORT, costs=(("requests", 7),))
    table = RouteTable((REPORT, REST, hidden), {"in": "tokens", "tokens": None})
    assert table.by_text(REPORT.text) is REPORT, "as in matching, the first"
    assert table.by_text("GET /gone") is None
    assert table.meters["in"] == "tokens"
    assert RouteTable(()).by_text("* /**") is EVERYTHING


def test_a_template_is_text_and_no_pattern() -> None:
    """A dot in a template is a dot; otherwise `/v1/a.b` would also open `/v1/axb`."""
    table = RouteTable((RouteRule("GET", "/v1/a.b"),))
    assert table.match("GET", "/v1/a.b") is not None
    assert table.match("GET", "/v1/axb") is None


def test_paths_of_unusual_length_are_not_remembered() -> None:
    """A client cannot fill memory with the long paths it makes up."""
    table = RouteTable((REST,))
    for _ in range(2):
        assert table.look_up("GET", "/v1/" + "x" * 4000)[1] == REST
    assert table._remembered.cache_info().currsize == 0
    assert table.look_up("GET", "/v1/x?" + "y" * 4000) == ("/v1/x", REST)
    assert table._remembered.cache_info().currsize == 1


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/v1/things", "/v1/things"),
        ("/v1/things/", "/v1/things"),
        ("/v1/things?page=2", "/v1/things"),
        ("/v1/things?next=/../x//", "/v1/things"),
        ("/v1/th%69ngs", "/v1/things"),
        ("/v1/a%2ab", "/v1/a*b"),
        ("/v1/a%2Ab", "/v1/a*b"),
        ("/v1/a%21", "/v1/a!"),
        ("/v1/a%20b", "/v1/a%20b"),
        ("/v1/a b", "/v1/a%20b"),
        ("/v1/caf%c3%a9", "/v1/caf%C3%A9"),
        ("/v1/café", "/v1/caf%C3%A9"),
        ("/.well-known/x", "/.well-known/x"),
        ("/v1/...", "/v1/..."),
        ("/v1/{id}", "/v1/{id}"),
    ],
)
def test_one_path_has_one_spelling(target: str, path: str) -> None:
    """Every spelling of a path that upstreams take for the same meets the same rule."""
    assert normal_path(target) == path
    assert normal_path(path) == path


@pytest.mark.parametrize(
    "target",
    [
        "",
        "*",
        "v1/things",
        "http://api.example/v1/things",
        "//",
        "/v1//things",
        "/v1/things//",
        "/v1/./things",
        "/v1/../admin",
        "/v1/..",
        "/v1/%2e%2e/admin",
        "/v1/.%2E/admin",
        "/v1%2fadmin",
        "/v1%2Fadmin",
        "/v1\\admin",
        "/v1%5cadmin",
        "/v1/things;x=1",
        "/v1/things%3bx",
        "/v1/things#admin",
        "/v1/things%00",
        "/v1/things%0a",
        "/v1/things\n",
        "/v1/%252e%252e/admin",
        "/v1/100%",
        "/v1/%zz",
        "/v1/%u002e",
        "/v1/%c0%ae%c0%ae/admin",
        "/v1/\ud800",
    ],
)
def test_a_path_whose_meaning_is_in_doubt_is_refused(target: str) -> None:
    """What an upstream may read as another path is matched by no rule at all."""
    assert normal_path(target) is None


def test_a_path_beyond_all_reason_is_in_doubt() -> None:
    """Bringing 60 KB of escapes to normal form would hold up everybody else's requests."""
    assert normal_path("/" + "%41" * 3_000) is None
    assert normal_path("/" + "%41" * 2_000) == "/" + "A" * 2_000
