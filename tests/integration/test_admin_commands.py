"""The commands of the control plane: contracts, versions, many tokens, admin keys and the audit log."""

import json
import re
from pathlib import Path

import pytest
from support.commands import Shell

PLANS = """
routes:
  - {match: "* /v1/**"}
plans:
  - {key: free, name: Free, limits: [{name: monthly, quota: 100, period: billing}]}
  - key: pro
    name: PRO_NAME
    grace: {days: 7, limits: full}
    scopes: [things.read]
    features: {seats: 5}
    limits: [{name: monthly, quota: 1000, period: billing}, {name: prepaid, credits: 10}]
"""


@pytest.fixture
def office(shell: Shell, tmp_path: Path) -> Shell:
    """A shell in whose database `pro@1` and `pro@2` are published and customer `acme` is on `pro@1`."""
    for name in ("Pro", "Professional"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(PLANS.replace("PRO_NAME", name))
        assert shell("plans", "apply", str(path)).code == 0
    assert shell("customers", "create", "acme").code == 0
    assert shell("subscriptions", "create", "--customer", "acme", "--plan", "pro@1").code == 0
    return shell


def subscription(office: Shell) -> str:
    """Return the id of acme's subscription."""
    return str(office("subscriptions", "list", "--json").items[0]["id"])


def test_a_plan_is_changed_now_later_and_not_after_all(office: Shell) -> None:
    """Each command prints the contract as it is then, with what is to come."""
    ref = subscription(office)
    now = office("subscriptions", "change", ref, "--plan", "pro", "--carry", "reset", "--json").json
    assert (now["plan"], now["pinned"], now["changes"][0]["carry"]) == ("pro@2", "pro@1", "reset")
    later = office("subscriptions", "change", ref, "--plan", "free", "--at", "period-end", "--json").json
    assert (later["plan"], later["phases"][0]["plan"]) == ("pro@2", "free@1")
    assert "to free@1, carry" in office("subscriptions", "show", ref).out
    change = later["changes"][1]["id"]
    assert office("subscriptions", "cancel-change", change, "--json").json["phases"] == []
    assert "carry" in office("subscriptions", "change", ref, "--plan", "free", "--carry", "keep").refused()
    assert "no instant" in office("subscriptions", "change", ref, "--plan", "free", "--at", "soon").refused()
    assert "chg_x" in office("subscriptions", "cancel-change", "chg_x").refused()


def test_terms_of_their_own_are_typed_or_piped(office: Shell, tmp_path: Path) -> None:
    """From a file or standard input, in YAML or JSON; every mistake is told with its line."""
    ref, path = subscription(office), tmp_path / "terms.yaml"
    path.write_text("limits:\n  monthly: {amount: 5_000_000}\n")
    made = office("subscriptions", "override", ref, str(path), "--reason", "contract 7", "--json").json
    assert made["overrides"] == {"limits": {"monthly": {"amount": 5_000_000}}}
    piped = office("subscriptions", "override", ref, "-", "--json", stdin=json.dumps({"features": {"seats": 9}})).json
    assert piped["overrides"] == {"features": {"seats": 9}}
    path.write_text("limits:\n  monthly: {amount: many}\nfeatures: {sso: true}\n")
    told = office("subscriptions", "override", ref, str(path)).refused()
    assert "terms.yaml:2: limits.monthly.amount" in told
    assert "terms.yaml:3: features.sso" in told
    assert "cannot be read" in office("subscriptions", "override", ref, str(tmp_path / "none")).refused()


def test_credits_are_granted(office: Shell) -> None:
    """With an end or without; a limit that has no balance is told."""
    ref = subscription(office)
    office("subscriptions", "grant", ref, "prepaid", "500", "--expires", "90d", "--reason", "goodwill")
    granted = office("subscriptions", "grant", ref, "prepaid", "20", "--json").json
    assert sorted((each["amount"], each["expires_at"] is None) for each in granted["credits"]) == [
        (20, True),
        (500, False),
    ]
    assert "500 to prepaid until" in office("subscriptions", "show", ref).out
    assert "monthly" in office("subscriptions", "grant", ref, "monthly", "5").refused()


def test_a_contract_is_paused_ended_and_kept(office: Shell) -> None:
    """Suspend, resume, cancel at the period's end, and stay after all."""
    ref = subscription(office)
    assert office("subscriptions", "suspend", ref, "--json").json["status"] == "suspended"
    assert office("subscriptions", "resume", ref, "--json").json["status"] == "active"
    ending = office("subscriptions", "cancel", ref, "--at", "period-end", "--json").json
    assert (ending["status"], ending["phases"][0]["status"]) == ("active", "canceled")
    assert office("subscriptions", "uncancel", ref, "--json").json["ends_at"] is None
    assert office("subscriptions", "cancel", ref, "--json").json["status"] == "canceled"
    assert "has ended" in office("subscriptions", "uncancel", ref).refused()


def test_a_late_payer_has_grace(office: Shell) -> None:
    """From when the payment failed; found by status; over when it is paid."""
    late = office("customers", "past-due", "acme", "--since", "2d", "--json").json
    assert late["status"] == "past_due"
    contract = office("subscriptions", "list", "--customer", "acme", "--json").items[0]
    assert (contract["status"], contract["grace_until"] is None) == ("grace", False)
    assert [each["key"] for each in office("customers", "list", "--status", "past_due", "--json").items] == ["acme"]
    assert office("customers", "resume", "acme", "--json").json["past_due_at"] is None
    assert office("customers", "rename", "acme", "Acme [Corp]", "--json").json["name"] == "Acme [Corp]"


def test_a_version_over_its_life(office: Shell) -> None:
    """Deprecate, see who is on it, move them, retire; each refusal says what to do first."""
    assert "pro@1" in office("plans", "pins", "pro").out
    assert "deprecate it first" in office("plans", "retire", "pro@1").refused()
    assert office("plans", "deprecate", "pro@1", "--json").json["status"] == "deprecated"
    assert office("plans", "deprecate", "pro@1", "--undo", "--json").json["status"] == "published"
    assert office("plans", "deprecate", "pro@1", "--reason", "too cheap").code == 0
    assert "move them first" in office("plans", "retire", "pro@1").refused()
    dry = office("plans", "migrate", "pro@1", "pro@2", "--dry-run", "--json").json
    assert (dry["eligible"], dry["moved"], dry["is_dry_run"]) == (1, 1, True)
    assert "moved 0 of 1" in office("plans", "migrate", "pro@1", "pro@2", "--percent", "0").out
    assert "moved 1 of 1" in office("plans", "migrate", "pro@1", "pro@2", "--percent", "100").out
    assert office("plans", "pins", "pro", "--json").items == [{"plan": "pro@2", "subscriptions": 1}]
    retired = office("plans", "retire", "pro@1").out
    assert "retired" in retired
    assert "document" not in retired
    assert "percent" in office("plans", "migrate", "pro@2", "free@1", "--percent", "half").refused()


def test_a_shadow_is_started_listed_and_stopped(office: Shell) -> None:
    """A new version is tried by one command, and another tells what it would have refused."""
    started = office("plans", "shadow", "start", "pro@1", "pro@2", "--json").json
    assert (started["shadow"], started["subscriptions"]) == ("pro@2", 1)
    for plan in ("pro", "pro@1"):
        seen = office("plans", "shadow", "show", plan, "--json").json
        assert (seen["id"], seen["plan"], seen["shadow"]) == (started["id"], "pro@1", "pro@2")
        assert (seen["requests"], seen["refused"], seen["subscriptions"]) == (0, {}, {})
    assert "would have refused 0 of 0" in office("plans", "shadow", "show", "pro").out
    assert "nothing is tried" in office("plans", "shadow", "show", "free").refused()
    assert office("plans", "shadow", "list", "--json").items[0]["stopped_at"] is None
    assert office("plans", "shadow", "stop", "pro@1", "--json").json["stopped_at"] is not None
    assert "nothing is tried" in office("plans", "shadow", "stop", "pro@1").refused()


def test_a_limit_in_shadow_is_shown_without_a_version_tried(office: Shell, tmp_path: Path) -> None:
    """What a limit on trial would have refused is shown by the command that shows it of a version."""
    path = tmp_path / "watched.yaml"
    path.write_text("plans: [{key: free, name: Free, limits: [{name: daily, quota: 9, period: day, mode: shadow}]}]")
    assert office("plans", "apply", str(path)).code == 0
    seen = office("plans", "shadow", "show", "free", "--json").json
    assert (seen["plan"], seen["shadow"], [limit["name"] for limit in seen["limits"]]) == ("free@2", None, ["daily"])
    shown = office("plans", "shadow", "show", "free@2").out
    assert shown.splitlines() == [
        "limit daily in shadow of free@2",
        "would have refused 0 of 0 requests that were allowed",
    ]
    assert "no limit of it is in shadow" in office("plans", "shadow", "show", "free@1").refused()


def test_tokens_are_changed_paused_and_found(office: Shell) -> None:
    """Update, disable, enable; found by name and by the last four characters."""
    made = office("tokens", "issue", "--customer", "acme", "--name", "ci", "--json").json
    narrow = office(
        "tokens", "update", made["id"], "--scope", "things.read", "--network", "192.0.2.0/24", "--json"
    ).json
    assert (narrow["scopes"], narrow["networks"]) == (["things.read"], ["192.0.2.0/24"])
    wide = office(
        "tokens", "update", made["id"], "--scopes", "all", "--networks", "any", "--expires", "30d", "--json"
    ).json
    assert (wide["scopes"], wide["networks"], wide["expires_at"] is None) == (None, [], False)
    assert office("tokens", "update", made["id"], "--expires", "never", "--json").json["expires_at"] is None
    assert office("tokens", "disable", made["id"], "--json").json["status"] == "disabled"
    assert office("tokens", "enable", made["token"], "--json").json["status"] == "active"
    for options in (["--name", "ci"], ["--hint", made["hint"]]):
        assert [each["id"] for each in office("tokens", "list", *options, "--json").items] == [made["id"]]


def test_many_tokens_are_revoked_by_what_they_have_in_common(office: Shell) -> None:
    """A dry run counts; everything at once needs a condition; a token and a filter do not go together."""
    made = [office("tokens", "issue", "--customer", "acme", "--name", "ci", "--json").json for _ in range(3)]
    assert "would revoke 3 of 3" in office("tokens", "revoke", "--customer", "acme", "--dry-run").out
    assert office("tokens", "revoke", "--name", "ci", "--created-before", "90d", "--json").json["matched"] == 0
    assert office("tokens", "revoke", "--family", made[0]["family"], "--json").json["revoked"] == 1
    assert "revoked 2 of 3" in office("tokens", "revoke", "--customer", "acme", "--unused-since", "0s").out
    assert "every token" in office("tokens", "revoke").refused()
    assert "describe it" in office("tokens", "revoke", made[0]["id"], "--customer", "acme").refused()


def test_an_admin_key_is_made_listed_and_revoked(shell: Shell) -> None:
    """Its secret is printed once; the list never has it."""
    made = shell("admin-keys", "create", "ci", "--role", "issuer", "--json").json
    assert re.fullmatch(r"tga_[0-9A-Za-z]{36}", made["key"])
    assert (made["role"], made["revoked_at"]) == ("issuer", None)
    secret = made.pop("key")
    assert shell("admin-keys", "list", "--json").items == [made]
    assert secret not in shell("admin-keys", "list").out
    assert re.search(r"\btga_[0-9A-Za-z]{36}\b", shell("admin-keys", "create", "people").out)
    assert shell("admin-keys", "revoke", made["id"], "--json").json["revoked_at"] is not None
    assert "role" in shell("admin-keys", "create", "x", "--role", "root").refused()
    assert "key_x" in shell("admin-keys", "revoke", "key_x").refused()


def test_the_audit_log_is_read_and_verified(office: Shell) -> None:
    """By object, actor, action and time; an intact log exits 0 and tells its head."""
    assert office("customers", "suspend", "acme", "--reason", "abuse").code == 0
    everything = office("audit", "list", "--json").items
    customer = office("customers", "show", "acme", "--json").json
    listed = office("audit", "list", "--object", customer["id"], "--json").items
    assert [each["action"] for each in listed] == ["customer.create", "customer.suspended"]
    assert (listed[1]["after"]["status"], listed[1]["reason"]) == ("suspended", "abuse")
    assert office("audit", "list", "--since", "1h", "--actor", listed[0]["actor"], "--json").items == everything
    page = office("audit", "list", "--limit", "2", "--json").json
    assert page["next_cursor"] == str(page["items"][1]["id"])
    assert "abuse" in office("audit", "list", "--action", "customer.suspended").out
    report = office("audit", "verify", "--json").json
    assert (report["is_intact"], report["entries"]) == (True, len(everything))
    assert "intact" in office("audit", "verify", "--anchor", report["head"]).out
    broken = office("audit", "verify", "--anchor", "3:" + "0" * 64)
    assert (broken.code, "entry 3" in broken.out, broken.err) == (1, True, "")
    assert "anchor" in office("audit", "verify", "--anchor", "x").refused()
