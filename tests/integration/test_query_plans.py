"""What Postgres will do with every statement we ship: it finds what it needs by an index, however large the tables.

The plans are those of prepared statements (generic ones), over a business of 25,000 tokens (`support/crowd.sql`).
"""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import DatabaseFactory

import tallygate
from tallygate.storage.postgres import Connection, connect
from tallygate.storage.queries import parse

PACKAGE = Path(tallygate.__file__).parent
CROWD = Path(__file__).parents[1] / "support" / "crowd.sql"
BIG_ROWS = 1000
PAGE = 100

SMALL = {
    "plans": "one row a plan: dozens",
    "plan_versions": "one row a published version: hundreds",
    "plan_shadows": "one row a roll-out that was ever tried: dozens",
    "route_tables": "one row a change of the routes; the newest is read from the end of an index",
    "admin_keys": "one row a key of the operator's own programs: dozens",
    "license_generation": "one row, ever",
    "audit_head": "one row, ever",
    "schema_migrations": "one row a migration",
    "usage_ledger": "one row, ever",
    "exports": "one row for each who was ever told of usage: a handful",
    "export_asides": "10,000 for each of these at most: one that has as many stops",
    "export_files": "one row a day for each who gets files",
}
"""Tables that may be read whole, and why that never hurts. Any other table is taken to grow with the business."""

COUNTS = {
    "admin/queries.sql:pins": "counts who is on each version of a plan, so it has to look at all of them",
    "admin/queries.sql:tokens_by_state": "counts all tokens, once a minute, for the one worker that leads",
}
"""Statements that may read any table whole, and why. None is part of issuing, listing or revoking."""

SORTS = {
    "admin/queries.sql:audit_chain": "puts a page in order that was read in order: the planner cannot tell",
    "admin/queries.sql:changes": "what hangs on the subscriptions of a page; a license is compiled from all of it",
    "admin/queries.sql:credits": "what hangs on the subscriptions of a page; a license is compiled from all of it",
    "admin/queries.sql:live_subscription_ids_of_customer": "one or two that run, and those that are to follow them",
    "admin/queries.sql:overlapping_subscription": "one or two that run, and those that are to follow them",
    "billing/queries.sql:billed_usage": "what a period comes to, by version, meter and outcome: a handful of sums",
    "insights/queries.sql:used": "what is used in a span of time, by version, meter and outcome: a handful of sums",
    "usage/reading.sql:counted": "what one customer used in a period, by meter and token: a handful of sums",
    "licenses/queries.sql:changes_since": "what changed since it was last asked, some seconds ago",
}
"""Statements that put rows in order, and why these are never many. From any other, rows come in an index's order."""


def ident(prefix: str, number: str) -> str:
    """Return the SQL of an id of the crowd."""
    return f"('{prefix}_' || lpad(({number})::text, 26, '0'))"


LISTS = {
    "token_ids_of_customer": ([ident("cus", "10000")], ident("tok", "70000")),
    "token_ids_of_subscription": ([ident("sub", "15000")], ident("tok", "70000")),
    "token_ids_of_family": ([ident("fam", "20000")], ident("tok", "70000")),
    "token_ids_by_name": (["'whale'"], ident("tok", "70000")),
    "subscription_ids_of_customer": ([ident("cus", "10000")], ident("sub", "17000")),
    "audit_of_object": ([ident("tok", "125000"), "NULL", "NULL"], "22500"),
    "audit_of_actor": (["'key:whale'"], "22500"),
    "audit_of_actor_and_action": (["'key:whale'", "'token.whale'"], "22500"),
    "audit_of_action": (["'token.whale'"], "22500"),
}
"""The lists that grow with one customer, or with one program that acts: whose is asked for, and where the middle is."""

CALLS = {
    "find_license_v1": "SELECT * FROM find_license_v1(ARRAY[sha256('1'), sha256('2')])",
    "find_holder_v1": "SELECT find_holder_v1('fam_00000000000000000000000007', 'sub_00000000000000000000000007')",
    "current_routes_v1": "SELECT * FROM current_routes_v1()",
    "current_generation_v1": "SELECT * FROM current_generation_v1()",
    "changes_since_v1": "SELECT * FROM changes_since_v1(19990)",
    "note_tokens_used_v1": "SELECT note_tokens_used_v1(ARRAY['tok_00000000000000000000000007'], now())",
    "note_first_uses_v1": "SELECT note_first_uses_v1(ARRAY['sub_00000000000000000000000007'], ARRAY[now()])",
    "record_change": "SELECT record_change('tok_00000000000000000000000007')",
    "prune_changes": "SELECT prune_changes(interval '13 days')",
    "netstring": "SELECT netstring('text')",
    "own_token": """INSERT INTO tokens (id, family_id, digest, pepper_id, hint, created_at) VALUES (
        'tok_zzzzzzzzzzzzzzzzzzzzzzzzzz', 'fam_00000000000000000000000007', sha256('new'), 'pepper', '0000', now())""",
    "make_usage_partitions_v1": "SELECT make_usage_partitions_v1(ARRAY[now()])",
    "drop_usage_partitions_v1": "SELECT drop_usage_partitions_v1('2000-01-01', NULL)",
    "audit_hash": "SELECT audit_hash(a) FROM audit a WHERE id = 7",
    # Triggers: what sets them off, and finds them without a refusal.
    "chain_audit": "INSERT INTO audit (at, actor, action, object) VALUES (now(), 'test', 'test', 'test')",
    "refuse_change_of_published_version": "UPDATE plan_versions SET deprecated_at = now() WHERE plan_key = 'plan1'",
    "refuse_change_of_audit": "",
    "refuse_truncate": "",
}
"""How to set each function of the schema to work; empty: it only refuses, and reads nothing."""


