"""`Idempotency-Key`: whatever a client's network does, a POST is done once and answered alike."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from support.rest import Rest, everything_stored, problem, running_rest, together
from support.servers import Database


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API."""
    async with running_rest(database, redis_url) as running:
        yield running


def under(key: str) -> dict[str, str]:
    """Return the header of an idempotency key."""
    return {"idempotency-key": key}


async def test_a_repeated_request_gets_the_same_answer(rest: Rest) -> None:
    """Status, body, `ETag` and `Location` are those of the first time, and one object was made."""
    first, again = [
        await rest.admin.post("/v1/customers", json={"key": "acme"}, headers=under("order-1")) for _ in range(2)
    ]
    assert (first.status_code, first.content) == (201, again.content)
    assert again.status_code == 201
    for header in ("etag", "location", "content-type"):
        assert first.headers[header] == again.headers[header]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len((await rest.viewer.get("/v1/customers")).json()["items"]) == 1


async def test_another_request_under_the_same_key_is_refused(rest: Rest) -> None:
    """A key used for another body, address or query is a mistake of the client's, and nothing is done."""
    await rest.admin.post("/v1/customers", json={"key": "acme"}, headers=under("order-1"))
    for path, body in (
        ("/v1/customers", {"key": "globex"}),
        ("/v1/customers?x=1", {"key": "acme"}),
        ("/v1/customers/acme/suspend", {"key": "acme"}),
    ):
        answer = await rest.admin.post(path, json=body, headers=under("order-1"))
        problem(answer, 422)
    told = problem(await rest.admin.post("/v1/customers", json={"key": "globex"}, headers=under("order-1")), 422)
    (fault,) = told["errors"]
    assert (fault["in"], fault["parameter"]) == ("header", "Idempotency-Key")
    (customer,) = (await rest.viewer.get("/v1/customers")).json()["items"]
    assert (customer["key"], customer["status"]) == ("acme", "active")


async def test_a_secret_in_the_wrong_place_is_neither_told_back_nor_kept(rest: Rest, database: Database) -> None:
    """A refusal is stored too, and names what was wrong with a field: never a token that was typed there."""
    contract = await rest.subscribed()
    secret = (await rest.made("/v1/tokens", customer="acme"))["token"]
    address = f"/v1/subscriptions/{contract['id']}"
    requests: list[tuple[str, dict[str, object]]] = [
        ("/v1/subscriptions", {"customer": secret, "plan": "pro"}),
        ("/v1/subscriptions", {"customer": "acme", "plan": "pro", "timezone": secret}),
        ("/v1/tokens", {"customer": secret}),
        ("/v1/tokens", {"customer": "acme", "scopes": [secret]}),
        ("/v1/tokens", {"customer": "acme", "name": secret}),
        ("/v1/customers", {"key": "globex", "name": secret}),
        (f"{address}/override", {"document": {"limits": {secret: {"amount": 1}}}}),
        (f"{address}/override", {"document": {"features": {"max_projects": secret}}}),
        (f"{address}/credits", {"limit": secret, "amount": 1}),
    ]
    for number, (path, body) in enumerate(requests):
        answer = await rest.admin.post(path, json=body, headers=under(f"order-{number}"))
        assert 400 <= answer.status_code < 500
        assert secret not in answer.text
    assert secret.encode() not in await everything_stored(database)


async def test_keys_of_two_callers_are_apart(rest: Rest) -> None:
    """Nobody is answered with what somebody else did under the same key."""
    contract = await rest.subscribed()
    body = {"subscription": contract["id"]}
    one = await rest.issuer.post("/v1/tokens", json=body, headers=under("order-1"))
    other = await rest.admin.post("/v1/tokens", json=body, headers=under("order-1"))
    assert one.json()["id"] != other.json()["id"]
    assert one.json()["token"] != other.json()["token"]


