"""`tallygate tokens` and `tallygate explain`: a secret is printed once, everything else without it."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.commands import Shell

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.tokens.format import Environment, TokenFormat
from tallygate.tokens.mint import mint

OFFLINE = {"POSTGRES_DSN": "", "PEPPER": ""}


@pytest.fixture
def office(shell: Shell, sample_plans: Path) -> Shell:
    """A shell with customer `acme` on the sample plan `pro`."""
    assert shell("plans", "apply", str(sample_plans)).code == 0
    assert shell("customers", "create", "acme").code == 0
    assert shell("subscriptions", "create", "--customer", "acme", "--plan", "pro").code == 0
    return shell


def issue(office: Shell, *options: str) -> dict[str, Any]:
    """Issue a token to `acme`; its secret is in `token`."""
    made: dict[str, Any] = office("tokens", "issue", "--customer", "acme", *options, "--json").json
    return made


def invented() -> str:
    """Return a token of the right form that nobody was ever given."""
    return mint(TokenFormat(), Environment.LIVE).text


def test_the_secret_is_shown_when_issued_and_never_again(office: Shell) -> None:
    """`issue` and `rotate` print it once; no other command does, whether asked by id or by the token itself."""
    made = issue(office, "--name", "ci")
    secret, token = made.pop("token"), made["id"]
    assert TokenFormat().parse(secret) is not None
    assert (made["status"], made["name"], made["hint"], made["scopes"]) == ("active", "ci", secret[-4:], None)
    assert office("tokens", "show", token, "--json").json == made
    assert office("tokens", "list", "--json").items == [made]
    later = [
        office("tokens", "show", token),
        office("tokens", "show", secret),
        office("tokens", "list"),
        office("tokens", "inspect", secret),
        office("tokens", "inspect", secret, "--json"),
        office("explain", "--token", secret, "GET", "/v1/things"),
        office("explain", "--token", secret, "GET", "/v1/things", "--json"),
        office("tokens", "revoke", secret),
        office("tokens", "revoke", secret, "--json"),
    ]
    assert [ran.code for ran in later] == [0] * len(later)
    assert not any(secret[8:] in ran.out + ran.err for ran in later)
    in_words = office("tokens", "issue", "--customer", "acme").out
    assert "Keep it now" in in_words
    assert len([word for word in in_words.split() if TokenFormat().parse(word)]) == 1
    for field, meaning in (("scopes", "all of its plan's"), ("networks", "any"), ("expires_at", "never")):
        assert re.search(rf"^{field} +{meaning} *$", in_words, re.MULTILINE), "an empty field is told in words"


def test_a_token_takes_its_options(office: Shell) -> None:
    """Scopes and networks may be repeated or put together; a lifetime may be a duration."""
    scopes = ("--scope", "things.read", "--scopes", "things.write,reports.read")
    options = ("--network", "192.0.2.0/24", "--networks", "2001:db8::/32 198.51.100.7", "--expires", "90d")
    made = issue(office, *scopes, *options, "--not-before", "2026-01-01T00:00:00Z")
    assert made["scopes"] == ["reports.read", "things.read", "things.write"]
    assert made["networks"] == ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"]
    assert made["not_before_at"] == "2026-01-01T00:00:00Z"
    assert made["expires_at"] > made["created_at"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--scope", "everything"], "scopes"),
        (["--network", "home"], "networks"),
        (["--expires", "soon"], "expires"),
        (["--expires", "2020-01-01"], "expires"),
        (["--expires", "0s"], "expires"),
        (["--not-before", "-1d"], "not-before"),
        (["--name", "two\nlines"], "name"),
        (["--env", "test"], "no subscription"),
        (["--subscription", "sub_nothing"], "subscription"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_wrong_options_are_bad_input(office: Shell, options: list[str], field: str) -> None:
    """The wrong option is named."""
    assert field in office("tokens", "issue", "--customer", "acme", *options).refused()


def test_rotation_and_revocation(office: Shell) -> None:
    """Rotating prints a new secret of the same family; the old one ends now, or after the grace."""
    first = issue(office)
    second = office("tokens", "rotate", first["id"], "--grace", "24h", "--json").json
    third = office("tokens", "rotate", second["token"], "--json").json
    assert first["family"] == second["family"] == third["family"]
    listed = {item["id"]: item["status"] for item in office("tokens", "list", "--json").items}
    assert listed == {first["id"]: "active", second["id"]: "revoked", third["id"]: "active"}
    office("tokens", "rotate", first["id"]).refused()
    gone = office("tokens", "revoke", first["family"], "--reason", "leaked", "--json").items
    assert {item["status"] for item in gone} == {"revoked"}
    one = office("tokens", "revoke", third["id"], "--json").json
    assert (one["id"], one["status"]) == (third["id"], "revoked")


@pytest.mark.parametrize("grace", ["soon", "-1h", "1", "h", "", "999999999d", "99999999999s"])
def test_a_grace_that_is_none_is_bad_input(office: Shell, grace: str) -> None:
    """A wrong duration is named, and the token goes on working."""
    made = issue(office)
    assert "grace" in office("tokens", "rotate", made["id"], f"--grace={grace}").refused()
    assert office("tokens", "show", made["id"], "--json").json["status"] == "active"


def test_a_token_that_is_not_there_is_not_repeated(office: Shell) -> None:
    """What was typed may be somebody's secret of elsewhere: it is not in the complaint."""
    for ref in (invented(), "sk_live_something_else", "tok\udcff"):
        for command in ("show", "rotate", "revoke"):
            complaint = office("tokens", command, ref).refused()
            assert ref not in complaint
    assert "tok_nothing" in office("tokens", "show", "tok_nothing").refused()
    office("tokens", "list", "--customer", "nobody").refused()