def _statements() -> dict[str, str]:
    """Return every named statement of the package by file and name."""
    files = sorted(path for path in PACKAGE.rglob("*.sql") if path.parent.name not in {"storage", "migrations"})
    return {
        f"{path.relative_to(PACKAGE)}:{name}": statement
        for path in files
        for name, statement in parse(path.read_text()).items()
    }


STATEMENTS = _statements()


@pytest.fixture(scope="module")
async def crowd(database_factory: DatabaseFactory) -> AsyncIterator[Connection]:
    """Return a connection to a database in which many customers have been for long."""
    async with database_factory.clone() as database:
        connection = await connect(database.dsn, application_name="tests", command_timeout_s=60)
        try:
            await connection.execute(CROWD.read_text())
            await connection.execute("SET plan_cache_mode = 'force_generic_plan'")
            yield connection
        finally:
            await connection.close(timeout=5)


def read_whole(plan: dict[str, Any], *, is_filtered: bool = False) -> Iterator[str]:
    """Return the tables of which this plan reads more than it needs.

    From one end to the other, by itself or by an index; or from some point on, where a condition that no index knows
    then throws rows away.
    """
    is_filtered = "Filter" in plan or (is_filtered and plan["Node Type"].startswith("Bitmap"))
    condition = plan.get("Index Cond", "")
    is_whole = not condition or (is_filtered and not narrows(condition))
    if plan["Node Type"] == "Seq Scan" or ("Index" in plan["Node Type"] and is_whole):
        yield plan.get("Relation Name") or plan["Index Name"]
    for part in plan.get("Plans", ()):
        yield from read_whole(part, is_filtered=is_filtered)


def narrows(condition: str) -> bool:
    """Tell whether an index is asked for the rows of one value, or between two, and not for all from some point on."""
    return " = " in condition or (" > " in condition and " <= " in condition)


def sorts(plan: dict[str, Any]) -> bool:
    """Tell whether rows of a table that grows are put in order, and so all read before the first is returned."""
    parts = plan.get("Plans", ())
    if "Sort" in plan["Node Type"] and not set(tables(plan)) <= set(SMALL):
        return True
    return any(sorts(part) for part in parts)


def tables(plan: dict[str, Any]) -> Iterator[str]:
    """Return where the rows of this plan come from."""
    source = plan.get("Relation Name") or plan.get("Function Name")
    if source:
        yield source
    for part in plan.get("Plans", ()):
        yield from tables(part)


def rows_read(plan: dict[str, Any]) -> float:
    """Return the most rows that any step of an executed plan took up, those it threw away included."""
    own: float = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return max(own, *(rows_read(part) for part in plan.get("Plans", ())), 0)


async def plan_of(connection: Connection, statement: str, *values: str) -> dict[str, Any]:
    """Return the plan of a statement for whatever values it is given, or as it was executed with `values`, in SQL."""
    # Prepared and executed in words: EXPLAIN (GENERIC_PLAN) over this driver would plan for the values it is passed.
    await connection.execute(f"PREPARE looked_at AS {statement}")
    try:
        types = await connection.fetchval(
            "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'looked_at'"
        )
        listed = f"({', '.join(values or ['NULL'] * len(types))})" if types else ""
        how = "FORMAT JSON, ANALYZE" if values else "FORMAT JSON"
        explained = await connection.fetchval(f"EXPLAIN ({how}) EXECUTE looked_at {listed}")
    finally:
        await connection.execute("DEALLOCATE looked_at")
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    return plan


@pytest.mark.parametrize("name", sorted(set(STATEMENTS) - set(COUNTS)))
async def test_a_statement_finds_its_rows_by_an_index(crowd: Connection, name: str) -> None:
    """The millionth token is issued, listed and revoked as fast as the first: nothing that grows is read whole."""
    assert set(read_whole(await plan_of(crowd, STATEMENTS[name]))) <= set(SMALL)