async def test_twenty_duplicates_at_once_make_one_object(rest: Rest) -> None:
    """A client that fires the same request from every thread gets one customer and one answer."""
    answers = await together(
        *(rest.admin.post("/v1/customers", json={"key": "acme"}, headers=under("order-1")) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert len((await rest.viewer.get("/v1/customers")).json()["items"]) == 1


async def test_an_issued_token_is_the_same_token_again(rest: Rest, database: Database) -> None:
    """Who lost the answer gets the same secret again, though it is stored nowhere."""
    contract = await rest.subscribed()
    first, *others = await together(
        *(
            rest.issuer.post("/v1/tokens", json={"subscription": contract["id"]}, headers=under("order-1"))
            for _ in range(5)
        )
    )
    assert first.status_code == 201
    assert [other.json() for other in others] == [first.json()] * 4
    inspected = await rest.viewer.post("/v1/tokens/inspect", json={"token": first.json()["token"]})
    assert inspected.json()["id"] == first.json()["id"]
    assert first.json()["token"].encode() not in await everything_stored(database)


async def test_a_rotation_is_done_once(rest: Rest) -> None:
    """A retried rotation does not rotate the token it has just made."""
    contract = await rest.subscribed()
    token = await rest.made("/v1/tokens", subscription=contract["id"])
    answers = [
        await rest.issuer.post(f"/v1/tokens/{token['id']}/rotate", json={"grace_s": 60}, headers=under("order-1"))
        for _ in range(2)
    ]
    assert answers[0].status_code == 201
    assert answers[0].json() == answers[1].json()
    family = (await rest.viewer.get("/v1/tokens", params={"family": token["family"]})).json()["items"]
    assert len(family) == 2


async def test_a_refusal_is_repeated_too(rest: Rest) -> None:
    """Once refused under a key, always refused under it, even when the reason has gone."""
    body = {"customer": "acme", "plan": "pro"}
    first = await rest.admin.post("/v1/subscriptions", json=body, headers=under("order-1"))
    problem(first, 404)
    await rest.made("/v1/customers", key="acme")
    again = await rest.admin.post("/v1/subscriptions", json=body, headers=under("order-1"))
    problem(again, 404)
    assert again.content == first.content
    assert (await rest.admin.post("/v1/subscriptions", json=body, headers=under("order-2"))).status_code == 201


async def test_a_failed_precondition_leaves_the_key_free(rest: Rest) -> None:
    """A client that read the object again may try under the key it has."""
    await rest.made("/v1/customers", key="acme")
    stale, fresh = under("order-1") | {"if-match": '"99"'}, under("order-1") | {"if-match": '"1"'}
    problem(await rest.admin.post("/v1/customers/acme/suspend", json={}, headers=stale), 412)
    assert (await rest.admin.post("/v1/customers/acme/suspend", json={}, headers=fresh)).status_code == 200


async def test_a_key_that_cannot_be_used_is_refused(rest: Rest) -> None:
    """Empty, endless and unprintable keys are told apart from no key at all."""
    for key in ("", "x" * 256, "two words"):
        problem(await rest.admin.post("/v1/customers", json={"key": "acme"}, headers=under(key)), 422)
    assert (await rest.viewer.get("/v1/customers")).json()["items"] == []


async def test_every_post_honours_the_key(rest: Rest) -> None:
    """No operation is forgotten: each refuses another body under a key it has seen."""
    document = (await rest.stranger.get("/openapi.json")).json()
    contract = await rest.subscribed()
    token = await rest.made("/v1/tokens", subscription=contract["id"])
    places = {
        "{customer}": "acme", "{subscription}": contract["id"], "{token}": token["id"], "{key}": "pro",
        "{version}": "1", "{change}": "chg_" + "0" * 26,
    }  # fmt: skip
    examples = {
        "/v1/explain": {"token": token["token"], "method": "GET", "path": "/v1/things"},
        "/v1/tokens/inspect": {"token": token["token"]},
        "/v1/tokens/revoke": {"customer": "nobody"},
        "/v1/tokens": {"customer": "acme"},
        "/v1/customers": {"key": "globex"},
        "/v1/subscriptions": {"customer": "nobody", "plan": "pro"},
        "/v1/routes": {"routes": [{"match": "* /v1/**"}]},
        "/v1/plans": {"plans": [{"key": "silver", "name": "Silver"}]},
        "/v1/plans/pro/versions": {"name": "Pro"},
        "/v1/usage/corrections": {"subscription": contract["id"], "meter": "requests", "quantity": 1, "reason": "x"},
        "/v1/plans/pro/migrations": {"from_version": 1, "to": "free"},
        "/v1/plans/pro/shadow": {"version": 1, "shadow": "free@1"},
        "/v1/plans/pro/shadow/stop": {"version": 1},
        "change": {"plan": "free"},
        "override": {"document": {}},
        "credits": {"limit": "prepaid", "amount": 5},
    }
    for template, item in document["paths"].items():
        if "post" not in item or template == "/v1/leaks":
            continue
        path = template
        for name, value in places.items():
            path = path.replace(name, value)
        body = examples.get(path) or examples.get(path.rpartition("/")[2], {})
        answers = [
            await rest.admin.post(path, json=body | more, headers=under(path)) for more in ({}, {}, {"name": "another"})
        ]
        first, again, other = answers
        assert (again.status_code, again.content) == (first.status_code, first.content), (path, first.text)
        assert first.status_code < 500, (path, first.text)
        problem(other, 422)
        if first.status_code != 422:
            assert again.headers["idempotency-replayed"] == "true"


async def test_a_client_that_gives_up_may_come_back(rest: Rest, database: Database) -> None:
    """While the first request is still under way its repetition waits, and gets its answer."""
    connection = await asyncpg.connect(database.dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
            requests = [
                asyncio.create_task(rest.admin.post("/v1/customers", json={"key": "acme"}, headers=under("order-1")))
                for _ in range(2)
            ]
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while await connection.fetchval(waiting) < 2:
                pass
        first, again = await asyncio.gather(*requests)
    finally:
        await connection.close()
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
