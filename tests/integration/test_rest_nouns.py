"""What an API business does, over REST: each act, its answer, and where it can be read again."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from support.rest import Rest, problem, running_rest, together
from support.servers import Database

SOON = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API."""
    async with running_rest(database, redis_url) as running:
        yield running


async def test_a_customer_from_beginning_to_end(rest: Rest) -> None:
    """A customer is made, renamed, owes, is suspended, resumed and closed; the audit log tells why."""
    made = await rest.admin.post("/v1/customers", json={"key": "acme", "name": "Acme Corp", "reason": "signed"})
    customer = made.json()
    assert made.headers["location"] == f"/v1/customers/{customer['id']}"
    assert (await rest.viewer.get(made.headers["location"])).json() == customer
    assert (await rest.viewer.get("/v1/customers/acme")).json() == customer
    renamed = await rest.admin.patch("/v1/customers/acme", json={"name": "Acme\N{NO-BREAK SPACE}GmbH"})
    assert renamed.json()["name"] == "Acme GmbH"
    for act, status in (("past-due", "past_due"), ("suspend", "suspended"), ("resume", "active"), ("close", "closed")):
        answer = await rest.admin.post(f"/v1/customers/acme/{act}", json={"reason": "as agreed"})
        assert answer.json()["status"] == status
    problem(await rest.admin.post("/v1/customers/acme/resume"), 409)
    entries = (await rest.viewer.get("/v1/audit", params={"object": customer["id"]})).json()["items"]
    assert [entry["reason"] for entry in entries] == ["signed", "", *["as agreed"] * 4]
    problem(await rest.admin.post("/v1/customers", json={"key": "acme"}), 409)
    assert (await rest.admin.post("/v1/customers", json={"name": "Globex Inc."})).json()["key"] == "globex-inc"
    problem(await rest.admin.post("/v1/customers", json={}), 422)


async def test_a_contract_from_beginning_to_end(rest: Rest) -> None:
    """A subscription is suspended, changed, overridden, granted credits, canceled, and all of it taken back."""
    contract = await rest.subscribed()
    path = f"/v1/subscriptions/{contract['id']}"
    assert contract["plan"] == "pro@1"
    assert (await rest.admin.post(f"{path}/suspend")).json()["status"] == "suspended"
    assert (await rest.admin.post(f"{path}/resume")).json()["status"] == "active"
    changed = await rest.admin.post(f"{path}/change", json={"plan": "free", "at": SOON, "carry": "prorate"})
    (change,) = changed.json()["changes"]
    assert (change["plan"], change["at"], change["carry"]) == ("free@1", SOON, "prorate")
    problem(await rest.admin.post(f"{path}/changes/chg_{'0' * 26}/cancel"), 404)
    taken_back = await rest.admin.post(f"{path}/changes/{change['id']}/cancel")
    assert taken_back.json()["changes"][0]["canceled_at"] is not None
    document = {"limits": {"monthly": {"amount": 50_000}}}
    answer = await rest.admin.post(f"{path}/override", json={"document": document, "reason": "contract 7"})
    assert answer.json()["overrides"]["limits"]["monthly"]["amount"] == 50_000
    wrong = problem(await rest.admin.post(f"{path}/override", json={"document": {"limits": {"x": 1}}}), 422)
    assert wrong["errors"][0]["pointer"].startswith("/document/limits")
    granted = await rest.admin.post(f"{path}/credits", json={"limit": "prepaid", "amount": 500})
    assert [credit["amount"] for credit in granted.json()["credits"]] == [500]
    assert (await rest.admin.post(f"{path}/cancel", json={"at": "period-end"})).json()["ends_at"] is not None
    assert (await rest.admin.post(f"{path}/uncancel")).json()["ends_at"] is None
    assert (await rest.admin.post(f"{path}/cancel")).json()["status"] == "canceled"


