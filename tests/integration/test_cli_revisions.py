"""`--revision`: an act goes through only on the object as it was when somebody looked at it."""

from pathlib import Path

import pytest
from support.commands import Shell

STALE = "7"
TERMS = "{features: {max_projects: 99}}"


@pytest.fixture
def office(shell: Shell, sample_plans: Path) -> Shell:
    """A shell in whose database the sample plans are published and a customer is on one of them."""
    assert shell("plans", "apply", str(sample_plans)).code == 0
    assert shell("customers", "create", "acme").code == 0
    return shell


def refused(ran: str, shown_by: str) -> None:
    """Hold that a complaint says what happened, and names the command that shows the object as it is."""
    assert "--revision" in ran
    assert f"not {STALE}: it was changed meanwhile" in ran
    assert f"tallygate {shown_by}" in ran


@pytest.mark.parametrize(
    "act", [["rename", "acme", "Acme Corp"], ["past-due", "acme"], ["suspend", "acme"], ["close", "acme"]], ids=" ".join
)
def test_a_customer_is_changed_as_it_was_seen(office: Shell, act: list[str]) -> None:
    """A stale revision fails and changes nothing; the standing one goes through and counts up."""
    before = office("customers", "show", "acme", "--json").json
    refused(office("customers", *act, "--revision", STALE).refused(code=1), "customers show acme")
    assert office("customers", "show", "acme", "--json").json == before
    changed = office("customers", *act, "--revision", str(before["revision"]), "--json").json
    assert changed["revision"] == before["revision"] + 1


@pytest.mark.parametrize(
    "act",
    [["change", "--plan", "free"], ["override", "-"], ["suspend"], ["cancel"], ["cancel", "--at", "period-end"]],
    ids=" ".join,
)
def test_a_subscription_is_changed_as_it_was_seen(office: Shell, act: list[str]) -> None:
    """So is a contract, whichever of its terms is meant."""
    made = office("subscriptions", "create", "--customer", "acme", "--plan", "pro", "--json").json
    verb, rest = act[0], act[1:]
    stale = office("subscriptions", verb, made["id"], *rest, "--revision", STALE, stdin=TERMS).refused(code=1)
    refused(stale, f"subscriptions show {made['id']}")
    assert office("subscriptions", "show", made["id"], "--json").json == made
    arguments = [verb, made["id"], *rest, "--revision", str(made["revision"]), "--json"]
    assert office("subscriptions", *arguments, stdin=TERMS).json["revision"] == made["revision"] + 1


def test_a_planned_change_is_taken_back_as_it_was_seen(office: Shell) -> None:
    """The revision of a change is that of its subscription."""
    made = office("subscriptions", "create", "--customer", "acme", "--plan", "pro", "--json").json
    planned = office("subscriptions", "change", made["id"], "--plan", "free", "--at", "30d", "--json").json
    change = planned["changes"][0]["id"]
    stale = office("subscriptions", "cancel-change", change, "--revision", STALE).refused(code=1)
    refused(stale, "subscriptions show")
    assert office("subscriptions", "cancel-change", change, "--revision", str(planned["revision"])).code == 0


@pytest.mark.parametrize("act", [["rotate"], ["update", "--expires", "90d"], ["disable"], ["revoke"]], ids=" ".join)
def test_a_token_is_changed_as_it_was_seen(office: Shell, act: list[str]) -> None:
    """So is a token; and a token given by its secret is not repeated in the complaint."""
    office("subscriptions", "create", "--customer", "acme", "--plan", "pro")
    made = office("tokens", "issue", "--customer", "acme", "--json").json
    verb, rest = act[0], act[1:]
    by_id = office("tokens", verb, made["id"], *rest, "--revision", STALE).refused(code=1)
    refused(by_id, f"tokens show {made['id']}")
    by_secret = office("tokens", verb, "-", *rest, "--revision", STALE, stdin=made["token"]).refused(code=1)
    refused(by_secret, "tokens show")
    assert made["token"] not in by_secret
    assert office("tokens", "show", made["id"], "--json").json["status"] == "active"
    assert office("tokens", verb, made["id"], *rest, "--revision", str(made["revision"])).code == 0


def test_many_tokens_have_no_revision(office: Shell) -> None:
    """One number cannot be the revision of a family or of a choice of tokens: bad input."""
    for chosen in (["fam_1"], ["--customer", "acme"]):
        assert "--revision" in office("tokens", "revoke", *chosen, "--revision", "1").refused()


def test_a_plan_version_is_changed_as_it_was_seen(office: Shell) -> None:
    """So is a published version, whose revision `show` tells in words too."""
    seen = office("plans", "show", "pro@1", "--json").json["revision"]
    assert f"revision {seen}\n" in office("plans", "show", "pro@1").out
    for act in (["deprecate", "pro@1"], ["deprecate", "pro@1", "--undo"]):
        refused(office("plans", *act, "--revision", STALE).refused(code=1), "plans show pro@1")
        seen += 1
        assert office("plans", *act, "--revision", str(seen - 1), "--json").json["revision"] == seen
    office("plans", "deprecate", "pro@1")
    refused(office("plans", "retire", "pro@1", "--revision", STALE).refused(code=1), "plans show pro@1")