def test_a_token_may_come_from_standard_input(office: Shell) -> None:
    """So that it stands in no history of the shell and in no process list."""
    made = issue(office)
    for arguments in (["show", "-"], ["inspect", "-"], ["revoke", "-"]):
        assert office("tokens", *arguments, "--json", stdin=made["token"] + "\n").json["id"] == made["id"]
    office("tokens", "show", "-", stdin="").refused()
    office("tokens", "show", "-", stdin="nul\0\n").refused()


def test_inspecting_works_without_a_database(bare_shell: Shell) -> None:
    """Prefix and checksum are checked offline; the state is said to be unknown for want of settings."""
    ran = bare_shell("tokens", "inspect", invented(), "--json")
    assert ran.code == 0
    assert "TALLYGATE_POSTGRES_DSN" in ran.err
    assert '"status": "not looked up"' in ran.out
    assert "environment" in bare_shell("tokens", "inspect", invented()).out
    pattern = bare_shell("tokens", "pattern", "--json").json["pattern"]
    assert bare_shell("tokens", "pattern").out.strip() == pattern
    assert re.findall(pattern, f"key={invented()};") == [("live")]
    prefixed = mint(TokenFormat("acme"), Environment.TEST).text
    assert bare_shell("tokens", "inspect", prefixed, TOKEN_PREFIX="acme").code == 0


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("tg_live_" + "0" * 36, "checksum"),
        ("tg_live_short", "36 letters and digits"),
        ("ghp_" + "0" * 36, "does not begin with tg_live_"),
        ("", "does not begin"),
        ("tg_live_\udcff", "36 letters"),
    ],
    ids=["checksum", "short", "prefix", "empty", "bytes"],
)
def test_inspecting_says_what_is_wrong_with_a_token(bare_shell: Shell, token: str, problem: str) -> None:
    """A badly copied token is told from an invented one, without repeating it."""
    complaint = bare_shell("tokens", "inspect", token).refused()
    assert problem in complaint


def test_inspecting_tells_the_state(office: Shell) -> None:
    """Online a token is active, revoked or unknown, with the record it belongs to."""
    made = issue(office)
    active = office("tokens", "inspect", made["token"], "--json").json
    assert (active["id"], active["status"], active["checksum"]) == (made["id"], "active", "ok")
    assert "all of its plan's" in office("tokens", "inspect", made["token"]).out
    office("tokens", "revoke", made["id"])
    assert office("tokens", "inspect", made["token"], "--json").json["status"] == "revoked"
    assert office("tokens", "inspect", invented(), "--json").json["status"] == "unknown"


def test_explaining_consumes_nothing(office: Shell) -> None:
    """However often a request is explained, what is left stays the same; every step and limit is told."""
    secret = issue(office)["token"]
    told = [office("explain", "--token", secret, "GET", "/v1/things?a=b", "--json").json for _ in range(3)]
    first = told[0]
    assert (first["decision"], first["reason"], first["plan"], first["route"]) == ("allow", "ok", "pro@1", "* /v1/**")
    assert [limit["name"] for limit in first["limits"]] == ["burst", "per-token", "monthly"]
    assert {step["outcome"] for step in first["steps"]} == {"passed"}
    assert len({limit["remaining"] for each in told for limit in each["limits"] if limit["name"] == "monthly"}) == 1
    in_words = office("explain", "--token", "-", "get", "/v1/things", stdin=secret + "\n").out
    assert "allow: ok" in in_words
    assert "monthly: " in in_words


def test_explaining_a_refusal(office: Shell) -> None:
    """The step that refuses is named, with its reason; a refusal explained is a command done."""
    secret = issue(office, "--network", "192.0.2.0/24")["token"]
    asked: list[tuple[str, list[str], str, str]] = [
        (secret, ["GET", "/v1/things"], "network_denied", "network"),
        (secret, ["GET", "/v2", "--client-address", "192.0.2.1"], "route_denied", "route"),
        (secret, ["GET", "/v1/a%2Fb", "--client-address", "192.0.2.1"], "route_denied", "route"),
        (invented(), ["GET", "/v1/things"], "token_unknown", "license"),
        ("nonsense", ["GET", "/v1/things"], "token_malformed", "token form"),
        ("", ["GET", "/v1/things"], "token_malformed", "token form"),
    ]
    for token, arguments, reason, step in asked:
        told = office("explain", "--token", token, *arguments, "--json").json
        assert (told["decision"], told["reason"]) == ("deny", reason)
        assert [each["name"] for each in told["steps"] if each["outcome"] == "refused"] == [step]
    assert "deny: token_unknown" in office("explain", "--token", invented(), "GET", "/v1").out


def test_explaining_needs_a_path_and_its_dependencies(office: Shell) -> None:
    """A path without its slash and a URL that is none are bad input; lost counters do what the plan says."""
    secret = issue(office)["token"]
    assert "path" in office("explain", "--token", secret, "GET", "v1/things").refused()
    assert "redis" in office("explain", "--token", secret, "GET", "/v1", REDIS_URL="http://h").refused().lower()
    gone = f"redis://{LOOPBACK}:{free_port()}"
    told = office("explain", "--token", secret, "GET", "/v1/things", "--json", REDIS_URL=gone).json
    assert (told["decision"], told["reason"]) == ("deny", "dependency_down")
