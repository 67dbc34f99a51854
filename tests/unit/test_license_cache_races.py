"""Reads that race changes: nothing that was taken away comes back (invariant 6)."""

import asyncio

import pytest
from support.license_gate import GatedStore, settle
from support.licensing import digest_of, license_of
from support.terms import START_AT

from tallygate.core.clock import ManualClock
from tallygate.core.errors import StoreUnavailableError
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.license import License
from tallygate.licenses.store import Change, FoundRoutes

KEY = (digest_of(1),)
GOOD = license_of(1)
REVOKED = license_of(1, revoked_at=START_AT)


@pytest.fixture
def store() -> GatedStore:
    """Return a store with one good token."""
    made = GatedStore()
    made.put(digest_of(1), GOOD)
    return made


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands."""
    return ManualClock(START_AT)


@pytest.fixture
def cache(store: GatedStore, clock: ManualClock) -> LicenseCache:
    """Return an empty cache."""
    return LicenseCache(store, clock, jitter=lambda: 0.0)


async def slow_read(cache: LicenseCache, store: GatedStore) -> "asyncio.Task[License | None]":
    """Return a request whose read has seen the present state and has not answered yet."""
    store.hold()
    request = asyncio.create_task(cache.get(KEY))
    await store.wait_for_reads(store.reads + 1)
    return request


async def test_a_slow_read_that_races_a_revocation_does_not_bring_the_token_back(
    cache: LicenseCache, store: GatedStore
) -> None:
    """The read saw the good token, the revocation is heard, then the read answers: it is not believed."""
    request = await slow_read(cache, store)
    cache.apply(store.put(digest_of(1), REVOKED))
    store.release()
    assert await request == REVOKED
    assert await cache.get(KEY) == REVOKED
    assert store.reads == 2


async def test_a_request_after_the_revocation_does_not_get_what_an_older_read_saw(
    cache: LicenseCache, store: GatedStore
) -> None:
    """It joins the read under way, and that read has to be made again before it answers anyone."""
    early = await slow_read(cache, store)
    cache.apply(store.put(digest_of(1), REVOKED))
    late = asyncio.create_task(cache.get(KEY))
    await settle()
    store.release()
    assert await early == REVOKED
    assert await late == REVOKED


async def test_a_slow_refresh_does_not_undo_a_revocation(
    cache: LicenseCache, store: GatedStore, clock: ManualClock
) -> None:
    """The same race in the background: the entry that is being renewed is the one that was revoked."""
    await cache.get(KEY)
    clock.advance(20)
    store.hold()
    assert await cache.get(KEY) == GOOD
    await store.wait_for_reads(2)
    cache.apply(store.put(digest_of(1), REVOKED))
    store.release()
    assert await cache.get(KEY) == REVOKED


async def test_a_token_made_during_a_read_that_missed_it_is_not_called_unknown(
    cache: LicenseCache, store: GatedStore
) -> None:
    """A negative answer older than the token's creation is neither given nor remembered."""
    store.hold()
    request = asyncio.create_task(cache.get((digest_of(2),)))
    await store.wait_for_reads(1)
    cache.apply(store.put(digest_of(2), license_of(2)))
    store.release()
    assert await request == license_of(2)


async def test_a_store_that_stays_behind_is_not_believed_and_not_asked_for_ever(
    cache: LicenseCache, store: GatedStore
) -> None:
    """A replica that lags behind a known revocation ends in 503 after a few reads, never in a pass."""
    await cache.get(KEY)
    cache.apply(Change(99, GOOD.customer))
    with pytest.raises(StoreUnavailableError, match="replica"):
        await cache.get(KEY)
    assert store.reads == 4


async def test_starting_afresh_throws_away_reads_that_had_begun(cache: LicenseCache, store: GatedStore) -> None:
    """When it is unknown what changed, nothing read before is kept, whatever number it carries."""
    request = await slow_read(cache, store)
    store.put(digest_of(1), REVOKED)  # lost: nobody hears of it
    cache.resynchronise(0)  # a restored database: its numbers begin below what we had
    store.release()
    assert await request == REVOKED
    assert await cache.get(KEY) == REVOKED


async def test_starting_afresh_forgets_entries_routes_and_floors(cache: LicenseCache) -> None:
    """After a restore lower numbers are the truth again, and no old floor refuses them."""
    await cache.get(KEY)
    await cache.load_routes()
    cache.apply(Change(500, GOOD.customer))
    cache.resynchronise(1)
    assert len(cache) == 0
    assert not cache.are_routes_current
    assert await cache.get(KEY) == GOOD
    await cache.load_routes()
    assert cache.are_routes_current


class RestoredMeanwhile(GatedStore):
    """A store that is restored while its routes are being read."""

    cache: LicenseCache

    async def routes(self) -> FoundRoutes:
        """Read, and be another database by the time the answer arrives."""
        found = await super().routes()
        self.cache.resynchronise(0)
        return found


async def test_routes_read_before_starting_afresh_are_not_put_in_force(clock: ManualClock) -> None:
    """A slow read of the routes does not outlive the history it belongs to."""
    store = RestoredMeanwhile()
    store.cache = LicenseCache(store, clock)
    await store.cache.load_routes()
    assert not store.cache.are_routes_current
