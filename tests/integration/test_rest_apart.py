"""`Idempotency-Key` where the act has transactions of its own: bulk acts lock nobody out, looks hold nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from support.rest import Rest, problem, running_rest, together
from support.rest_app import RestApp, rest_app_over
from support.servers import Database

from tallygate.admin.answers import HELD, UnderWayError
from tallygate.admin.rest.call import APART
from tallygate.admin.rest.envelope import DEADLINE_S
from tallygate.core.errors import ConflictError, StoreUnavailableError
from tallygate.insights.memory import MemoryShadowLedger
from tallygate.storage.postgres import Connection

UNDER = {"idempotency-key": "order-1"}
QUESTION = {"token": "tg_live_x", "method": "GET", "path": "/v1/things"}
MANY = 2000
BATCH = 500


@pytest.fixture
async def office(database: Database) -> AsyncIterator[RestApp]:
    """The app in this process, with `acme` on a plan."""
    async with rest_app_over(database) as made:
        await made.subscribed()
        yield made


@asynccontextmanager
async def held(database: Database, held_id: str, table: str = "tokens") -> AsyncIterator[Connection]:
    """Hold a row while the block runs, so that whoever changes it waits; gives a connection to look with."""
    holder, looking = await asyncpg.connect(database.dsn), await asyncpg.connect(database.dsn)
    try:
        async with holder.transaction():
            await holder.execute(f"SELECT FROM {table} WHERE id = $1 FOR UPDATE", held_id)
            yield looking
    finally:
        await holder.close()
        await looking.close()


async def somebody_waits(looking: Connection) -> None:
    """Return when a statement waits for a lock."""
    while not await looking.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        pass


async def many_tokens(database: Database, pattern: str) -> list[str]:
    """Give the family of a token `MANY` others; return their ids, which come before its own."""
    connection = await asyncpg.connect(database.dsn)
    try:
        await connection.execute(
            "INSERT INTO tokens (id, family_id, digest, pepper_id, hint, networks, created_at) "
            "SELECT 'tok_' || lpad(n::text, 26, '0'), family_id, sha256(n::text::bytea), pepper_id, 'aaaa', networks, "
            "created_at FROM tokens, generate_series(1, $2::int) n WHERE id = $1",
            pattern,
            MANY,
        )
    finally:
        await connection.close()
    return [f"tok_{number:026}" for number in range(1, MANY + 1)]


async def broken_off(request: Awaitable[Any], looking: Connection) -> None:
    """Let a request come to a lock, and die there as its process might, or its deadline have it."""
    task = asyncio.ensure_future(request)
    await somebody_waits(looking)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def revocation(client: httpx.AsyncClient, **more: object) -> Awaitable[httpx.Response]:
    """Revoke everything of `acme`, under the key."""
    return client.post("/v1/tokens/revoke", json={"customer": "acme", **more}, headers=UNDER)


async def test_a_repetition_is_told_that_the_first_is_under_way(database: Database, office: RestApp) -> None:
    """While it is done 409 says when to ask again, another body is 422; then both get the one answer."""
    admin = await office.admin()
    token = (await office.operations.tokens.issue(customer="acme")).record.id
    async with held(database, token) as looking:
        first = asyncio.ensure_future(revocation(admin))
        await somebody_waits(looking)
        for _ in range(2):
            again = await revocation(admin)
            assert problem(again, 409)["type"].endswith("/under-way")
            assert again.headers["retry-after"] == "5"
        problem(await revocation(admin, name="another"), 422)
        problem(await admin.post("/v1/customers", json={"key": "globex"}, headers=UNDER), 422)
        assert not first.done()
    done, again = await first, await revocation(admin)
    assert (done.status_code, done.json()["revoked"]) == (200, 1)
    assert (again.content, again.headers["idempotency-replayed"]) == (done.content, "true")
    assert "idempotency-replayed" not in done.headers
    problem(await revocation(admin, name="another"), 422)


async def test_what_was_broken_off_is_taken_over_in_time(database: Database, office: RestApp) -> None:
    """A request that died between claim and answer keeps its key for a stated time; then a repetition does it."""
    admin = await office.admin()
    token = (await office.operations.tokens.issue(customer="acme")).record.id
    async with held(database, token) as looking:
        await broken_off(revocation(admin), looking)
    assert (await office.operations.tokens.show(token)).status == "active"
    problem(await revocation(admin), 409)
    office.clock.advance(HELD.total_seconds() - 1)
    assert problem(await revocation(admin), 409)["retry_after_s"] == 1
    office.clock.advance(1)
    problem(await revocation(admin, name="another"), 422)
    done = await revocation(admin)
    assert (done.status_code, done.json()["revoked"]) == (200, 1)
    assert (await revocation(admin)).headers["idempotency-replayed"] == "true"


async def test_a_stop_that_was_broken_off_is_finished(database: Database, office: RestApp) -> None:
    """A shadow ends for everybody, even when who stopped it died half way: asking again does the rest."""
    admin = await office.admin()
    (contract,) = await office.operations.subscriptions.list("acme")
    await office.operations.shadows.start("pro@1", "free@1", counts=MemoryShadowLedger())

    def stop() -> Awaitable[httpx.Response]:
        return admin.post("/v1/plans/pro/shadow/stop", json={"version": 1}, headers=UNDER)

    async with held(database, contract.id, "subscriptions") as looking:
        await broken_off(stop(), looking)
    assert (await office.operations.subscriptions.show(contract.id)).shadow == "free@1"
    office.clock.advance(HELD.total_seconds())
    problem(await stop(), 404)  # by then nothing is tried any more
    assert (await office.operations.subscriptions.show(contract.id)).shadow is None


async def test_who_was_too_slow_overwrites_nothing(office: RestApp) -> None:
    """When the first comes back after another has taken over, the answer of the other stands."""
    answers, digest = office.operations.answers, b"r" * 32
    async with answers.apart("order-1", digest) as slow:
        office.clock.advance(HELD.total_seconds())
        async with office.operations.answers.apart("order-1", digest) as quick:
            await quick.finish(200, {}, b"the answer")
        await slow.finish(200, {}, b"too late")
    async with answers.apart("order-1", digest) as again:
        assert again.stored is not None
        assert again.stored.body == b"the answer"


def test_a_key_is_held_longer_than_a_request_lasts() -> None:
    """Nobody takes over from a request that may still be at work, even with clocks some seconds apart."""
    assert timedelta(seconds=DEADLINE_S + 5) <= HELD


async def test_what_says_not_now_frees_the_key(office: RestApp) -> None:
    """After a 503 a repetition is done at once, and a refusal it meets is an answer like any other."""
    admin = await office.admin()
    refusals: list[Exception] = [StoreUnavailableError("away"), RuntimeError("a bug"), ConflictError("token", "odd")]

    async def refuse(_asked: object) -> None:
        raise refusals.pop(0)

    office.explain = refuse
    answers = [await admin.post("/v1/explain", json=QUESTION, headers=UNDER) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503, 500, 409, 409]
    assert ["idempotency-replayed" in answer.headers for answer in answers] == [False, False, False, True]


async def test_no_connection_is_held_meanwhile(database: Database) -> None:
    """With a single connection to Postgres a look that needs one itself is answered under a key."""
    async with rest_app_over(database, connections=1) as office:
        admin = await office.admin()

        async def look(_asked: object) -> None:
            raise ConflictError("token", f"{len(await office.operations.customers.list())} customers")

        office.explain = look
        answers = await together(
            *(
                admin.post("/v1/explain", json=QUESTION, headers={"idempotency-key": f"order-{number}"})
                for number in range(5)
            )
        )
    assert {answer.status_code for answer in answers} == {409}
    assert all("0 customers" in answer.json()["detail"] for answer in answers)


async def test_a_bulk_act_under_a_key_goes_in_batches(database: Database, redis_url: str) -> None:
    """It has several transactions: what is done stays done, and whoever changes anything else need not wait."""
    async with running_rest(database, redis_url) as rest:
        contract = await rest.subscribed()
        token = await rest.made("/v1/tokens", subscription=contract["id"])
        ids = await many_tokens(database, token["id"])
        async with held(database, ids[BATCH + 100]) as looking:
            bulk = asyncio.ensure_future(revocation(rest.admin))
            await somebody_waits(looking)
            assert await looking.fetchval("SELECT count(*) FROM tokens WHERE revoked_at IS NOT NULL") == BATCH
            others = await together(*_single_changes(rest, ids[-4:]))
            assert [answer.status_code for answer in others] == [201] * 4 + [200] * 4
            assert not bulk.done()
        done = await bulk
        assert (done.status_code, done.json()["revoked"]) == (200, MANY + 1)
        again = await revocation(rest.admin)
        assert (again.content, again.headers["idempotency-replayed"]) == (done.content, "true")


async def test_a_bulk_act_under_a_key_never_deadlocks(database: Database, redis_url: str) -> None:
    """Eight callers changing tokens and customers all the while are served, and so is the bulk act."""
    async with running_rest(database, redis_url) as rest:
        contract = await rest.subscribed()
        token = await rest.made("/v1/tokens", subscription=contract["id"])
        ids = await many_tokens(database, token["id"])
        bulk = asyncio.ensure_future(revocation(rest.admin))
        statuses: set[int] = set()
        rounds = 0
        while not bulk.done():
            changes = _single_changes(rest, ids[rounds * 97 % BATCH :: BATCH][:4], str(rounds))
            statuses |= {answer.status_code for answer in await together(*changes)}
            rounds += 1
        assert rounds > 0
        assert statuses <= {200, 201, 409}  # 409: it was revoked already
        assert ((await bulk).status_code, (await bulk).json()["revoked"]) == (200, MANY + 1)
        looking = await asyncpg.connect(database.dsn)
        try:
            assert await looking.fetchval("SELECT count(*) FROM tokens WHERE revoked_at IS NULL") == 0
        finally:
            await looking.close()


def _single_changes(rest: Rest, tokens: list[str], name: str = "") -> list[Awaitable[httpx.Response]]:
    """Return eight changes: four new customers, and four tokens to be disabled."""
    made = [rest.admin.post("/v1/customers", json={"key": f"new-{name}-{number}"}) for number in range(4)]
    return [*made, *(rest.admin.post(f"/v1/tokens/{token}/disable", json={}) for token in tokens)]


async def test_every_name_in_the_table_is_an_operation(database: Database, redis_url: str) -> None:
    """No operation loses its way by being renamed."""
    async with running_rest(database, redis_url) as rest:
        document = (await rest.stranger.get("/openapi.json")).json()
    posts = {item["post"]["operationId"] for item in document["paths"].values() if "post" in item}
    assert posts >= APART


async def test_a_claim_is_told_by_when_it_ends(office: RestApp) -> None:
    """The wait that is asked for is never longer than the key is held, and never nothing."""
    for left_s, expected in ((40, 5), (3, 3), (0.2, 1), (-1, 1)):
        now = office.clock.now()
        assert UnderWayError(now + timedelta(seconds=left_s), now).retry_after_s == expected
