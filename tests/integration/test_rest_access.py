"""Who may call what: every operation of the document against every role, and how often anybody may."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from support.rest import Rest, client, problem, running_rest
from support.servers import Database
from support.tcp_proxy import TcpProxy

from tallygate.admin.records import Role

ROLE_OF_NOUN = {"tokens": Role.ISSUER}
PLACEHOLDERS = {
    "token": "tok_" + "0" * 26,
    "subscription": "sub_" + "0" * 26,
    "change": "chg_" + "0" * 26,
    "version": "1",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the OpenAPI document, at an address that fits its parameters."""

    method: str
    path: str
    noun: str
    security: list[dict[str, list[str]]]


def operations_of(document: dict[str, Any]) -> list[Operation]:
    """Return every operation of the document."""
    return [
        Operation(method.upper(), re.sub(r"{(\w+)}", _placeholder, path), path.split("/")[2], operation["security"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def _placeholder(match: re.Match[str]) -> str:
    return PLACEHOLDERS.get(match[1], "nobody")


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API."""
    async with running_rest(database, redis_url) as running:
        yield running


@pytest.fixture
async def operations(rest: Rest) -> list[Operation]:
    """Every operation there is."""
    found = operations_of((await rest.stranger.get("/openapi.json")).json())
    assert len(found) > 40
    return found


async def test_each_operation_names_the_role_it_needs(operations: list[Operation]) -> None:
    """Viewers read, issuers handle tokens, admins do everything; none is open but the partners' receiver."""
    reading_posts = {"/v1/explain", "/v1/tokens/inspect"}
    for operation in operations:
        if (operation.method, operation.path) == ("POST", "/v1/leaks"):
            assert operation.security == [{"PartnerSignature": []}, {"WebhookSignature": []}]
            continue
        reads = operation.method == "GET" or operation.path in reading_posts
        expected = Role.VIEWER if reads else ROLE_OF_NOUN.get(operation.noun, Role.ADMIN)
        if operation.path == "/v1/audit/verify":
            expected = Role.ADMIN
        assert operation.security == [{"AdminKey": [expected.value]}], operation


async def test_every_operation_is_closed_to_those_without_its_role(rest: Rest, operations: list[Operation]) -> None:
    """No operation is forgotten: without a key 401, with too small a role 403, with enough neither."""
    for operation in operations:
        if operation.path == "/v1/leaks" and operation.method == "POST":
            problem(await rest.admin.post("/v1/leaks", json=[]), 401)
            continue
        needed = Role(operation.security[0]["AdminKey"][0])
        body: dict[str, object] | None = {} if operation.method in ("POST", "PATCH") else None
        refused = await rest.stranger.request(operation.method, operation.path, json=body)
        problem(refused, 401)
        assert refused.headers["www-authenticate"] == 'Bearer realm="tallygate-admin"'
        for role in Role:
            answer = await rest.as_role(role).request(operation.method, operation.path, json=body)
            if role.may(needed):
                assert answer.status_code not in (401, 403, 405, 500), (operation, role, answer.text)
            else:
                problem(answer, 403)
                assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]


async def test_a_key_that_is_none_is_refused(rest: Rest) -> None:
    """Made-up, mistyped, foreign and revoked keys read the same, and the challenge says so (RFC 6750 §3.1)."""
    secret = rest.secrets[Role.ADMIN]
    credentials = [
        "Bearer tga_" + "0" * 36,
        f"Bearer {secret[:-1]}",
        "Bearer tg_live_" + "0" * 36,
        "Bearer é",
        "Bearer " + "x" * 5000,
    ]
    for credential in credentials:
        answer = await rest.stranger.get("/v1/customers", headers={b"authorization": credential.encode("latin-1")})
        problem(answer, 401)
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    for scheme in ("Basic", "Token"):
        problem(await rest.stranger.get("/v1/customers", headers={"authorization": f"{scheme} {secret}"}), 401)
    assert (await rest.admin.get("/v1/customers")).status_code == 200
    (key,) = [key for key in await rest.operations.keys.list() if key.role is Role.ADMIN]
    await rest.operations.keys.revoke(key.id)
    problem(await rest.admin.get("/v1/customers"), 401)


async def test_a_key_may_ask_only_so_often(database: Database, redis_url: str) -> None:
    """Beyond its rate a key gets 429 with when to come back, while other keys are served."""
    async with running_rest(database, redis_url, admin_requests_per_s=1) as rest:
        answers = [await rest.viewer.get("/v1/customers") for _ in range(12)]
        assert answers[0].status_code == 200
        assert answers[0].headers["ratelimit-policy"] == '"admin-key";q=1;w=1;tallygate-burst=5'
        refused = next(answer for answer in answers if answer.status_code != 200)
        told = problem(refused, 429)
        assert told["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
        assert told["violated-policies"] == ["admin-key"]
        assert int(refused.headers["retry-after"]) == told["retry_after_s"] >= 1
        assert refused.headers["ratelimit"].startswith('"admin-key";r=0')
        assert (await rest.admin.get("/v1/customers")).status_code == 200


async def test_a_stranger_may_guess_only_so_often(database: Database, redis_url: str) -> None:
    """Requests without a good key are counted by address; they are not in the way of a key in use."""
    async with running_rest(database, redis_url, admin_strangers_per_s=1) as rest:
        assert (await rest.admin.get("/v1/customers")).status_code == 200
        async with client(rest.url, "tga_" + "0" * 36) as guesser:
            statuses = {(await guesser.get("/v1/customers")).status_code for _ in range(25)}
        assert statuses == {401, 429}
        problem(await rest.stranger.post("/v1/leaks", json=[]), 429)
        assert (await rest.admin.get("/v1/customers")).status_code == 200


@asynccontextmanager
async def before(dsn: str) -> AsyncIterator[TcpProxy]:
    """Stand before a server, and be gone afterwards."""
    proxy = TcpProxy(dsn)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()


async def test_keys_are_counted_while_redis_is_away(database: Database, redis_url: str) -> None:
    """An operator can revoke a token with Redis down, and is still counted, by this process."""
    async with before(redis_url) as proxy, running_rest(database, proxy.dsn, admin_requests_per_s=1) as rest:
        assert (await rest.viewer.get("/v1/customers")).status_code == 200
        await proxy.close()
        statuses = [(await rest.viewer.get("/v1/customers")).status_code for _ in range(12)]
        assert statuses[0] == 200
        assert 429 in statuses


async def test_an_unreachable_database_is_a_problem(database: Database, redis_url: str) -> None:
    """With Postgres away every operation says 503 and when to ask again, and recovers by itself."""
    async with before(database.dsn) as proxy, running_rest(database, redis_url, postgres_dsn=proxy.dsn) as rest:
        assert (await rest.admin.get("/v1/customers")).status_code == 200
        await proxy.close()
        refused = await rest.admin.post("/v1/customers", json={"key": "acme"})
        assert problem(refused, 503)["type"].endswith("/dependency-down")
        assert refused.headers["retry-after"] == "1"
        assert (await rest.stranger.get("/healthz")).status_code == 200
        await proxy.open()
        assert (await rest.admin.post("/v1/customers", json={"key": "acme"})).status_code == 201