async def test_a_token_from_beginning_to_end(rest: Rest) -> None:
    """A token is issued, narrowed, disabled, enabled, rotated and revoked; only its issuing shows the secret."""
    contract = await rest.subscribed()
    issued = await rest.issuer.post(
        "/v1/tokens", json={"customer": "acme", "name": "ci", "networks": ["10.1.2.3/8"], "expires_at": SOON}
    )
    token = issued.json()
    path = issued.headers["location"]
    assert (token["subscription"], token["networks"], token["expires_at"]) == (contract["id"], ["10.0.0.0/8"], SOON)
    assert token["token"].endswith(token["hint"])
    shown = (await rest.viewer.get(path)).json()
    assert shown == {name: value for name, value in token.items() if name != "token"}
    patched = await rest.issuer.patch(path, json={"expires_at": None, "scopes": ["things.read"]})
    assert (patched.json()["expires_at"], patched.json()["scopes"]) == (None, ["things.read"])
    assert patched.json()["networks"] == ["10.0.0.0/8"]
    assert (await rest.issuer.post(f"{path}/disable")).json()["status"] == "disabled"
    assert (await rest.issuer.post(f"{path}/enable")).json()["status"] == "active"
    rotated = (await rest.issuer.post(f"{path}/rotate", json={"grace_s": 3600})).json()
    assert (rotated["family"], rotated["token"] != token["token"]) == (token["family"], True)
    problem(await rest.issuer.post(f"{path}/rotate"), 409)
    assert (await rest.issuer.post(f"/v1/tokens/{rotated['id']}/revoke")).json()["status"] == "revoked"
    found = await rest.viewer.post("/v1/tokens/inspect", json={"token": rotated["token"]})
    assert (found.json()["id"], found.json()["status"]) == (rotated["id"], "revoked")
    problem(await rest.viewer.post("/v1/tokens/inspect", json={"token": "tg_live_" + "0" * 36}), 404)


async def test_many_tokens_are_revoked_at_once(rest: Rest) -> None:
    """A filter revokes what it finds, page by page, and says first what it would do."""
    contract = await rest.subscribed()
    for number in range(5):
        await rest.made("/v1/tokens", subscription=contract["id"], name="ci" if number else "laptop")
    chosen = {"customer": "acme", "name": "ci"}
    dry = (await rest.issuer.post("/v1/tokens/revoke", json=chosen | {"dry_run": True})).json()
    assert (dry["matched"], dry["is_dry_run"]) == (4, True)
    first = (await rest.issuer.post("/v1/tokens/revoke", json=chosen | {"limit": 2})).json()
    rest_of_it = chosen | {"limit": 1000, "cursor": first["next_cursor"]}
    last = (await rest.issuer.post("/v1/tokens/revoke", json=rest_of_it)).json()
    assert (first["revoked"] + last["revoked"], last["next_cursor"]) == (4, None)
    items = (await rest.viewer.get("/v1/tokens", params={"subscription": contract["id"]})).json()["items"]
    assert sorted(item["status"] for item in items) == ["active", *["revoked"] * 4]
    problem(await rest.issuer.post("/v1/tokens/revoke", json={}), 422)


async def test_a_new_tier_is_published_tried_and_moved_to(rest: Rest) -> None:
    """A version is published, tried in shadow, its cohort moved, and the old one retired, without a deploy."""
    contract = await rest.subscribed(plan="free")
    standing = (await rest.viewer.get("/v1/routes")).json()
    tier = (await rest.viewer.get("/v1/plans/free")).json()["document"]
    tier["limits"][0]["quota"] = 200
    published = await rest.admin.post("/v1/plans/free/versions", json=tier)
    assert (published.status_code, published.json()["id"]) == (201, "free@2")
    assert (await rest.admin.post("/v1/plans/free/versions", json=tier)).status_code == 200
    assert (await rest.viewer.get("/v1/routes")).json() == standing
    started = await rest.admin.post("/v1/plans/free/shadow", json={"version": 1, "shadow": "free@2"})
    assert (started.status_code, started.json()["subscriptions"]) == (201, 1)
    for query in ({}, {"version": 1}):
        report = (await rest.viewer.get("/v1/plans/free/shadow", params=query)).json()
        assert (report["shadow"], report["requests"], report["refused"]) == ("free@2", 0, {})
        assert report["limits"] == []
    assert (await rest.admin.post("/v1/plans/free/shadow/stop", json={"version": 1})).json()["stopped_at"]
    problem(await rest.viewer.get("/v1/plans/free/shadow"), 404)
    cohort = {"from_version": 1, "to": "free@2", "percent": "100"}
    dry = (await rest.admin.post("/v1/plans/free/migrations", json=cohort | {"dry_run": True})).json()
    assert (dry["eligible"], dry["moved"], dry["is_dry_run"]) == (1, 1, True)
    assert (await rest.admin.post("/v1/plans/free/migrations", json=cohort)).json()["moved"] == 1
    assert (await rest.viewer.get(f"/v1/subscriptions/{contract['id']}")).json()["plan"] == "free@2"
    for act, status in (("deprecate", "deprecated"), ("reinstate", "published"), ("deprecate", "deprecated")):
        assert (await rest.admin.post(f"/v1/plans/free/versions/1/{act}")).json()["status"] == status
    assert (await rest.admin.post("/v1/plans/free/versions/1/retire")).json()["status"] == "retired"
    problem(await rest.admin.post("/v1/plans/free/versions/2/retire"), 409)


