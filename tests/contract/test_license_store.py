"""The license store's promises, the same body for every adapter."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_network

import asyncpg
import pytest
from support.licensing import GRANT, MemoryWriter, PostgresWriter, Writer, digest_of, license_of
from support.servers import Database
from support.terms import START_AT

from tallygate.licenses.license import CustomerStatus
from tallygate.licenses.memory import MemoryLicenseStore
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.licenses.routes import MeterPolicy, RouteRule
from tallygate.licenses.store import ROUTES_SUBJECT, Change
from tallygate.storage.postgres import close_pool, create_pool


@dataclass(frozen=True, slots=True)
class Subject:
    """A store under test and who writes what it reads."""

    store: MemoryLicenseStore | PostgresLicenseStore
    writer: Writer


@pytest.fixture
def memory() -> Subject:
    """Return an empty store in memory."""
    store = MemoryLicenseStore()
    return Subject(store, MemoryWriter(store))


@pytest.fixture
async def postgres(database: Database) -> AsyncIterator[Subject]:
    """Return an empty store in Postgres, read with the data plane's rights."""
    owner = await asyncpg.connect(database.dsn)
    pool = await create_pool(database.data_plane_dsn, max_size=2)
    yield Subject(PostgresLicenseStore(pool), PostgresWriter(owner))
    await close_pool(pool)
    await owner.close()


