"""The audit log: what it tells, and that nobody writes in it unseen."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest
from support.offers import offers
from support.office import ACTOR, NOW, Office, office
from support.servers import Database, DatabaseFactory

from tallygate.core.errors import InputError
from tallygate.storage.migrate import migrate, shipped
from tallygate.storage.postgres import Connection


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with some history."""
    async with office(database) as opened:
        await opened.plans.apply(offers())
        for key in ("one", "two", "three", "four"):
            opened.clock.advance(60)
            await opened.customers.create(key, f"Kunde \N{SNOWMAN} {key}")
        await opened.customers.set_status("two", "suspended", 'says "no", for now')
        yield opened


@pytest.fixture
async def superuser(database: Database) -> AsyncIterator[Connection]:
    """Return a connection of somebody with every right, triggers switched off."""
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


async def test_what_was_done_is_told_by_object_actor_action_and_time(desk: Office) -> None:
    """With what was before and after, why, and in which request; page by page."""
    other = desk.control.acting("key:somebody", "req-7")
    renamed = await other.customers.rename("one", "Eins")
    log = desk.operations.audit
    everything = await log.list()
    assert [entry.id for entry in everything] == list(range(1, len(everything) + 1))
    (entry,) = await log.list(actor="key:somebody")
    assert (entry.action, entry.object, entry.request_id, entry.at) == (
        "customer.rename",
        renamed.id,
        "req-7",
        desk.clock.now(),
    )
    assert isinstance(entry.before, dict)
    assert isinstance(entry.after, dict)
    assert (entry.before["name"], entry.after["name"]) == ("Kunde \N{SNOWMAN} one", "Eins")
    assert [each.action for each in await log.list(object=renamed.id)] == ["customer.create", "customer.rename"]
    assert [each.action for each in await log.list(object=renamed.id, actor=ACTOR)] == ["customer.create"]
    assert len(await log.list(action="customer.create")) == 4
    assert await log.list(action="customer.create", actor="key:somebody") == []
    assert await log.list(action="customer.rename", actor="key:somebody") == [entry]
    assert await log.list(action="customer.rename", actor="key:somebody", after=entry.id) == []
    assert [each.id for each in await log.list(since=NOW + timedelta(minutes=4))] == [
        each.id for each in everything[-3:]
    ]
    assert await log.list(since=NOW + timedelta(days=1)) == []
    assert await log.list(after=2, limit=3) == everything[2:5]
    assert await log.list(action="customer.create", after=everything[-1].id) == []


async def test_a_secret_pasted_into_a_reason_or_a_name_does_not_get_in(desk: Office) -> None:
    """The log only grows, so what is once in it stays: tokens and admin keys are cut out before, of names too."""
    await desk.subscriptions.create("one", "pro")
    for attempt in (
        desk.tokens.issue(customer="one", name="was tg_live_0123456789abcdefghijABCDEFGHIJ012345"),
        desk.customers.create("keen", "tga_0123456789abcdefghijABCDEFGHIJ012345"),
        desk.customers.rename("one", "tga_0123456789abcdefghijABCDEFGHIJ012345"),
    ):
        with pytest.raises(InputError, match=r"^name: holds what looks like a secret"):
            await attempt
    made = await desk.tokens.issue(customer="one")
    await desk.tokens.revoke(made.record.id, f"leaked: {made.secret}, and tga_0123456789abcdefghijABCDEFGHIJ012345")
    told = str(await desk.operations.audit.list(object=made.record.id))
    assert "[hidden]" in told
    assert made.secret not in told
    assert "0123456789abcdefghij" not in told


async def test_an_untouched_log_is_intact(desk: Office) -> None:
    """Quotes, snowmen and empty fields included; the head can be noted and verified from later."""
    report = await desk.operations.audit.verify()
    assert (report.is_intact, report.problems, report.entries) == (True, (), len(await desk.audit()))
    assert report.head is not None
    await desk.customers.create("later", None)
    assert (await desk.operations.audit.verify(report.head)).is_intact
    for anchor in ("", "7", "x:y", f"0:{'0' * 64}", "1:abc", f"{'9' * 30}:{'0' * 64}"):
        with pytest.raises(InputError, match="anchor"):
            await desk.operations.audit.verify(anchor)


async def test_an_empty_log_is_intact(database: Database) -> None:
    """Before anything was done there is nothing to find."""
    async with office(database) as opened:
        report = await opened.operations.audit.verify()
        assert (report.is_intact, report.entries, report.head) == (True, 0, None)
        await opened.customers.create("one", None)
        assert (await opened.operations.audit.verify()).entries == 1


_FORGED = """
INSERT INTO audit SELECT 10, at, actor, action, object, before, after, reason, '', hash, hash FROM audit WHERE id = 9
"""


