"""The license cache: what it serves, for how long, and at what cost."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from support.license_gate import GatedStore, settle
from support.licensing import GRANT, digest_of, license_of
from support.terms import START_AT, terms_of

from tallygate.core.clock import ManualClock
from tallygate.core.errors import OverloadedError, StoreUnavailableError
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.routes import RouteRule
from tallygate.licenses.store import ROUTES_SUBJECT, Change

TTL_S = 25.0
KEY = (digest_of(1),)


@dataclass
class Bench:
    """A cache over a store that counts its reads, by a clock that is moved by hand, without jitter."""

    store: GatedStore = field(default_factory=GatedStore)
    clock: ManualClock = field(default_factory=lambda: ManualClock(START_AT))
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Put one license there."""
        self.store.put(digest_of(1), license_of(1))
        self.cache = self.make()

    def make(self, **options: float) -> LicenseCache:
        """Return a cache with other bounds."""
        bounds = {name: int(value) for name, value in options.items() if name.startswith("max_")}
        return LicenseCache(self.store, self.clock, ttl_s=TTL_S, jitter=lambda: 0.0, observe=self.seen.append, **bounds)


@pytest.fixture
def bench() -> Bench:
    """Return a fresh bench."""
    return Bench()


async def test_a_second_look_reads_nothing(bench: Bench) -> None:
    """Nearly every request is answered from memory."""
    assert await bench.cache.get(KEY) == license_of(1)
    assert await bench.cache.get(KEY) == license_of(1)
    assert bench.store.reads == 1
    assert bench.seen == ["miss", "hit"]


async def test_a_hundred_misses_at_once_are_one_read(bench: Bench) -> None:
    """A cold start, or a popular token's expiry, does not become a storm on Postgres."""
    bench.store.hold()
    requests = [asyncio.create_task(bench.cache.get(KEY)) for _ in range(100)]
    await bench.store.wait_for_reads(1)
    bench.store.release()
    assert await asyncio.gather(*requests) == [license_of(1)] * 100
    assert bench.store.reads == 1


async def test_a_request_that_gives_up_takes_the_read_from_nobody(bench: Bench) -> None:
    """One client's disconnect does not fail the others, and what was read is kept."""
    bench.store.hold()
    leaver, stayer = (asyncio.create_task(bench.cache.get(KEY)) for _ in range(2))
    await bench.store.wait_for_reads(1)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    bench.store.release()
    assert await stayer == license_of(1)
    assert await bench.cache.get(KEY) == license_of(1)
    assert bench.store.reads == 1


async def test_an_entry_is_read_again_before_it_ends_and_nobody_waits(bench: Bench) -> None:
    """Late in an entry's life one background read renews it while requests go on being served."""
    await bench.cache.get(KEY)
    bench.clock.advance(TTL_S * 0.6)
    bench.store.hold()
    answers = [await bench.cache.get(KEY) for _ in range(5)]
    await bench.store.wait_for_reads(2)
    bench.store.release()
    await settle()
    assert answers == [license_of(1)] * 5
    assert bench.store.reads == 2
    bench.clock.advance(TTL_S * 0.5)
    await bench.cache.get(KEY)
    assert bench.seen[-1] == "hit"


async def test_past_its_life_an_entry_is_not_served_unread(bench: Bench) -> None:
    """Were every notification lost, a revocation would still be seen within the TTL, below 30 s (invariant 6)."""
    await bench.cache.get(KEY)
    revoked = replace(license_of(1), revoked_at=START_AT)
    bench.store.put(digest_of(1), revoked)  # and nobody tells the cache
    bench.clock.advance(TTL_S)
    assert await bench.cache.get(KEY) == revoked
    assert TTL_S < 30


async def test_life_is_counted_from_the_beginning_of_the_read(bench: Bench) -> None:
    """A read that took long is as old as its snapshot; counting from its end would stretch the promise."""
    bench.store.hold()
    request = asyncio.create_task(bench.cache.get(KEY))
    await bench.store.wait_for_reads(1)
    bench.clock.advance(TTL_S - 1)
    bench.store.release()
    await request
    bench.clock.advance(1)
    await bench.cache.get(KEY)
    assert bench.store.reads == 2


async def test_a_read_that_took_longer_than_a_life_is_made_again(bench: Bench) -> None:
    """Whatever a store's deadline is, nobody is answered from a snapshot older than the TTL."""
    bench.store.hold()
    request = asyncio.create_task(bench.cache.get(KEY))
    await bench.store.wait_for_reads(1)
    revoked = license_of(1, revoked_at=START_AT)
    bench.store.put(digest_of(1), revoked)
    bench.clock.advance(TTL_S)
    bench.store.release()
    assert await request == revoked


async def test_a_fleet_does_not_read_again_at_one_moment(bench: Bench) -> None:
    """Lives and renewals are spread by jitter, and jitter only ever shortens a life."""
    calls = iter([0.5, 0.0])
    cache = LicenseCache(bench.store, bench.clock, ttl_s=TTL_S, jitter=lambda: next(calls, 0.0))
    await cache.get(KEY)
    bench.clock.advance(TTL_S * 0.95)
    await cache.get(KEY)
    assert bench.store.reads == 2