async def test_a_limit_in_shadow_has_a_report_without_a_version_tried(rest: Rest) -> None:
    """A plan version answers for its limits in shadow; a plan or a version with nothing in shadow is not found."""
    tier = {"name": "Free", "limits": [{"name": "trial", "credits": 5, "mode": "shadow"}]}
    assert (await rest.admin.post("/v1/plans/free/versions", json=tier)).json()["id"] == "free@2"
    unseen = {"requests": 0, "refused": {}, "subscriptions": {}}
    for query in ({}, {"version": 2}):
        report = (await rest.viewer.get("/v1/plans/free/shadow", params=query)).json()
        none = dict.fromkeys(("id", "shadow", "started_at", "stopped_at"))
        assert report == none | unseen | {"plan": "free@2", "limits": [{"name": "trial", **unseen}]}
    for path in ("free/shadow?version=1", "free/shadow?version=3", "pro/shadow", "none/shadow"):
        problem(await rest.viewer.get(f"/v1/plans/{path}"), 404)


async def test_plans_published_at_once_take_no_other_s_version_back(rest: Rest) -> None:
    """However many are published together, each gets the versions it was given, in turn, and no old one again."""
    keys, rounds = ("gold", "silver", "bronze"), range(1, 7)
    for number in rounds:
        tier = {"name": f"Number {number}", "limits": [{"name": "all", "credits": number}]}
        answers = await together(*(rest.admin.post(f"/v1/plans/{key}/versions", json=tier) for key in keys))
        assert {answer.status_code for answer in answers} == {201}
    for key in keys:
        versions = (await rest.viewer.get(f"/v1/plans/{key}/versions")).json()["items"]
        names = {version["version"]: version["document"]["name"] for version in versions}
        assert names == {number: f"Number {number}" for number in rounds}


async def test_a_plan_file_is_applied_as_a_whole(rest: Rest) -> None:
    """A dry run says what would be published; applying publishes it, and applying again changes nothing."""
    file = {"plans": [{"key": "gold", "name": "Gold", "scopes": ["things.read"]}], "routes": [{"match": "* /v2/**"}]}
    dry = (await rest.admin.post("/v1/plans", params={"dry_run": "true"}, json=file)).json()
    assert dry == {"plans": [{"plan": "gold@1", "action": "created"}], "routes": "replaced", "is_dry_run": True}
    problem(await rest.viewer.get("/v1/plans/gold"), 404)
    assert (await rest.admin.post("/v1/plans", json=file)).json()["plans"] == dry["plans"]
    assert (await rest.viewer.get("/v1/plans/gold@1")).json() == (
        (await rest.viewer.get("/v1/plans/gold/versions/1")).json()
    )
    again = (await rest.admin.post("/v1/plans", json=file)).json()
    assert (again["plans"][0]["action"], again["routes"]) == ("unchanged", "unchanged")