@pytest.mark.parametrize(
    ("tampering", "entries"),
    [
        ("UPDATE audit SET actor = 'somebody else' WHERE id = 3", [3]),
        ("UPDATE audit SET at = at + interval '1 microsecond' WHERE id = 3", [3]),
        ("UPDATE audit SET action = 'x' WHERE id = 3", [3]),
        ("UPDATE audit SET object = 'x' WHERE id = 3", [3]),
        ("UPDATE audit SET after = after || '{\"name\": \"x\"}' WHERE id = 5", [5]),
        ("UPDATE audit SET before = '{}' WHERE id = 5", [5]),
        ("UPDATE audit SET reason = reason || ' ' WHERE id = 3", [3]),
        ("UPDATE audit SET request_id = 'x' WHERE id = 3", [3]),
        ("UPDATE audit SET reason = action, action = reason WHERE id = 3", [3]),
        ("UPDATE audit SET id = 100 WHERE id = 9", [100]),
        ("UPDATE audit SET hash = sha256('x') WHERE id = 3", [3, 4]),
        ("UPDATE audit SET previous_hash = sha256('x') WHERE id = 3", [3]),
        ("DELETE FROM audit WHERE id = 1", [2]),
        ("DELETE FROM audit WHERE id = 4", [5]),
        ("DELETE FROM audit WHERE id BETWEEN 4 AND 6", [7]),
        ("DELETE FROM audit WHERE id = 9", [9]),
        ("DELETE FROM audit WHERE id > 6", [9]),
        ("DELETE FROM audit", [9]),
        ("TRUNCATE audit", [9]),
        ("UPDATE audit_head SET id = 8, hash = (SELECT hash FROM audit WHERE id = 8)", [9]),
        ("UPDATE audit_head SET hash = sha256('x')", [9]),
        ("DELETE FROM audit_head", [9]),
        (_FORGED, [10]),
        (_FORGED.replace("SELECT 10", "SELECT 0"), [0]),
        (_FORGED.replace("SELECT 10", "SELECT -7"), [-7]),
    ],
)  # fmt: skip
async def test_whoever_writes_in_the_log_is_found_out(
    desk: Office, superuser: Connection, tampering: str, entries: list[int]
) -> None:
    """An entry altered in any field, removed in the middle or at the end, or put in: the place is named."""
    assert (await desk.operations.audit.verify()).is_intact
    await superuser.execute(tampering)
    report = await desk.operations.audit.verify()
    assert not report.is_intact
    assert set(entries) <= {problem.entry for problem in report.problems}


REWRITE = """
DO $$
DECLARE
    entry audit;
    newest bytea := decode(repeat('00', 32), 'hex');
BEGIN
    FOR entry IN SELECT * FROM audit ORDER BY id LOOP
        entry.previous_hash := newest;
        newest := audit_hash(entry);
        UPDATE audit SET previous_hash = entry.previous_hash, hash = newest WHERE id = entry.id;
        UPDATE audit_head SET id = entry.id, hash = newest;
    END LOOP;
END $$
"""


async def test_a_log_that_was_written_anew_is_found_by_its_anchor(desk: Office, superuser: Connection) -> None:
    """Whoever has every right can make a whole new chain; a head noted elsewhere shows that it is another one."""
    noted = (await desk.operations.audit.verify()).head
    await superuser.execute("UPDATE audit SET actor = 'somebody else' WHERE id = 3")
    await superuser.execute(REWRITE)
    assert (await desk.operations.audit.verify()).is_intact
    report = await desk.operations.audit.verify(noted)
    assert [problem.entry for problem in report.problems] == [9]
    await superuser.execute("DELETE FROM audit WHERE id > 5")
    await superuser.execute(REWRITE)
    assert (await desk.operations.audit.verify()).is_intact
    assert [problem.entry for problem in (await desk.operations.audit.verify(noted)).problems] == [9]


async def test_the_control_plane_cannot_write_the_chain_itself(desk: Office) -> None:
    """Its role has no right to the head, and what it says of numbers and hashes is not believed."""
    pool = desk._pool
    for statement in (
        "UPDATE audit_head SET id = 0",
        "DELETE FROM audit_head",
        "INSERT INTO audit_head VALUES (false)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)
    await pool.execute(
        """INSERT INTO audit (id, at, actor, action, object, previous_hash, hash)
           VALUES (3, now(), 'me', 'x', 'y', '', '')"""
    )
    report = await desk.operations.audit.verify()
    assert (report.is_intact, report.entries) == (True, 10)


async def test_many_who_act_at_once_make_one_chain(desk: Office) -> None:
    """Numbers have no gaps, also where somebody failed."""
    acts: list[Callable[[], Awaitable[object]]] = [
        *(lambda number=number: desk.customers.create(f"c{number}", None) for number in range(8)),
        *(lambda: desk.customers.create("one", None) for _ in range(4)),
        *(lambda: desk.customers.rename("two", "Zwei") for _ in range(4)),
    ]
    await asyncio.gather(*(act() for act in acts), return_exceptions=True)
    report = await desk.operations.audit.verify()
    assert (report.is_intact, report.entries) == (True, 9 + 8 + 4)
    assert [entry.id for entry in await desk.operations.audit.list()] == list(range(1, 22))


async def test_what_was_logged_before_the_chain_is_chained(database_factory: DatabaseFactory) -> None:
    """A database of the version before keeps its entries and their numbers, and verifies from the first on."""
    async with database_factory.clone() as made:
        owner = await asyncpg.connect(made.dsn)
        try:
            await owner.execute(
                "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC"
            )
            await owner.execute("DROP SCHEMA tallygate_extensions CASCADE")
            await migrate(made.dsn, migrations=shipped()[:1])
            await owner.execute(
                """INSERT INTO audit (at, actor, action, object, after)
                   SELECT now(), 'old', 'try', n::text, '{"b": 1, "a": [1, null]}' FROM generate_series(1, 5) n"""
            )
            await owner.execute("ALTER TABLE audit DISABLE TRIGGER USER; DELETE FROM audit WHERE id = 2")
            await owner.execute("ALTER TABLE audit ENABLE TRIGGER USER")
            await migrate(made.dsn)
        finally:
            await owner.close()
        async with office(made) as opened:
            report = await opened.operations.audit.verify()
            assert (report.is_intact, report.entries) == (True, 4)
            await opened.operations.customers.create("new", None)
            listed = await opened.operations.audit.list()
            assert [entry.id for entry in listed] == [1, 3, 4, 5, 6]
            assert json.dumps(listed[0].after, sort_keys=True) == '{"a": [1, null], "b": 1}'
            assert (await opened.operations.audit.verify()).is_intact