@pytest.mark.parametrize("name", sorted(set(STATEMENTS) - set(COUNTS) - set(SORTS)))
async def test_a_statement_finds_its_rows_in_order(crowd: Connection, name: str) -> None:
    """The first page of a list is there before the last row was looked at: nothing that grows is put in order."""
    assert not sorts(await plan_of(crowd, STATEMENTS[name]))


@pytest.mark.parametrize("planned", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("start", ["", "middle"])
@pytest.mark.parametrize("name", sorted(LISTS))
async def test_a_page_of_the_whale_is_a_page(crowd: Connection, name: str, start: str, planned: str) -> None:
    """Of a customer with 100,000 tokens and 5,000 contracts the first and a middle page take that page's rows, no more.

    With a plan that was made for anybody, and with one for this customer.
    """
    whose, middle = LISTS[name]
    after = middle if start else "0" if middle.isdigit() else "''"
    await crowd.execute(f"SET plan_cache_mode = '{planned}'")
    try:
        plan = await plan_of(crowd, STATEMENTS[f"admin/queries.sql:{name}"], *whose[:1], after, str(PAGE), *whose[1:])
    finally:
        await crowd.execute("SET plan_cache_mode = 'force_generic_plan'")
    assert not sorts(plan)
    assert PAGE * 0.99 <= rows_read(plan) <= PAGE


async def test_a_page_of_tokens_is_shown_from_that_many_rows(crowd: Connection) -> None:
    """Family, contract and last use of the tokens on a page are looked up for those alone."""
    ids = f"ARRAY[{', '.join(ident('tok', str(number)) for number in range(70_001, 70_001 + PAGE))}]"
    plan = await plan_of(crowd, STATEMENTS["admin/queries.sql:tokens_by_id"], ids)
    assert plan["Actual Rows"] == PAGE
    assert rows_read(plan) <= PAGE


async def test_contracts_that_ended_are_not_gone_through(crowd: Connection) -> None:
    """A token is issued as fast to the customer of 5,000 contracts as to the one of a single contract."""
    plan = await plan_of(
        crowd, STATEMENTS["admin/queries.sql:live_subscription_ids_of_customer"], ident("cus", "10000"), "now()"
    )
    assert rows_read(plan) == 1


@pytest.mark.parametrize("name", sorted(name for name, call in CALLS.items() if call))
async def test_a_function_finds_its_rows_by_an_index(crowd: Connection, name: str) -> None:
    """What the database does inside a function, a trigger or a foreign key is as quick as what we ask it outright."""
    plans: list[dict[str, Any]] = []

    def note(_connection: object, message: Any) -> None:  # noqa: ANN401 - asyncpg has no type for it
        _, _, document = message.message.partition("plan:\n")
        plans.append(json.loads(document)["Plan"])

    await crowd.execute("LOAD 'auto_explain'")
    transaction = crowd.transaction()
    await transaction.start()
    try:
        for setting, value in (
            ("auto_explain.log_min_duration", "0"),
            ("auto_explain.log_nested_statements", "on"),
            ("auto_explain.log_format", "json"),
            ("auto_explain.log_level", "notice"),
        ):
            await crowd.execute(f"SET LOCAL {setting} = '{value}'")
        crowd.add_log_listener(note)
        await crowd.execute(CALLS[name])
    finally:
        crowd.remove_log_listener(note)
        await transaction.rollback()
    assert plans
    assert {table for plan in plans for table in read_whole(plan)} <= set(SMALL)


async def test_no_function_is_forgotten(crowd: Connection) -> None:
    """A function added to the schema is looked into as well."""
    rows = await crowd.fetch("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    assert {row["proname"] for row in rows} == set(CALLS)


async def test_every_table_that_grows_is_large_here(crowd: Connection) -> None:
    """A small table is read whole whatever its indexes: one added to the schema joins the crowd, or is argued small."""
    rows = await crowd.fetch(
        "SELECT relname, reltuples FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    sizes = {row["relname"]: row["reltuples"] for row in rows}
    assert {table for table, size in sizes.items() if size < BIG_ROWS} == set(SMALL)


async def test_a_missing_index_would_be_seen(crowd: Connection) -> None:
    """This suite is able to fail: without its index a list of a family's tokens reads all tokens."""
    listing = STATEMENTS["admin/queries.sql:token_ids_of_family"]
    transaction = crowd.transaction()
    await transaction.start()
    try:
        await crowd.execute("DROP INDEX tokens_by_family")
        assert set(read_whole(await plan_of(crowd, listing))) - set(SMALL)
    finally:
        await transaction.rollback()