async def test_a_database_outage_is_no_outage_of_the_api(bench: Bench) -> None:
    """What was read before the store was lost is served for an hour, then refused rather than trusted."""
    await bench.cache.get(KEY)
    bench.store.is_available = False
    bench.clock.advance(1800)
    assert await bench.cache.get(KEY) == license_of(1)
    reads = bench.store.reads
    assert await bench.cache.get(KEY) == license_of(1)
    assert bench.store.reads == reads, "each request tried the lost store"
    assert bench.seen[-2:] == ["stale", "stale"]
    assert bench.cache.staleness_s == 1800
    bench.clock.advance(1800)
    with pytest.raises(StoreUnavailableError):
        await bench.cache.get(KEY)
    assert bench.seen[-1] == "unavailable"


async def test_a_store_that_comes_back_is_used_at_once(bench: Bench) -> None:
    """After an outage the truth returns within seconds and by itself."""
    await bench.cache.get(KEY)
    bench.store.is_available = False
    bench.clock.advance(60)
    await bench.cache.get(KEY)
    bench.store.is_available = True
    suspended = license_of(1, disabled_at=START_AT)
    bench.store.put(digest_of(1), suspended)
    bench.clock.advance(1)
    assert await bench.cache.get(KEY) == suspended
    assert bench.cache.staleness_s == 0


async def test_an_outage_does_not_bring_back_what_is_known_to_have_changed(bench: Bench) -> None:
    """A revocation we heard of holds although the store is lost before it could be read."""
    await bench.cache.get(KEY)
    bench.cache.apply(bench.store.record_change(license_of(1).token))
    bench.store.is_available = False
    with pytest.raises(StoreUnavailableError):
        await bench.cache.get(KEY)


async def test_a_token_without_a_cached_license_fails_while_the_store_is_lost(bench: Bench) -> None:
    """We never invent an answer: unknown because unread is an outage, not a refusal of the token."""
    bench.store.is_available = False
    with pytest.raises(StoreUnavailableError):
        await bench.cache.get(KEY)
    bench.store.is_available = True
    assert await bench.cache.get(KEY) == license_of(1)


async def test_reads_and_waiting_requests_are_bounded(bench: Bench) -> None:
    """A slow store costs bounded memory and connections; who comes beyond that is told at once."""
    cache = bench.make(max_lookups=2, max_waiting=5)
    bench.store.hold()
    waiting = [asyncio.create_task(cache.get((digest_of(number),))) for number in range(1, 6)]
    await bench.store.wait_for_reads(2)
    with pytest.raises(OverloadedError):
        await cache.get((digest_of(6),))
    bench.store.release()
    await asyncio.gather(*waiting)
    assert bench.store.most_running == 2
    assert "overloaded" in bench.seen
    assert await cache.get(KEY) == license_of(1)


async def test_invented_tokens_keep_no_known_one_waiting(bench: Bench) -> None:
    """A flood of tokens nobody has fills its own queue; a license that has to be read again is read."""
    cache = bench.make(max_lookups=2, max_waiting=3)
    assert await cache.get(KEY) == license_of(1)
    bench.clock.advance(TTL_S)
    bench.store.hold()
    flood = [asyncio.create_task(cache.get((digest_of(number),))) for number in range(100, 103)]
    await settle()
    known = asyncio.create_task(cache.get(KEY))
    await settle()
    with pytest.raises(OverloadedError):
        await cache.get((digest_of(999),))
    assert not known.done()
    bench.store.release()
    assert await known == license_of(1)
    await asyncio.gather(*flood)


async def test_requests_that_gave_up_leave_no_endless_queue(bench: Bench) -> None:
    """Clients that come and go while the store hangs do not pile up reads behind it."""
    cache = bench.make(max_lookups=2, max_waiting=3)
    bench.store.hold()
    for number in range(1, 6):
        request = asyncio.create_task(cache.get((digest_of(number),)))
        await settle()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    with pytest.raises(OverloadedError):
        await cache.get((digest_of(6),))
    await cache.close()
    assert bench.store.running == 0


async def test_closing_ends_every_read(bench: Bench) -> None:
    """A stop leaves no task behind, not even one that never began, and forgets them all."""
    bench.store.hold()
    request = asyncio.create_task(bench.cache.get(KEY))
    await bench.store.wait_for_reads(1)
    await bench.cache.close()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert len(bench.cache._strangers) == 0


async def test_entries_are_bounded_and_the_least_used_goes_first(bench: Bench) -> None:
    """Memory has an end, and a token in use stays."""
    cache = bench.make(max_entries=3)
    for number in (1, 2, 3):
        bench.store.put(digest_of(number), license_of(number))
        await cache.get((digest_of(number),))
    await cache.get(KEY)
    bench.store.put(digest_of(4), license_of(4))
    await cache.get((digest_of(4),))
    reads = bench.store.reads
    await cache.get(KEY)
    assert (len(cache), bench.store.reads) == (3, reads)
    await cache.get((digest_of(2),))
    assert bench.store.reads == reads + 1


