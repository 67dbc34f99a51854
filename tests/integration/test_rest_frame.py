"""The frame around every operation of the REST API: problems, sizes, request ids, and nothing from elsewhere."""

from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest
from support.rest import Rest, dumped, problem, running_rest
from support.servers import Database

from tallygate.admin.rest import hints


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API."""
    async with running_rest(database, redis_url) as running:
        yield running


async def test_an_unknown_address_is_a_problem(rest: Rest) -> None:
    """A mistyped path reads like every other error, with the type its documentation has."""
    for client, path in ((rest.admin, "/v1/nothing"), (rest.stranger, "/"), (rest.admin, "/v1/customers/")):
        told = problem(await client.get(path), 404)
        assert told["type"].endswith("/not-found")


async def test_a_wrong_method_is_told_which_are_right(rest: Rest) -> None:
    """`Allow` names every method of the address, not only the first route's (RFC 9110 §15.5.6)."""
    answer = await rest.admin.put("/v1/customers", json={})
    problem(answer, 405)
    assert answer.headers["allow"] == "GET, POST"
    answer = await rest.admin.delete("/v1/customers/acme")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET, PATCH"


async def test_a_body_that_is_no_json_is_refused(rest: Rest) -> None:
    """Malformed, mistyped and bottomless bodies are 400 and 415, never a traceback."""
    headers = {"content-type": "application/json"}
    for body in (b"{", b"\xff\xfe", b"[" * 200_000, b'{"key": "a\xc3"}'):
        problem(await rest.admin.post("/v1/customers", content=body, headers=headers), 400)
    for depth in (200, 900, 950):
        nested = b'{"plans": ' + b"[" * depth + b"]" * depth + b"}"
        assert (await rest.admin.post("/v1/plans", content=nested, headers=headers)).status_code in (400, 422)
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await rest.admin.post(
            "/v1/customers", content=b'{"key": "acme"}', headers={"content-type": media_type}
        )  # fmt: skip
        problem(answer, 415)
    problem(await rest.admin.post("/v1/customers", content=b'{"key": "acme"}'), 415)


async def test_a_body_larger_than_a_mebibyte_is_refused(rest: Rest) -> None:
    """With its size announced or not, it is refused as soon as it is too large; one that fits is read."""
    headers = {"content-type": "application/json"}
    problem(await rest.admin.post("/v1/customers", content=b" " * (2**20 + 1), headers=headers), 413)

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(33):
            yield b" " * 2**15

    problem(await rest.admin.post("/v1/customers", content=unannounced(), headers=headers), 413)
    fits = dumped({"key": "acme"}).ljust(2**20)
    assert (await rest.admin.post("/v1/customers", content=fits, headers=headers)).status_code == 201


async def test_every_bad_field_is_pointed_at(rest: Rest) -> None:
    """A client learns of all its mistakes at once, each by a JSON pointer (RFC 6901)."""
    body = {"key": "Acme Corp", "name": "", "oddity/~": 1}
    told = problem(await rest.admin.post("/v1/customers", json=body), 422)
    assert {fault["pointer"] for fault in told["errors"]} == {"/key", "/name", "/oddity~1~0"}
    body = {"customer": "acme", "networks": ["10.0.0.0/8", "300.0.0.0/8"], "expires_at": "tomorrow", "scopes": "all"}
    told = problem(await rest.issuer.post("/v1/tokens", json=body), 422)
    assert {fault["pointer"] for fault in told["errors"]} == {"/networks/1", "/expires_at", "/scopes"}
    contract = await rest.subscribed()
    for at in ("soon", "2027-02-30T00:00:00Z", 7):
        answer = await rest.admin.post(f"/v1/subscriptions/{contract['id']}/cancel", json={"at": at, "why": "?"})
        told = {fault["pointer"]: fault["detail"] for fault in problem(answer, 422)["errors"]}
        assert told.keys() == {"/at", "/why"}
        assert told["/at"].startswith("write now, period-end, or an instant")
        assert told["/why"].startswith("is not known here")


async def test_what_a_use_case_refuses_is_pointed_at_too(rest: Rest) -> None:
    """A value of the right form that cannot be used is told by the same pointers."""
    contract = await rest.subscribed()
    token = {"subscription": contract["id"]}
    for member, value in (("scopes", ["everything"]), ("expires_at", "2001-01-01T00:00:00Z")):
        answer = await rest.issuer.post("/v1/tokens", json=token | {member: value})
        (fault,) = problem(answer, answer.status_code)["errors"]
        assert answer.status_code in (409, 422)
        assert fault["pointer"] == f"/{member}"
    answer = await rest.admin.post("/v1/subscriptions", json={"customer": "acme", "plan": "gold"})
    (fault,) = problem(answer, 404)["errors"]
    assert fault["pointer"] == "/plan"


