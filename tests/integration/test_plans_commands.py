"""`tallygate plans schema` and `plans diff`, run as people run them."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from support.office import office
from support.servers import Database

from tallygate.plans.parse import parse
from tallygate.plans.schema import plan_file_schema

OLD = """
plans:
  - {key: free, limits: [{name: daily, quota: 100, period: day}]}
  - {key: pro, scopes: [a], limits: [{name: daily, quota: 1_000, period: day}]}
"""
NEW = OLD.replace("1_000", "2_000").replace("[a]", "[]") + "  - {key: team}\n"


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """Return a plan file that changes one plan of those that are published, and adds one."""
    path = tmp_path / "plans.yaml"
    path.write_text(NEW)
    return path


async def tallygate(*arguments: str, database: Database | None = None) -> str:
    """Return what a command that succeeds prints."""
    dsn = {"TALLYGATE_POSTGRES_DSN": database.dsn} if database else {}
    environment = os.environ | dsn | {"TALLYGATE_PEPPER": "a pepper of tests, long enough to be one"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tallygate", *arguments, stdout=asyncio.subprocess.PIPE, env=environment
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def published(database: Database) -> None:
    """Publish the plans as they are before the change."""
    async with office(database) as desk:
        await desk.plans.apply(parse(OLD, "old.yaml"))


async def test_the_schema_is_printed_as_json() -> None:
    """An editor is pointed at what the command prints."""
    assert json.loads(await tallygate("plans", "schema")) == plan_file_schema()


async def test_a_diff_tells_which_way_each_change_goes(database: Database, plan_file: Path) -> None:
    """Before publishing, one line a change: what widens, what narrows, what is new and what stays."""
    await published(database)
    printed = await tallygate("plans", "diff", str(plan_file), database=database)
    lines = [line for line in printed.splitlines() if not line.startswith("  subscriptions:")]
    assert lines == [
        "free@1  unchanged",
        "pro@1",
        "  narrows scopes.a: tokens lose the scope a",
        "  widens  limits.daily.quota: the limit daily grants 2000 a period instead of 1000",
        "team",
        "  neutral team: the plan team is new",
    ]


async def test_a_diff_tells_of_routes(database: Database, tmp_path: Path) -> None:
    """What the file changes for everybody at once is told beside the plans, by what a request is charged in the end."""
    path, meters = tmp_path / "routes.yaml", "meters: {tokens: {}, input: {parent: tokens}}\n"
    path.write_text(meters + 'routes: [{match: "GET /v1/**", cost: {input: 2, requests: 3}, scope: a}]' + OLD)
    await published(database)
    printed = await tallygate("plans", "diff", str(path), database=database)
    told = printed[printed.index("routes\n") :].splitlines()
    assert told[1:] == [
        "  neutral GET /v1/**: the rule is new; its requests met * /**",
        "  narrows GET /v1/**.cost.input: a request costs 2 input instead of 0",
        "  narrows GET /v1/**.cost.requests: a request costs 3 requests instead of 1",
        "  narrows GET /v1/**.cost.tokens: a request costs 2 tokens instead of 0",
        "  narrows GET /v1/**.scope: asks for the scope a",
        "  neutral * /**: the rule is gone; some of its requests meet other rules",
        "  neutral meters.input: the meter is declared",
        "  neutral meters.tokens: the meter is declared",
        "  routes: in force for everybody as soon as they are applied",
    ]
    await tallygate("plans", "apply", str(path), database=database)
    assert "routes  unchanged" in await tallygate("plans", "diff", str(path), database=database)
    told_to_programs = json.loads(await tallygate("plans", "diff", str(path), "--json", database=database))
    assert told_to_programs["routes"] == {"changes": []}


async def test_a_diff_tells_of_meters(database: Database, tmp_path: Path) -> None:
    """What is made of a charge after the response is told before it is in force; what is told is all that changes."""
    path, routes = tmp_path / "routes.yaml", 'routes: [{match: "GET /v1/**", cost: {input: 2}}]'
    path.write_text("meters: {tokens: {}, input: {parent: tokens}}\n" + routes)
    await tallygate("plans", "apply", str(path), database=database)
    path.write_text("meters: {tokens: {}, input: {parent: tokens, refund_on: [5xx], within: 1h}}\n" + routes)
    assert (await tallygate("plans", "diff", str(path), database=database)).splitlines() == [
        "routes",
        "  neutral meters.input.refund_on: which responses give its units back",
        "  neutral meters.input.within: how long a request may be settled",
        "  neutral meters.input.unsettled: what becomes of requests that nobody settles",
        "  routes: in force for everybody as soon as they are applied",
    ]
    assert "routes  replaced" in await tallygate("plans", "apply", str(path), database=database)
    assert await tallygate("plans", "diff", str(path), database=database) == "routes  unchanged\n"
    shown = await tallygate("plans", "routes", database=database)
    assert all(word in shown for word in ("GET /v1/**", "input", "5xx", "1h", "charge"))
    told: Any = json.loads(await tallygate("plans", "routes", "--json", database=database))
    assert told["meters"]["input"] == {"parent": "tokens", "refund_on": ["5xx"], "within": "1h", "unsettled": "charge"}


async def test_a_table_of_an_older_version_is_compared_and_shown(database: Database, tmp_path: Path) -> None:
    """A table stored as a list, before meters were stored, is not replaced by one that says the same."""
    connection = await asyncpg.connect(database.dsn)
    rules = [{"match": "GET /v1/**", "cost": {"requests": 1}, "scope": None, "feature": None}]
    await connection.execute("INSERT INTO route_tables VALUES (1, $1::jsonb, now())", json.dumps(rules))
    await connection.close()
    path = tmp_path / "routes.yaml"
    path.write_text('routes: [{match: "GET /v1/**"}]')
    assert await tallygate("plans", "diff", str(path), database=database) == "routes  unchanged\n"
    assert "routes  unchanged" in await tallygate("plans", "apply", str(path), database=database)
    told: Any = json.loads(await tallygate("plans", "routes", "--json", database=database))
    assert (told["items"], told["meters"]) == (rules, {})


async def test_a_file_without_routes_leaves_them_in_force(database: Database) -> None:
    """Who publishes plans in a file of their own opens no door that the routes had closed; `[]` says so outright."""
    async with office(database) as desk:
        await desk.plans.apply(parse('routes: [{match: "GET /v1/**"}]' + OLD, "old.yaml"))
        assert (await desk.plans.apply(parse(NEW, "new.yaml"))).routes == "unchanged"
        assert (await desk.plans.routes())[0] == 1
        assert (await desk.plans.apply(parse("routes: []" + NEW, "new.yaml"))).routes == "replaced"


async def test_a_diff_is_told_to_programs(database: Database, plan_file: Path) -> None:
    """A pipeline that refuses to narrow without approval reads kinds, not sentences; nothing is published."""
    await published(database)
    told: Any = json.loads(await tallygate("plans", "diff", str(plan_file), "--json", database=database))
    assert [(plan["plan"], plan["newest"], len(plan["changes"])) for plan in told["plans"]] == [
        ("free", "free@1", 0),
        ("pro", "pro@1", 2),
        ("team", None, 1),
    ]
    assert told["plans"][1]["changes"][1] == {
        "field": "limits.daily.quota",
        "before": 1000,
        "after": 2000,
        "kind": "widens",
        "sentence": "the limit daily grants 2000 a period instead of 1000",
    }
    async with office(database) as desk:
        assert sorted(version.ref for version in await desk.plans.list()) == ["free@1", "pro@1"]