@pytest.fixture(params=["memory", "postgres"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Return each adapter in turn."""
    made: Subject = request.getfixturevalue(request.param)
    return made


async def test_an_empty_store_knows_nothing(subject: Subject) -> None:
    """Unknown is an answer, not an error: no license, no routes, generation 0."""
    found = await subject.store.find([digest_of(1)])
    routes = await subject.store.routes()
    changes = await subject.store.changes_since(0)
    assert (found.license, found.as_of) == (None, 0)
    assert (routes.rules, routes.as_of) == ((), 0)
    assert (changes.changes, changes.is_complete) == ((), True)
    assert await subject.store.generation() == 0


async def test_a_license_comes_back_as_it_was_written(subject: Subject) -> None:
    """Every field survives storage: a lost network list or expiry would widen what a token may do."""
    entry = license_of(
        1,
        customer_status=CustomerStatus.PAST_DUE,
        scopes=frozenset({"things.read"}),
        networks=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")),
        not_before_at=START_AT,
        expires_at=START_AT + timedelta(days=365, microseconds=1),
        revoked_at=START_AT + timedelta(days=1),
        disabled_at=START_AT + timedelta(hours=1),
    )
    number = await subject.writer.put(digest_of(1), entry)
    found = await subject.store.find([digest_of(1)])
    assert found.license == entry
    assert found.as_of == number == 1


async def test_the_least_instant_of_a_first_use_stands(subject: Subject) -> None:
    """Told again, late, out of order, or of what does not exist: a trial began when it began, for all its tokens."""
    one = license_of(1)
    await subject.writer.put(digest_of(1), one)
    await subject.writer.put(digest_of(2), replace(license_of(2), customer=one.customer, subscription=one.subscription))
    await subject.writer.put(digest_of(3), license_of(3))
    for hours, expected in ((5, 5), (7, 5), (5, 5), (3, 3), (4, 3)):
        told = {one.subscription: START_AT + timedelta(hours=hours), f"sub_{'9' * 26}": START_AT}
        assert not await subject.store.note_first_uses(told)
        for number in (1, 2):
            found = (await subject.store.find([digest_of(number)])).license
            assert found is not None
            assert found.first_used_at == START_AT + timedelta(hours=expected)
    assert (await subject.store.find([digest_of(3)])).license == license_of(3)


async def test_a_first_use_is_no_change_of_a_license(subject: Subject) -> None:
    """Nothing is compiled anew, no worker reads anew, and no writer waits for it."""
    await subject.writer.put(digest_of(1), license_of(1))
    await subject.store.note_first_uses({license_of(1).subscription: START_AT})
    assert await subject.store.generation() == 1
    found = (await subject.store.find([digest_of(1)])).license
    assert found == license_of(1, first_used_at=START_AT)


async def test_no_scopes_and_all_scopes_stay_apart(subject: Subject) -> None:
    """An empty list of scopes grants nothing; it must not become "all of the plan's" on the way."""
    await subject.writer.put(digest_of(1), license_of(1, scopes=frozenset()))
    await subject.writer.put(digest_of(2), license_of(2, scopes=None))
    nothing = (await subject.store.find([digest_of(1)])).license
    everything = (await subject.store.find([digest_of(2)])).license
    assert nothing is not None
    assert nothing.scopes_under(GRANT) == frozenset()
    assert everything is not None
    assert everything.scopes_under(GRANT) == GRANT.scopes


async def test_any_of_the_digests_finds_the_token(subject: Subject) -> None:
    """While a pepper is rotated a token is stored under the old digest and asked for under both."""
    await subject.writer.put(digest_of(1), license_of(1))
    found = await subject.store.find([digest_of(9), digest_of(1)])
    assert found.license == license_of(1)
    assert (await subject.store.find([digest_of(9)])).license is None


async def test_a_read_says_which_changes_it_has_seen(subject: Subject) -> None:
    """`as_of` is what a cache compares with notifications: it covers absent tokens and routes as well."""
    await subject.writer.put(digest_of(1), license_of(1))
    number = await subject.writer.change(license_of(1).customer)
    assert number == 2
    assert (await subject.store.find([digest_of(1)])).as_of == number
    assert (await subject.store.find([digest_of(9)])).as_of == number
    assert (await subject.store.routes()).as_of == number
    assert await subject.store.generation() == number


async def test_a_replaced_license_is_the_one_that_is_read(subject: Subject) -> None:
    """A revocation written is a revocation read."""
    await subject.writer.put(digest_of(1), license_of(1))
    revoked = replace(license_of(1), revoked_at=START_AT)
    await subject.writer.put(digest_of(1), revoked)
    assert (await subject.store.find([digest_of(1)])).license == revoked


async def test_routes_come_back_in_order(subject: Subject) -> None:
    """The first rule that matches decides, so their order is their meaning; the newest table counts."""
    rules = (
        RouteRule("GET", "/v1/reports/{id}", (("requests", 5), ("rows", 0)), "reports.read", "reports"),
        RouteRule("*", "/v1/**"),
    )
    await subject.writer.put_routes((RouteRule("*", "/old"),))
    await subject.writer.put_routes(rules)
    found = await subject.store.routes()
    assert found.rules == rules
    assert found.as_of == 2


async def test_routes_come_with_policies_and_meters(subject: Subject) -> None:
    """Who settles a request reads what becomes of its charge, and who takes reports what a meter counts in."""
    rule = RouteRule("GET", "/a", (("in", 1),), policies=(MeterPolicy("in", ((500, 599),)),))
    await subject.writer.put_routes((rule,), {"in": "tokens", "tokens": None})
    found = await subject.store.routes()
    assert (found.rules, found.meters) == ((rule,), {"in": "tokens", "tokens": None})


async def test_changes_come_oldest_first_from_where_one_stopped(subject: Subject) -> None:
    """Catching up reads each change once, in order."""
    await subject.writer.put(digest_of(1), license_of(1))
    await subject.writer.change("cus_a")
    await subject.writer.put_routes(())
    changes = await subject.store.changes_since(1)
    assert changes.changes == (Change(2, "cus_a"), Change(3, ROUTES_SUBJECT))
    assert changes.is_complete
    assert (await subject.store.changes_since(3)).changes == ()


async def test_a_pruned_log_admits_that_it_is_incomplete(subject: Subject) -> None:
    """A reader that was away too long must not believe that nothing happened."""
    await subject.writer.change("cus_a")
    await subject.writer.change("cus_b")
    await subject.writer.prune()
    await subject.writer.change("cus_c")
    behind = await subject.store.changes_since(1)
    up_to_date = await subject.store.changes_since(2)
    assert not behind.is_complete
    assert up_to_date.is_complete
    assert up_to_date.changes == (Change(3, "cus_c"),)


async def test_a_number_from_the_future_is_another_history(subject: Subject) -> None:
    """After a restore the numbers begin again lower: a reader ahead of the store is told to start afresh."""
    await subject.writer.change("cus_a")
    assert not (await subject.store.changes_since(2)).is_complete


async def test_a_license_is_found_by_the_ids_that_upstreams_know(subject: Subject) -> None:
    """Family and subscription together name it, whatever became of the token; one without the other names nothing."""
    entry = license_of(1, revoked_at=START_AT)
    await subject.writer.put(digest_of(1), entry)
    await subject.writer.put(digest_of(2), license_of(2))
    found = await subject.store.find_holder(entry.family, entry.subscription)
    assert found is not None
    assert (found.customer, found.token, found.terms) == (entry.customer, entry.token, entry.terms)
    assert await subject.store.find_holder(entry.family, license_of(2).subscription) is None
    assert await subject.store.find_holder("fam_none", entry.subscription) is None
