"""Corrections of the ledger: entries more, audited, and nothing that was counted is changed."""

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from support.commands import Shell
from support.rest import Rest, problem, running_rest
from support.servers import Database

PATH = "/v1/usage/corrections"
ROWS = "SELECT entry, meter, quantity, plan, minute_at, reason FROM usage_entries ORDER BY id"


@pytest.fixture
async def rest(database: Database, redis_url: str) -> AsyncIterator[Rest]:
    """A running API, over the database and counters of the shell."""
    async with running_rest(database, redis_url) as running:
        yield running


@pytest.fixture
async def subscription(rest: Rest) -> str:
    """Return the id of a subscription."""
    return str((await rest.subscribed())["id"])


async def stored(database: Database) -> list[tuple[Any, ...]]:
    """Return the ledger's entries."""
    connection = await asyncpg.connect(database.dsn)
    try:
        return [tuple(row) for row in await connection.fetch(ROWS)]
    finally:
        await connection.close()


async def test_a_correction_is_an_entry_with_its_reason(rest: Rest, subscription: str, database: Database) -> None:
    """It belongs to the minute it is told, under the version in force then, and usage shows it at once."""
    body = {"subscription": subscription, "meter": "requests", "quantity": -7, "reason": "a test run of ours"}
    answer = await rest.admin.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["quantity"], made["plan"], made["outcome"]) == (-7, "pro@1", "allowed")
    ((entry, meter, quantity, plan, minute_at, reason),) = await stored(database)
    assert (entry, meter, quantity, plan, reason) == ("correction", "requests", -7, "pro@1", "a test run of ours")
    assert str(minute_at.isoformat()).replace("+00:00", "Z") == made["at"]
    used = (await rest.viewer.get("/v1/usage", params={"subscription": subscription})).json()["items"]
    assert [row["quantity"] for row in used] == [-7]


async def test_it_is_in_the_audit_log(rest: Rest, subscription: str) -> None:
    """Who wrote in the ledger, and why, stays."""
    body = {"subscription": subscription, "meter": "requests", "quantity": 5, "reason": "an outage"}
    made = (await rest.admin.post(PATH, json=body)).json()
    (entry,) = (await rest.viewer.get("/v1/audit", params={"action": "usage.correct"})).json()["items"]
    assert (entry["object"], entry["reason"], entry["after"]) == (subscription, "an outage", made)


async def test_a_repeated_request_corrects_once(rest: Rest, subscription: str, database: Database) -> None:
    """An idempotency key holds here as everywhere; the same words without one are another correction."""
    body = {"subscription": subscription, "meter": "requests", "quantity": 5, "reason": "an outage"}
    for _ in range(2):
        answer = await rest.admin.post(PATH, json=body, headers={"idempotency-key": "once"})
        assert answer.status_code == 200, answer.text
    assert len(await stored(database)) == 1
    await rest.admin.post(PATH, json=body)
    assert len(await stored(database)) == 2


async def test_only_admins_correct(rest: Rest, subscription: str, database: Database) -> None:
    """Whoever may issue tokens may not change a bill."""
    body = {"subscription": subscription, "meter": "requests", "quantity": 5, "reason": "an outage"}
    problem(await rest.issuer.post(PATH, json=body), 403)
    assert await stored(database) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": 0},
        {"quantity": 2**53},
        {"quantity": 1.5},
        {"reason": ""},
        {"reason": "  "},
        {"meter": "a|b"},
        {"outcome": "refused"},
        {"plan": "pro"},
        {"plan": "pro@99"},
        {"family": "fam_1"},
        {"route": "a\0b"},
        {"at": "2999-01-01T00:00:00Z"},
        {"at": "1999-01-01T00:00:00Z"},
    ],
    ids=str,
)
async def test_what_cannot_be_counted_is_refused(
    rest: Rest, subscription: str, database: Database, wrong: dict[str, object]
) -> None:
    """The answer names the field, and nothing is stored."""
    body = {"subscription": subscription, "meter": "requests", "quantity": 5, "reason": "an outage"}
    told = problem(await rest.admin.post(PATH, json=body | wrong), 422)
    assert next(iter(wrong)) in json.dumps(told)
    assert await stored(database) == []


async def test_a_subscription_there_is_not_is_not_found(rest: Rest) -> None:
    """A slip of the pen corrects nobody."""
    body = {"subscription": "sub_" + "0" * 26, "meter": "requests", "quantity": 5, "reason": "an outage"}
    problem(await rest.admin.post(PATH, json=body), 404)


async def test_the_command_does_the_same(subscription: str, database: Database, shell: Shell) -> None:
    """`tallygate usage correct`, with a number below 0 after `--`; bad input exits 2."""
    made = shell("usage", "correct", "--reason", "ours", "--at", "2h", "--json", "--", subscription, "requests", "-3")
    assert made.code == 0, made.err
    assert json.loads(made.out)["quantity"] == -3
    assert [row[2] for row in await stored(database)] == [-3]
    refused = shell("usage", "correct", "--reason", " ", "--", subscription, "requests", "-3")
    assert (refused.code, "reason" in refused.err) == (2, True)
