"""Changes reach the cache: by notification, and without any (invariant 6)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
import pytest
from support.licensing import PostgresWriter, digest_of, license_of
from support.servers import Database
from support.tcp_proxy import tcp_proxy
from support.terms import START_AT

from tallygate.core.clock import ManualClock
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.listener import ChangeListener
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.licenses.routes import RouteRule
from tallygate.licenses.store import Change, Found
from tallygate.storage.postgres import Connection, close_pool, create_pool

KEY = (digest_of(1),)
GOOD = license_of(1)
REVOKED = license_of(1, revoked_at=START_AT)
NEVER_S = 3600.0


class AttentiveCache(LicenseCache):
    """The real cache; tests can wait for what it is told."""

    def __init__(self, store: PostgresLicenseStore) -> None:
        """Stand on a clock that does not move: nothing here ends by age."""
        super().__init__(store, ManualClock(START_AT))
        self.heard: list[Change] = []
        self.beginnings: list[int] = []
        self.routes_loaded = 0
        self.told = asyncio.Condition()

    def apply(self, change: Change) -> None:
        """Hear of a change."""
        super().apply(change)
        self.heard.append(change)
        self._tell()

    def resynchronise(self, generation: int) -> None:
        """Begin afresh."""
        super().resynchronise(generation)
        self.beginnings.append(generation)
        self._tell()

    async def load_routes(self) -> None:
        """Load the routes."""
        await super().load_routes()
        self.routes_loaded += 1
        self._tell()

    async def until_heard(self, generation: int) -> None:
        """Return once change `generation` has been applied."""
        async with self.told, asyncio.timeout(20):
            await self.told.wait_for(lambda: any(change.generation == generation for change in self.heard))

    async def until_begun(self, times: int) -> None:
        """Return once the cache has begun afresh so often, routes included."""
        async with self.told, asyncio.timeout(20):
            await self.told.wait_for(lambda: len(self.beginnings) >= times and self.are_routes_current)

    def _tell(self) -> None:
        self._telling = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self.told:
            self.told.notify_all()


@dataclass
class System:
    """A listener at work, and the owner who changes things."""

    cache: AttentiveCache
    listener: ChangeListener
    writer: PostgresWriter
    owner: Connection


@asynccontextmanager
async def system(
    database: Database, *, dsn: str | None = None, is_awaited: bool = True, **options: float | str
) -> AsyncIterator[System]:
    """Run a listener (at `dsn` if it goes another way) until it is synchronised, then lend it."""
    owner = await asyncpg.connect(database.dsn)
    pool = await create_pool(database.data_plane_dsn, max_size=2)
    store = PostgresLicenseStore(pool)
    cache = AttentiveCache(store)
    settings = {"poll_s": NEVER_S, "deadline_s": 10.0, "jitter": lambda: 0.0} | options
    listener = ChangeListener(dsn or database.data_plane_dsn, store, cache, ManualClock(START_AT), **settings)  # type: ignore[arg-type]
    running = asyncio.create_task(listener.run())
    try:
        if is_awaited:
            await cache.until_begun(1)
        yield System(cache, listener, PostgresWriter(owner), owner)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await close_pool(pool)
        await owner.close()


@asynccontextmanager
async def cut_off(database: Database) -> AsyncIterator[None]:
    """Kill the listening connection and let it not come back meanwhile."""
    name = database.dsn.rpartition("/")[2].partition("?")[0]
    admin = await asyncpg.connect(database.dsn.replace(f"/{name}", "/postgres"))
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        killed = await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
            " WHERE application_name = 'tallygate-listener' AND datname = $1",
            name,
        )
        assert killed == 1
        yield
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    finally:
        await admin.close()


async def test_a_revocation_arrives_by_notification(database: Database) -> None:
    """No poll, no TTL: the commit itself reaches the cache of every worker."""
    async with system(database) as there:
        await there.writer.put(digest_of(1), GOOD)
        assert await there.cache.get(KEY) == GOOD
        await there.cache.until_heard(await there.writer.put(digest_of(1), REVOKED))
        assert await there.cache.get(KEY) == REVOKED
        assert there.listener.is_synchronised
        assert there.listener.last_generation == 2


async def test_a_revocation_arrives_when_every_notification_is_lost(database: Database) -> None:
    """A pooler that drops NOTIFY costs seconds, not the revocation: the log is read all the time."""
    async with system(database, channel="nobody_speaks_here", poll_s=0.05) as there:
        await there.writer.put(digest_of(1), GOOD)
        await there.cache.get(KEY)
        await there.cache.until_heard(await there.writer.put(digest_of(1), REVOKED))
        assert await there.cache.get(KEY) == REVOKED


async def test_what_changed_while_the_connection_was_gone_is_read_after_it_is_back(database: Database) -> None:
    """A lost connection loses notifications; the numbers say which, and the log has them."""
    async with system(database) as there:
        await there.writer.put(digest_of(1), GOOD)
        await there.cache.get(KEY)
        async with cut_off(database):
            number = await there.writer.put(digest_of(1), REVOKED)
        await there.cache.until_heard(number)
        assert await there.cache.get(KEY) == REVOKED
        assert len(there.cache.beginnings) == 1, "what had not changed was kept"


async def test_a_log_that_no_longer_reaches_back_empties_the_cache(database: Database) -> None:
    """Away for longer than the log is kept, everything known is suspect."""
    async with system(database) as there:
        await there.writer.put(digest_of(1), GOOD)
        await there.cache.get(KEY)
        async with cut_off(database):
            await there.writer.put(digest_of(1), REVOKED)
            await there.writer.prune()
        await there.cache.until_begun(2)
        assert len(there.cache) == 0
        assert await there.cache.get(KEY) == REVOKED


async def test_a_restored_database_whose_numbers_begin_lower_empties_the_cache(database: Database) -> None:
    """After a restore the old numbers mean nothing, and new changes with lower ones are heard."""
    async with system(database, poll_s=0.05) as there:
        for _ in range(3):
            await there.writer.put(digest_of(1), GOOD)
        await there.cache.until_heard(3)
        await there.cache.get(KEY)
        async with there.owner.transaction():
            await there.owner.execute("DELETE FROM license_changes WHERE generation > 1")
            await there.owner.execute("UPDATE license_generation SET newest = 1")
            await there.owner.execute("UPDATE tokens SET revoked_at = $1", START_AT)
        await there.cache.until_begun(2)
        assert await there.cache.get(KEY) == REVOKED


async def test_a_gap_in_the_numbers_is_closed_from_the_log(database: Database) -> None:
    """One lost notification among others is noticed by its number when the next one comes."""
    async with system(database) as there:
        async with there.owner.transaction():
            # Logged and never announced: what a lost notification looks like from here.
            await there.owner.execute("UPDATE license_generation SET newest = newest + 1")
            await there.owner.execute("INSERT INTO license_changes (generation, subject) VALUES (1, 'cus_lost')")
        await there.writer.change("cus_next")
        await there.cache.until_heard(1)
        assert {change.subject for change in there.cache.heard} == {"cus_lost", "cus_next"}


async def test_words_we_do_not_understand_send_us_to_the_log(database: Database) -> None:
    """Another version's payload, or a stranger's, stops nothing."""
    async with system(database) as there:
        await there.owner.execute("SELECT pg_notify('license_changed_v1', 'what?')")
        await there.cache.until_heard(await there.writer.change("cus_a"))


async def test_new_routes_are_in_force_without_a_restart(database: Database) -> None:
    """`plans apply` changes what a path costs on every worker."""
    async with system(database) as there:
        assert there.cache.routes.match("GET", "/anything") is not None
        await there.writer.put_routes([RouteRule("GET", "/only")])
        async with there.cache.told, asyncio.timeout(20):
            await there.cache.told.wait_for(lambda: there.cache.routes_loaded == 2)
        assert there.cache.routes.match("GET", "/anything") is None


async def test_postgres_may_be_down_when_we_start(database: Database) -> None:
    """The data plane starts whatever the order; it hears of changes as soon as there is a database."""
    async with (
        tcp_proxy(database.data_plane_dsn, is_open=False) as proxy,
        system(database, dsn=proxy.dsn, is_awaited=False) as there,
    ):
        assert not there.listener.is_synchronised
        await proxy.open()
        await there.cache.until_begun(1)
        await there.cache.until_heard(await there.writer.change("cus_a"))


async def test_a_connection_that_died_without_a_word_is_replaced(database: Database) -> None:
    """A firewall that drops an idle connection sends no goodbye; we ask, and go when nobody answers."""
    async with (
        tcp_proxy(database.data_plane_dsn) as proxy,
        system(database, dsn=proxy.dsn, poll_s=0.05, deadline_s=1.0) as there,
    ):
        proxy.silence()
        await proxy.wait_for_connections(2)
        proxy.speak()
        await there.cache.until_heard(await there.writer.change("cus_a"))


class HeldStore(PostgresLicenseStore):
    """Postgres, read at once and answered when the test says so."""

    def __init__(self, *arguments: object) -> None:
        """Hold the first answer."""
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.has_read = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def find(self, digests: Sequence[bytes]) -> Found:
        """Read, and wait."""
        found = await super().find(digests)
        self.has_read.set()
        await self.may_answer.wait()
        return found


async def test_a_slow_fill_that_races_a_revocation_never_brings_the_token_back(database: Database) -> None:
    """The read saw the token good, the notification came, then the read ended: the token stays revoked."""
    async with system(database) as there:
        await there.writer.put(digest_of(1), GOOD)
        held = HeldStore(there.cache._store._pool)  # type: ignore[attr-defined]
        there.cache._store = held
        request = asyncio.create_task(there.cache.get(KEY))
        await held.has_read.wait()
        await there.cache.until_heard(await there.writer.put(digest_of(1), REVOKED))
        held.may_answer.set()
        assert await request == REVOKED
        assert await there.cache.get(KEY) == REVOKED


async def test_numbers_become_visible_in_their_own_order(database: Database) -> None:
    """Nobody can see change n without every change below it: a second writer waits for the first's commit."""
    first, second = [await asyncpg.connect(database.dsn) for _ in range(2)]
    try:
        await second.execute("SET lock_timeout = '100ms'")
        for ending in ("rollback", "commit"):
            transaction = first.transaction()
            await transaction.start()
            assert await first.fetchval("SELECT record_change('cus_a')") == 1
            with pytest.raises(asyncpg.LockNotAvailableError):
                await second.fetchval("SELECT record_change('cus_b')")
            await getattr(transaction, ending)()
        assert await second.fetchval("SELECT record_change('cus_b')") == 2
    finally:
        await first.close()
        await second.close()