async def test_routes_are_replaced_for_every_plan(rest: Rest) -> None:
    """The table is one document with a number of its own."""
    before = (await rest.viewer.get("/v1/routes")).json()
    assert (before["version"], len(before["items"])) == (1, 2)
    table = {"routes": [{"match": "POST /v1/orders", "cost": {"requests": 3}}, {"match": "* /v1/**"}]}
    assert (await rest.admin.post("/v1/routes", json=table)).json()["routes"] == "replaced"
    after = (await rest.viewer.get("/v1/routes")).json()
    assert (after["version"], [rule["match"] for rule in after["items"]]) == (2, ["POST /v1/orders", "* /v1/**"])
    told = problem(await rest.admin.post("/v1/routes", json={"routes": [{"match": "everything"}]}), 422)
    assert told["errors"][0]["pointer"].startswith("/routes/0")


async def test_meters_are_shown_as_they_can_be_sent(rest: Rest) -> None:
    """The tree and the policies it counts by are part of the table; a mistake in one has its pointer."""
    meters = {"tokens": {}, "out": {"parent": "tokens", "refund_on": [429, "5xx"], "actual": {"trailer": "x-out"}}}
    table = {"routes": [{"match": "* /v1/**", "cost": {"out": 9}}], "meters": meters}
    assert (await rest.admin.post("/v1/routes", json=table)).json()["routes"] == "replaced"
    shown = (await rest.viewer.get("/v1/routes")).json()
    assert shown["items"][0]["counts"] == {"out": 9, "tokens": 9}
    meters["out"] |= {"refund_on": ["429", "5xx"], "within": "10m", "unsettled": "charge"}
    assert shown["meters"] == meters
    again = await rest.admin.post("/v1/routes", json=table | {"meters": shown["meters"]})
    assert again.json()["routes"] == "unchanged"
    meters["out"] |= {"refund_on": ["429", "6xx"]}
    told = problem(await rest.admin.post("/v1/routes", json=table), 422)
    assert [error["pointer"] for error in told["errors"]] == ["/meters/out/refund_on/1"]


async def test_features_are_listed_with_who_has_them(rest: Rest) -> None:
    """An upstream developer sees which plans grant a feature."""
    page = (await rest.viewer.get("/v1/features")).json()
    assert page == {
        "items": [
            {"id": "max_projects", "plans": {"pro@1": 20}},
            {"id": "reports", "plans": {"pro@1": True}},
        ],
        "next_cursor": None,
    }


async def test_a_decision_is_explained(rest: Rest) -> None:
    """An operator asks why, and nothing is consumed by asking."""
    contract = await rest.subscribed(plan="free")
    token = (await rest.made("/v1/tokens", subscription=contract["id"]))["token"]
    question = {"token": token, "method": "GET", "path": "/v1/things?x=1"}
    told, again = [(await rest.viewer.post("/v1/explain", json=question)).json() for _ in range(2)]
    assert (told["decision"], told["reason"], told["plan"]) == ("allow", "ok", "free@1")
    assert [(limit["name"], limit["amount"]) for limit in told["limits"]] == [("monthly", 100)]
    assert again == told
    question["path"] = "/v1/reports/7"
    told = (await rest.viewer.post("/v1/explain", json=question)).json()
    assert (told["decision"], told["reason"]) == ("deny", "scope_missing")
    await rest.admin.post("/v1/customers/acme/suspend")
    told = (await rest.viewer.post("/v1/explain", json=question)).json()
    assert told["reason"] == "customer_suspended"
    question["token"] = "nonsense"
    assert (await rest.viewer.post("/v1/explain", json=question)).json()["reason"] == "token_malformed"


async def test_the_audit_log_can_be_verified(rest: Rest) -> None:
    """The chain is whole, and its head can be held against it later."""
    await rest.made("/v1/customers", key="acme")
    report = (await rest.admin.get("/v1/audit/verify")).json()
    assert (report["is_intact"], report["problems"]) == (True, [])
    await rest.made("/v1/customers", key="globex")
    later = (await rest.admin.get("/v1/audit/verify", params={"anchor": report["head"]})).json()
    assert later["is_intact"]
    number = report["head"].partition(":")[0]
    forged = (await rest.admin.get("/v1/audit/verify", params={"anchor": f"{number}:{'0' * 64}"})).json()
    assert not forged["is_intact"]
