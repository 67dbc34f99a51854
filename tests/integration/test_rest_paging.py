"""Pages and entity tags: lists that move while they are read, and objects that two people change at once."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from support.rest import Rest, problem, running_rest, together
from support.servers import Database


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API."""
    async with running_rest(database, redis_url) as running:
        yield running


async def walked(client: httpx.AsyncClient, path: str, limit: int) -> list[dict[str, Any]]:
    """Return every item of a list, read page by page."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
        page = (await client.get(path, params=query)).json()
        assert len(page["items"]) <= limit
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


async def test_every_list_can_be_walked(rest: Rest) -> None:
    """Pages of one hold together what one page holds, in the same order, and the last one says so."""
    for number in range(3):
        contract = await rest.subscribed(f"customer-{number}")
        for _ in range(2):
            await rest.made("/v1/tokens", subscription=contract["id"])
    for path, number in (
        ("/v1/customers", 3),
        ("/v1/subscriptions", 3),
        ("/v1/tokens", 6),
        ("/v1/plans", 2),
        ("/v1/plans/pro/versions", 1),
    ):
        whole = (await rest.viewer.get(path)).json()
        assert whole["next_cursor"] is None
        assert len(whole["items"]) == number
        assert await walked(rest.viewer, path, 1) == whole["items"]
        assert await walked(rest.viewer, path, number) == whole["items"]
    entries = await walked(rest.viewer, "/v1/audit", 5)
    assert [entry["id"] for entry in entries] == sorted({entry["id"] for entry in entries})
    assert len(entries) > 12


async def test_a_walk_over_a_growing_list_misses_and_repeats_nothing(rest: Rest) -> None:
    """What was there when the walk began is met exactly once, whatever is added meanwhile."""
    there = [(await rest.made("/v1/customers", key=f"old-{number}"))["id"] for number in range(10)]
    met: list[str] = []
    cursor: str | None = None
    number = 0
    while True:
        query = {"limit": 3} | ({} if cursor is None else {"cursor": cursor})
        page, *_ = await together(
            rest.viewer.get("/v1/customers", params=query),
            *(rest.admin.post("/v1/customers", json={"key": f"new-{number + n}"}) for n in range(2)),
        )
        number += 2
        met += [item["id"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        if cursor is None or number > 60:
            break
    assert len(met) == len(set(met))
    assert [one for one in met if one in there] == there


async def test_filters_narrow_a_list(rest: Rest) -> None:
    """A filter holds on every page, and one that names nothing real says so."""
    first, second = await rest.subscribed("acme"), await rest.subscribed("globex", "free")
    token = await rest.made("/v1/tokens", subscription=first["id"], name="ci")
    await rest.made("/v1/tokens", subscription=second["id"])
    await rest.admin.post("/v1/customers/globex/suspend")
    for path, query, expected in (
        ("/v1/customers", {"status": "suspended"}, second["customer"]),
        ("/v1/subscriptions", {"customer": "acme"}, first["id"]),
        ("/v1/subscriptions", {"plan": "free@1"}, second["id"]),
        ("/v1/tokens", {"customer": "acme"}, token["id"]),
        ("/v1/tokens", {"subscription": first["id"]}, token["id"]),
        ("/v1/tokens", {"family": token["family"]}, token["id"]),
        ("/v1/tokens", {"hint": token["hint"]}, token["id"]),
        ("/v1/tokens", {"name": "ci"}, token["id"]),
    ):
        items = (await rest.viewer.get(path, params=query)).json()["items"]
        assert [item["id"] for item in items] == [expected], (path, query)
    problem(await rest.viewer.get("/v1/tokens", params={"customer": "nobody"}), 404)
    (entry,) = (await rest.viewer.get("/v1/audit", params={"action": "customer.suspended"})).json()["items"]
    assert entry["object"] == second["customer"]


async def test_a_page_that_cannot_be_is_refused(rest: Rest) -> None:
    """Limits have bounds, and a cursor is what an answer gave."""
    for query in ({"limit": "0"}, {"limit": "1001"}, {"limit": "many"}, {"cursor": "'; --"}, {"cursor": ""}):
        problem(await rest.viewer.get("/v1/customers", params=query), 422)


async def test_an_object_changed_by_somebody_else_is_not_overwritten(rest: Rest) -> None:
    """Of two who read the same state, one changes it and the other learns that it was changed (412)."""
    contract = await rest.subscribed()
    token = await rest.made("/v1/tokens", subscription=contract["id"])
    for path, change in (
        ("/v1/customers/acme", {"name": "Acme"}),
        (f"/v1/tokens/{token['id']}", {"scopes": ["things.read"]}),
    ):
        tag = {"if-match": (await rest.viewer.get(path)).headers["etag"]}
        changed = await rest.admin.patch(path, json=change, headers=tag)
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag["if-match"]
        problem(await rest.admin.patch(path, json=change, headers=tag), 412)
        assert (await rest.admin.patch(path, json=change, headers={"if-match": "*"})).status_code == 200


async def test_actions_ask_for_the_state_they_were_meant_for(rest: Rest) -> None:
    """An action with a stale tag does nothing, on every kind of object."""
    contract = await rest.subscribed()
    token = await rest.made("/v1/tokens", subscription=contract["id"])
    stale = {"if-match": '"99"'}
    for path, body in (
        ("/v1/customers/acme/suspend", {}),
        (f"/v1/subscriptions/{contract['id']}/suspend", {}),
        (f"/v1/subscriptions/{contract['id']}/change", {"plan": "free"}),
        (f"/v1/tokens/{token['id']}/revoke", {}),
        (f"/v1/tokens/{token['id']}/rotate", {}),
        ("/v1/plans/pro/versions/1/deprecate", {}),
    ):
        told = problem(await rest.admin.post(path, json=body, headers=stale), 412)
        assert told["type"].endswith("/precondition-failed")
    assert (await rest.viewer.get("/v1/customers/acme")).json()["status"] == "active"
    assert (await rest.viewer.get(f"/v1/subscriptions/{contract['id']}")).json() == contract
    assert (await rest.viewer.get(f"/v1/tokens/{token['id']}")).json()["status"] == "active"


async def test_ten_who_read_the_same_state_change_it_once(rest: Rest) -> None:
    """The comparison and the change are one step: at the same moment, too, just one of them wins."""
    await rest.made("/v1/customers", key="acme")
    tag = {"if-match": (await rest.viewer.get("/v1/customers/acme")).headers["etag"]}
    answers = await together(
        *(rest.admin.patch("/v1/customers/acme", json={"name": f"Name {n}"}, headers=tag) for n in range(10))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9


async def test_a_tag_that_is_none_is_refused(rest: Rest) -> None:
    """A weak or made-up tag is told to be none, rather than taken for one that is stale."""
    await rest.made("/v1/customers", key="acme")
    for tag in ('W/"1"', "", '"one"', '"' + "9" * 30 + '"'):
        told = problem(
            await rest.admin.patch("/v1/customers/acme", json={"name": "Acme"}, headers={"if-match": tag}), 422
        )
        assert told["errors"][0]["parameter"] == "if-match"