async def test_every_mistake_of_a_plan_is_pointed_at(rest: Rest) -> None:
    """The pointers lead into the document that was sent: the whole file, or the one plan."""
    plan = {"key": "gold", "name": "Gold", "limits": [{"name": "a", "rate": "fast"}, {"name": "b", "quota": -1}]}
    told = problem(await rest.admin.post("/v1/plans", json={"plans": [plan]}), 422)
    pointers = {fault["pointer"] for fault in told["errors"]}
    assert "/plans/0/limits/0/rate" in pointers
    assert any(pointer.startswith("/plans/0/limits/1") for pointer in pointers)
    told = problem(await rest.admin.post("/v1/plans/gold/versions", json=plan), 422)
    assert "/limits/0/rate" in {fault["pointer"] for fault in told["errors"]}


async def test_a_member_keeps_its_name_in_a_pointer(rest: Rest) -> None:
    """What use cases and bodies call differently is pointed at as the body has it, a plan's own `grace` too."""
    plan = {"name": "Gold", "grace": {"days": 0}}
    told = problem(await rest.admin.post("/v1/plans/gold/versions", json=plan), 422)
    assert [fault["pointer"] for fault in told["errors"]] == ["/grace/days"]
    contract = await rest.subscribed()
    wrong = {"subscription": contract["id"], "environment": "test"}
    (fault,) = problem(await rest.issuer.post("/v1/tokens", json=wrong), 409)["errors"]
    assert fault["pointer"] == "/environment"


def test_every_command_a_use_case_names_has_an_address() -> None:
    """No hint is forgotten; of admin keys, which no address handles, none is told."""
    sources = Path(str(files("tallygate.admin"))).glob("*.py")
    named = {command for source in sources for command in hints.COMMAND.findall(source.read_text())}
    assert named - hints._ADDRESSES.keys() == {"admin-keys list"}


async def test_hints_speak_of_addresses(rest: Rest) -> None:
    """Who calls REST is told addresses and members, never commands and their options."""
    document = (await rest.stranger.get("/openapi.json")).json()
    for address in hints._ADDRESSES.values():
        method, _, path = address.partition(" ")
        assert method.lower() in document["paths"][path]
    told = problem(await rest.viewer.get("/v1/tokens/tok_" + "0" * 26), 404)
    assert told["detail"].endswith("(see `GET /v1/tokens`)")
    contract = await rest.subscribed()
    wrong = {"subscription": contract["id"], "environment": "test"}
    told = problem(await rest.issuer.post("/v1/tokens", json=wrong), 409)
    assert told["detail"].endswith("(leave `environment` out)")


async def test_a_whole_number_may_have_a_point(rest: Rest) -> None:
    """In a plan that comes as JSON 7.0 is 7, as JSON Schema has it."""
    plan = {"name": "Gold", "limits": [{"name": "monthly", "quota": 700.0, "period": "month"}]}
    made = await rest.admin.post("/v1/plans/gold/versions", json=plan)
    assert (made.status_code, made.headers["location"]) == (201, "/v1/plans/gold/versions/1")
    assert (await rest.viewer.get(made.headers["location"])).json()["document"]["limits"][0]["quota"] == 700


async def test_bad_parameters_are_named(rest: Rest) -> None:
    """What stands in the address is named by its parameter; an id that cannot exist is not found."""
    told = problem(await rest.viewer.get("/v1/customers", params={"limit": 0, "status": "happy"}), 422)
    assert {(fault["in"], fault["parameter"]) for fault in told["errors"]} == {("query", "limit"), ("query", "status")}
    problem(await rest.viewer.get("/v1/tokens/%00"), 404)
    problem(await rest.viewer.get("/v1/subscriptions/sub_1"), 404)


async def test_a_request_keeps_its_id(rest: Rest) -> None:
    """The caller's id is in the answer, in the problem and in the audit log; without one the request gets one."""
    answer = await rest.admin.post("/v1/customers", json={"key": "acme"}, headers={"x-request-id": "order-42"})
    assert answer.headers["x-request-id"] == "order-42"
    (entry,) = (await rest.viewer.get("/v1/audit", params={"object": answer.json()["id"]})).json()["items"]
    assert entry["request_id"] == "order-42"
    assert entry["actor"].startswith("key:key_")
    answer = await rest.admin.get("/v1/nothing", headers={"x-request-id": "not one\tof ours"})
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.json()["instance"] == f"urn:tallygate:request:{answer.headers['x-request-id']}"


async def test_the_public_pages_need_no_key(rest: Rest) -> None:
    """Liveness, the OpenAPI document and its page are there for anybody, and load nothing from elsewhere."""
    assert (await rest.stranger.get("/healthz")).json() == {"status": "alive"}
    document = (await rest.stranger.get("/openapi.json")).json()
    page = await rest.stranger.get("/docs")
    assert all(f"<code>{path}</code>" in page.text for path in document["paths"])
    assert "src=" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_answers_are_never_cached(rest: Rest) -> None:
    """A token's secret, and anybody's contract, stays out of every cache."""
    for path in ("/v1/customers", "/v1/nothing", "/openapi.json"):
        answer = await rest.admin.get(path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