async def test_bytes_are_bounded_and_shared_terms_count_once(bench: Bench) -> None:
    """A few huge licenses cannot take the memory of many small ones."""
    await bench.cache.get(KEY)
    one = bench.cache.size_bytes
    bench.store.put(digest_of(2), license_of(2))
    await bench.cache.get((digest_of(2),))
    assert bench.cache.size_bytes < 2 * one, "both licenses share their terms"
    cache = bench.make(max_bytes=3 * one)
    for number in range(1, 20):
        own = terms_of(replace(GRANT, plan=f"pro@{number}"))
        bench.store.put(digest_of(number), license_of(number, terms=own))
        await cache.get((digest_of(number),))
        assert cache.size_bytes <= 3 * one
    assert 3 <= len(cache) < 8, "what they share is counted once, the rest for each"


async def test_a_flood_of_invented_tokens_pushes_out_nothing_real(bench: Bench) -> None:
    """200,000 unknown digests stay within bounds, and the customer's token is still a hit."""
    cache = bench.make(max_entries=1000, max_absent=10_000)
    await cache.get(KEY)
    for number in range(10**6, 10**6 + 200_000):
        assert await cache.get((digest_of(number),)) is None
    assert len(cache._absent) <= 10_000
    assert len(cache) == 1
    reads = bench.store.reads
    await cache.get(KEY)
    assert bench.store.reads == reads


async def test_an_unknown_token_is_remembered_for_seconds(bench: Bench) -> None:
    """A client that retries a wrong token costs one read in five seconds."""
    unknown = (digest_of(9),)
    assert await bench.cache.get(unknown) is None
    assert await bench.cache.get(unknown) is None
    assert bench.seen == ["miss", "absent"]
    bench.clock.advance(5)
    await bench.cache.get(unknown)
    assert bench.store.reads == 2


async def test_a_token_made_a_moment_ago_works_at_once(bench: Bench) -> None:
    """Asked for before it existed, a new token is found as soon as its change is heard."""
    await bench.cache.get((digest_of(2),))
    bench.cache.apply(bench.store.put(digest_of(2), license_of(2)))
    assert await bench.cache.get((digest_of(2),)) == license_of(2)


async def test_routes_are_refused_until_read_and_replaced_when_changed(bench: Bench) -> None:
    """No request is decided on routes nobody has loaded, nor on routes known to be old."""
    with pytest.raises(StoreUnavailableError):
        _ = bench.cache.routes
    await bench.cache.load_routes()
    assert bench.cache.are_routes_current
    assert bench.cache.routes.match("GET", "/anything") is not None
    change = bench.store.put_routes([RouteRule("GET", "/only")])
    await bench.cache.load_routes()
    bench.cache.apply(change)
    assert bench.cache.are_routes_current, "the read had seen the change already"
    assert bench.cache.routes.match("GET", "/anything") is None


async def test_a_change_of_meters_alone_makes_another_table(bench: Bench) -> None:
    """Reports count in the parents that are declared now, though no rule has changed."""
    rules = [RouteRule("GET", "/only")]
    bench.store.put_routes(rules, {"in": None})
    await bench.cache.load_routes()
    bench.cache.apply(bench.store.put_routes(rules, {"in": "tokens", "tokens": None}))
    await bench.cache.load_routes()
    assert bench.cache.routes.meters == {"in": "tokens", "tokens": None}


async def test_routes_known_to_have_changed_are_not_current(bench: Bench) -> None:
    """The listener reads them again until they are."""
    await bench.cache.load_routes()
    bench.cache.apply(bench.store.put_routes([RouteRule("GET", "/only")]))
    assert not bench.cache.are_routes_current


async def test_routes_that_stay_the_same_stay_compiled(bench: Bench) -> None:
    """Reading the same rules again throws away neither patterns nor what was matched."""
    await bench.cache.load_routes()
    table = bench.cache.routes
    bench.cache.apply(bench.store.record_change(ROUTES_SUBJECT))
    await bench.cache.load_routes()
    assert bench.cache.routes is table


async def test_a_change_may_come_twice_and_late(bench: Bench) -> None:
    """Notifications and the log overlap: a change that was seen already costs no read."""
    change = bench.store.record_change(license_of(1).customer)
    await bench.cache.get(KEY)
    bench.cache.apply(change)
    bench.cache.apply(Change(1, license_of(1).token))
    await bench.cache.get(KEY)
    assert bench.store.reads == 1


@pytest.mark.parametrize("subject", ["token", "family", "subscription", "customer"])
async def test_a_change_of_anything_a_license_is_made_of_is_seen_at_once(bench: Bench, subject: str) -> None:
    """Suspending a customer, changing a plan or revoking a family reaches every token of it."""
    await bench.cache.get(KEY)
    changed = license_of(1, disabled_at=START_AT)
    bench.cache.apply(bench.store.put(digest_of(1), changed, subject=getattr(changed, subject)))
    assert await bench.cache.get(KEY) == changed
