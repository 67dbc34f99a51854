"""`tallygate usage` and `/v1/usage`: what was counted a moment ago, in each form; and questions that make no sense."""

import csv
import io
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from support.commands import Shell
from support.limiters import limiter_to
from support.rest import Rest, problem, running_rest
from support.servers import Database

from tallygate.licenses.codec import decode_terms
from tallygate.limits.limiter import Acquisition, Charge, Subject
from tallygate.storage.postgres import connect

ROW = {"customer", "subscription", "family", "meter", "route", "outcome", "from", "to", "quantity", "plan"}
ROUTES = ("GET /v1/things", "* /v1/**")


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API, over the database and counters of the shell."""
    async with running_rest(database, redis_url) as running:
        yield running


async def used(rest: Rest, database: Database, redis_url: str, key: str = "acme", requests: int = 3) -> dict[str, Any]:
    """Put a customer on a plan and count requests of theirs on two routes; return the token."""
    contract = await rest.subscribed(key)
    token = await rest.made("/v1/tokens", subscription=contract["id"])
    connection = await connect(database.dsn, application_name="tests")
    try:
        terms = await connection.fetchval("SELECT terms FROM licenses WHERE subscription_id = $1", contract["id"])
    finally:
        await connection.close()
    grant = decode_terms(terms.encode()).phase_at(datetime.now(UTC)).grant
    subject = Subject(token["customer"], token["subscription"], token["family"])
    charges = tuple(Charge(limit, 1) for limit in grant.limits)
    limiter = limiter_to(redis_url)
    try:
        for number in range(requests):
            asked = Acquisition(subject, charges, (("requests", 1),), ROUTES[number % 2], None, grant.plan)
            assert (await limiter.acquire(asked)).is_admitted
    finally:
        await limiter.close()
    return token


async def test_what_was_counted_just_now_is_in_the_answer(
    rest: Rest, database: Database, redis_url: str, shell: Shell
) -> None:
    """No worker has run: rows say whose it was, of which route, when; and the command line says the same."""
    token = await used(rest, database, redis_url)
    answer = (await rest.viewer.get("/v1/usage", params={"customer": "acme"})).json()
    assert (answer["next_cursor"], answer["live"], answer["lacks"]) == (None, True, None)
    assert all(row.keys() == ROW for row in answer["items"])
    assert [(row["route"], row["quantity"]) for row in answer["items"]] == [("* /v1/**", 1), ("GET /v1/things", 2)]
    for row in answer["items"]:
        assert (row["customer"], row["family"]) == (token["customer"], token["family"])
        assert (row["plan"], row["meter"], row["outcome"]) == ("pro@1", "requests", "allowed")
        began_at, ended_at = (datetime.fromisoformat(row[name]) for name in ("from", "to"))
        assert ended_at - began_at == timedelta(days=1)
    assert shell("usage", "--customer", "acme", "--json").json == answer
    assert shell("usage", "--customer", "acme", "--format", "json").json == answer
    rows = list(csv.DictReader(io.StringIO(shell("usage", "--format", "csv").out)))
    assert [{**row, "quantity": int(row["quantity"])} for row in rows] == [
        {name: row[name] for name in rows[0]} for row in answer["items"]
    ]
    assert "GET /v1/things" in shell("usage").out


async def test_rows_are_narrowed_and_added_up(rest: Rest, database: Database, redis_url: str, shell: Shell) -> None:
    """By each thing they are told apart by; what they are added up over is null, and left out of a table."""
    token = await used(rest, database, redis_url)
    other = await used(rest, database, redis_url, "globex", requests=5)
    for query, expected in (
        ({"customer": "globex"}, 5),
        ({"customer": other["customer"]}, 5),
        ({"subscription": token["subscription"]}, 3),
        ({"family": token["family"]}, 3),
        ({"route": "GET /v1/things"}, 5),
        ({"plan": "pro"}, 8),
        ({"plan": "pro@1"}, 8),
        ({"plan": "pro@2"}, 0),
        ({"meter": "tokens"}, 0),
        ({"outcome": "overage"}, 0),
        ({"customer": "acme", "family": token["family"], "by": "month"}, 3),
    ):
        rows = (await rest.viewer.get("/v1/usage", params=query)).json()["items"]
        assert sum(row["quantity"] for row in rows) == expected, query
        arguments = [part for name, value in query.items() for part in (f"--{name}", value)]
        assert shell("usage", *arguments, "--json").json["items"] == rows
    grouped = (await rest.viewer.get("/v1/usage", params={"group_by": "meter,customer"})).json()["items"]
    assert [(row["customer"], row["meter"], row["route"], row["quantity"]) for row in grouped] == [
        (token["customer"], "requests", None, 3),
        (other["customer"], "requests", None, 5),
    ]
    table = shell("usage", "--group-by", "meter").out
    assert "route" not in table
    assert "8" in table


async def test_pages_hold_together_what_one_page_holds(rest: Rest, database: Database, redis_url: str) -> None:
    """Row by row, however they are added up."""
    for key in ("one", "two", "three"):
        await used(rest, database, redis_url, key, requests=4)
    for query in ({}, {"group_by": "customer"}, {"group_by": "route,outcome"}, {"customer": "two", "by": "hour"}):
        whole = (await rest.viewer.get("/v1/usage", params=query)).json()
        items, cursor = [], None
        while True:
            more = {"limit": "1"} | ({} if cursor is None else {"cursor": cursor})
            page = (await rest.viewer.get("/v1/usage", params=query | more)).json()
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert items == whole["items"]
        assert len(items) > 1


async def test_a_question_that_makes_no_sense_is_told_so(rest: Rest, shell: Shell) -> None:
    """Instants within a unit, a cursor of another question, customers there are not: each with its mend."""
    await rest.subscribed()
    contract = await rest.subscribed("globex")
    for query, status, said in (
        ({"from": "2026-06-15T12:30:00Z"}, 422, "2026-06-15T00:00:00Z"),
        ({"from": "2026-06-15T00:00:00Z", "to": "2026-06-14T00:00:00Z"}, 422, "is not after"),
        ({"by": "week"}, 422, ""),
        ({"by": "minute"}, 422, "ask by hour"),
        ({"group_by": "colour"}, 422, ""),
        ({"outcome": "denied"}, 422, ""),
        ({"cursor": "bm9uc2Vuc2U"}, 422, "next_cursor"),
        ({"cursor": "WyJhIl0", "group_by": "meter"}, 422, "next_cursor"),
        ({"customer": "nobody"}, 404, "nobody"),
        ({"subscription": "sub_" + "0" * 26}, 404, ""),
        ({"family": "fam_" + "0" * 26}, 404, ""),
        ({"customer": "acme", "subscription": contract["id"]}, 404, "another customer"),
    ):
        told = problem(await rest.viewer.get("/v1/usage", params=query), status)
        assert said in told["detail"], query
    for arguments, said in (
        (("--from", "2026-06-15T12:30"), "2026-06-15T00:00:00Z"),
        (("--from", "yesterday"), "yesterday"),
        (("--customer", "nobody"), "nobody"),
        (("--group-by", "colour"), "colour"),
        (("--meter", "\udcff"), "meter"),
        (("--by", "week"), "week"),
    ):
        assert said in shell("usage", *arguments).refused()


def test_a_time_ago_begins_where_its_unit_began(shell: Shell) -> None:
    """Nobody has to reckon when the day of a week ago began."""
    for by in ("hour", "day", "month"):
        assert shell("usage", "--from", "7d", "--by", by, "--json").json["items"] == []


async def test_without_redis_there_is_a_warning_and_an_answer(
    rest: Rest, database: Database, redis_url: str, shell: Shell
) -> None:
    """What was counted but not moved is missing then, which stderr and the page say."""
    await used(rest, database, redis_url)
    ran = shell("usage", "--format", "csv", REDIS_URL="redis://127.0.0.1:1")
    assert ran.code == 0
    assert ran.out.splitlines() == ["from,to,customer,subscription,family,plan,meter,route,outcome,quantity"]
    assert "warning: redis does not answer" in ran.err


async def test_reconciling_says_what_each_side_has(
    rest: Rest, database: Database, redis_url: str, shell: Shell
) -> None:
    """Equal: exit 0. A counter that somebody lowered: exit 1, and by how much."""
    token = await used(rest, database, redis_url)
    (compared,) = shell("usage", "reconcile", "--customer", "acme", "--json").items
    assert (compared["limit"], compared["counter"], compared["ledger"], compared["difference"]) == ("monthly", 3, 3, 0)
    key = f"tg:v1:{{{token['customer']}}}:s:{token['subscription']}"
    client = Redis.from_url(redis_url)
    try:
        _, end_us = struct.unpack("<dd", await client.hget(key, "q:monthly:month"))  # type: ignore[arg-type]  # bytes
        await client.hset(key, "q:monthly:month", struct.pack("<dd", 1, end_us))
    finally:
        await client.aclose()
    ran = shell("usage", "reconcile", "--customer", "acme")
    assert ran.code == 1
    assert "-2" in ran.out
    assert "nobody" in shell("usage", "reconcile", "--customer", "nobody").refused()
