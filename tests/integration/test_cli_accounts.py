"""`tallygate customers` and `tallygate subscriptions`: objects with ids and states, in words and as JSON."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.commands import Shell


@pytest.fixture
def office(shell: Shell, sample_plans: Path) -> Shell:
    """A shell in whose database the sample plans are published."""
    assert shell("plans", "apply", str(sample_plans)).code == 0
    return shell


def test_a_customer_from_creation_to_closing(shell: Shell) -> None:
    """Each command prints the customer as it is then."""
    made = shell("customers", "create", "acme", "--name", "Acme [Corp]", "--json").json
    assert made.keys() == {"id", "key", "name", "status", "created_at", "updated_at", "past_due_at", "revision"}
    assert made["id"].startswith("cus_")
    assert made["created_at"].endswith("Z")
    assert (made["key"], made["name"], made["status"]) == ("acme", "Acme [Corp]", "active")
    assert shell("customers", "show", "acme", "--json").json == made
    assert shell("customers", "show", made["id"], "--json").json == made
    states = ("past_due", "suspended", "active", "closed")
    for revision, (command, status) in enumerate(
        zip(("past-due", "suspend", "resume", "close"), states, strict=True), 2
    ):
        changed = shell("customers", command, "acme", "--reason", "because", "--json").json
        assert (changed["status"], changed["revision"], changed["key"]) == (status, revision, "acme")
        assert (changed["past_due_at"] is None) == (status in {"active", "closed"})
    assert "closed" in shell("customers", "resume", "acme").refused()
    assert "Acme [Corp]" in shell("customers", "list").out


def test_customers_are_listed_by_the_page(shell: Shell) -> None:
    """A full page names where the next one begins; an empty list says so."""
    assert shell("customers", "list").out.strip() == "(none)"
    ids = [shell("customers", "create", key, "--json").json["id"] for key in ("one", "two", "three")]
    page = shell("customers", "list", "--limit", "2", "--json").json
    assert [item["id"] for item in page["items"]] == ids[:2]
    assert page["next_cursor"] == ids[1]
    rest = shell("customers", "list", "--limit", "2", "--after", page["next_cursor"], "--json").json
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == (ids[2:], None)
    assert f"--after {ids[1]}" in shell("customers", "list", "--limit", "2").out


def test_what_is_wrong_with_a_customer_is_told(shell: Shell) -> None:
    """A missing or taken key, an unknown customer, text no database can hold: exit 2, never a traceback."""
    shell("customers", "create", "acme")
    for arguments in (["create"], ["create", "Acme Corp"], ["create", "acme"], ["show", "nobody"], ["show", "\udcff"]):
        shell("customers", *arguments).refused()
    for command in ("suspend", "resume", "close"):
        assert "nobody" in shell("customers", command, "nobody").refused()


def test_a_subscription_from_creation_to_cancelling(office: Shell) -> None:
    """A plan without a version pins the newest; every command prints the subscription as it is then."""
    customer = office("customers", "create", "acme", "--json").json["id"]
    made = office("subscriptions", "create", "--customer", "acme", "--plan", "pro", "--json").json
    assert made["id"].startswith("sub_")
    assert (made["customer"], made["plan"], made["status"], made["environment"]) == (
        customer,
        "pro@1",
        "active",
        "live",
    )
    assert made["starts_at"] == made["created_at"]
    assert made["anchor_at"] == made["starts_at"][:16] + ":00Z"
    assert office("subscriptions", "show", made["id"], "--json").json == made
    assert office("subscriptions", "list", "--customer", "acme", "--json").items == [made]
    ended = office("subscriptions", "cancel", made["id"], "--reason", "moved on", "--json").json
    assert ended["status"] == "canceled"
    assert office("subscriptions", "cancel", made["id"], "--json").json == ended
    assert made["id"] in office("subscriptions", "list").out


def test_a_subscription_may_come_with_its_first_token(office: Shell) -> None:
    """One command puts a customer live: its secret is shown this once, in words and as JSON."""
    office("customers", "create", "acme")
    words = ("subscriptions", "create", "--customer", "acme", "--plan", "pro", "--issue-token")
    made = office(*words, "first", "--json").json
    issued = made["issued"]
    assert (issued["subscription"], issued["name"], issued["status"]) == (made["id"], "first", "active")
    assert office("tokens", "inspect", issued["token"], "--json").json["id"] == issued["id"]
    assert "issued" not in office("subscriptions", "show", made["id"], "--json").json
    office("customers", "create", "globex")
    told = office("subscriptions", "create", "--customer", "globex", "--plan", "pro", "--issue-token", "first").out
    assert re.search(r"^token  tg_live_\w{36}$", told, re.MULTILINE)


def test_a_subscription_whose_token_cannot_be_issued_is_told_of(office: Shell) -> None:
    """Nobody makes a second subscription for want of its token: the complaint names the one that was made."""
    office("customers", "create", "acme")
    words = ("subscriptions", "create", "--customer", "acme", "--plan", "pro", "--issue-token", "x" * 1000)
    told = office(*words).refused(code=1)
    (made,) = office("subscriptions", "list", "--customer", "acme", "--json").items
    assert f"{made['id']} is made" in told
    assert f"tallygate tokens issue --subscription {made['id']}" in told


def test_a_subscription_takes_its_options(office: Shell) -> None:
    """World, start, anchor and time zone are read as people write them."""
    office("customers", "create", "acme")
    options = (
        "--env",
        "test",
        "--starts",
        "2d",
        "--anchor",
        "2026-01-31T00:00:00+01:00",
        "--timezone",
        "Europe/Berlin",
    )
    made = office("subscriptions", "create", "--customer", "acme", "--plan", "free@1", *options, "--json").json
    starts_at = datetime.fromisoformat(made["starts_at"])
    assert timedelta(days=1) < starts_at - datetime.now(UTC) < timedelta(days=3)
    assert (made["status"], made["environment"], made["timezone"]) == ("scheduled", "test", "Europe/Berlin")
    assert made["anchor_at"] == "2026-01-30T23:00:00Z"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--plan", "gold"], "plan"),
        (["--plan", "pro@7"], "plan"),
        (["--plan", "pro@x"], "plan"),
        (["--plan", "pro", "--timezone", "Mars/Olympus"], "timezone"),
        (["--plan", "pro", "--starts", "tomorrow"], "starts"),
        (["--plan", "pro", "--starts", "999999999w"], "starts"),
        (["--plan", "pro", "--anchor", "2026-02-30"], "anchor"),
        (["--plan", "pro", "--anchor", "0001-01-01T00:00:00+14:00"], "anchor"),
        (["--plan", "pro", "--anchor", "9999-12-31T23:59:59-12:00"], "anchor"),
        (["--plan", "pro", "--anchor", "1999-12-31"], "anchor"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[-2:]),
)
def test_wrong_options_are_bad_input(office: Shell, options: list[str], field: str) -> None:
    """The wrong option is named."""
    office("customers", "create", "acme")
    assert field in office("subscriptions", "create", "--customer", "acme", *options).refused()


def test_a_subscription_that_is_not_there_is_bad_input(office: Shell) -> None:
    """Of nobody, or unknown: exit 2."""
    office("subscriptions", "create", "--customer", "nobody", "--plan", "pro").refused()
    office("subscriptions", "list", "--customer", "nobody").refused()
    for command in ("show", "cancel"):
        office("subscriptions", command, "sub_nothing").refused()
