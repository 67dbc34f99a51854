"""The license cache: the answer to nearly every request, in this process, never older than promised.

Owns what has been read and when it must be read again. Does not own hearing of changes (`listener`) nor
reading (`store`). For one event loop; nothing here blocks.

How an entry stays true:
- it lives `ttl_s`, counted from when its read began, so a lost notification costs seconds. A random tenth
  is taken off, so that a fleet does not read everything again at one moment;
- in the last part of its life a hit starts one read in the background, so requests rarely wait;
- a change raises a *floor* (see `floors`): what has not seen it is not served, and a read that had begun
  before it and ends after it is thrown away and made again. Nothing revoked comes back;
- while the store is down an old entry goes on being served, up to `max_stale_s`, as long as no known
  change has outdated it.
"""

import random
from collections.abc import Callable, Sequence
from enum import StrEnum

from tallygate.core.clock import Clock
from tallygate.core.errors import OverloadedError, StoreUnavailableError
from tallygate.licenses.absent import Absent
from tallygate.licenses.floors import Floors, is_token
from tallygate.licenses.license import License
from tallygate.licenses.reads import SharedReads
from tallygate.licenses.routes import RouteTable
from tallygate.licenses.shelf import Entry, Shelf
from tallygate.licenses.store import ROUTES_SUBJECT, Change, Found, LicenseStore

_TRIES_PER_READ = 3
_RETRY_S = 1.0
_TTL_JITTER = 0.1
_REFRESH_FROM, _REFRESH_SPREAD = 0.6, 0.3


class CacheResult(StrEnum):
    """How a look-up ended: the label `result` of the metric.

    `miss` waited for a read; `stale` was served because the store is down.
    """

    HIT = "hit"
    MISS = "miss"
    ABSENT = "absent"
    STALE = "stale"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"


class LicenseCache:
    """Licenses by digest, and the route table in force."""

    def __init__(
        self,
        store: LicenseStore,
        clock: Clock,
        *,
        ttl_s: float = 25.0,
        max_stale_s: float = 3600.0,
        negative_ttl_s: float = 5.0,
        max_entries: int = 200_000,
        max_bytes: int = 256 * 2**20,
        max_absent: int = 50_000,
        max_lookups: int = 32,
        max_waiting: int = 2048,
        jitter: Callable[[], float] = random.random,
        observe: Callable[[str], None] = lambda _result: None,
    ) -> None:
        """Read through `store`.

        `max_absent` digests of no token are remembered for `negative_ttl_s`. At most `max_lookups` reads
        run at once and `max_waiting` requests wait for one. `jitter` returns numbers in [0, 1). `observe`
        is told the `CacheResult` of every look-up.
        """
        self._store = store
        self._clock = clock
        self._ttl_s = ttl_s
        self._max_stale_s = max_stale_s
        self._jitter = jitter
        self._observe = observe
        self._shelf = Shelf(max_entries, max_bytes)
        self._absent = Absent(negative_ttl_s, max_absent)
        self._floors = Floors()
        # Apart, so that a flood of invented tokens stands in nobody's way but its own.
        self._renewals = SharedReads(self._read, max_running=max_lookups, max_waiting=max_waiting)
        self._strangers = SharedReads(self._read, max_running=max_lookups, max_waiting=max_waiting)
        self._history = 0  # moves when all that was known is thrown away, reads under way included
        self._answered_at = clock.monotonic()
        self._is_store_down = False
        self._routes: RouteTable | None = None
        self._routes_as_of = -1
        self._routes_floor = 0

    def __len__(self) -> int:
        return len(self._shelf)

    @property
    def size_bytes(self) -> int:
        """Return the estimated size of all entries."""
        return self._shelf.size_bytes

    @property
    def staleness_s(self) -> float:
        """Return 0 while the store answers, else the seconds since it last did."""
        return self._clock.monotonic() - self._answered_at if self._is_store_down else 0.0

    def at_hand(self, digests: Sequence[bytes]) -> License | None:
        """Return the license of the token with these digests if nothing need be read, else None: ask `get`."""
        digest, now = digests[0], self._clock.monotonic()
        entry = self._shelf.get(digest)
        if entry is None or now >= entry.fresh_until or not self._is_believed(entry):
            return None
        self._shelf.touch(digest)
        if now >= entry.refresh_at:
            entry.refresh_at = now + _RETRY_S  # should it fail; a success replaces the entry
            self._renewals.start(digests)
        self._observe(CacheResult.STALE if entry.is_stale else CacheResult.HIT)
        return entry.license

    async def get(self, digests: Sequence[bytes]) -> License | None:
        """Return the license of the token with these digests (the current pepper's first), None if unknown.

        Raises StoreUnavailableError when it cannot be read and nothing recent enough is at hand,
        OverloadedError when too many requests wait for reads.
        """
        found = self.at_hand(digests)
        if found is not None:
            return found
        if self._shelf.get(digests[0]) is None and self._absent.holds(digests[0], self._clock.monotonic()):
            self._observe(CacheResult.ABSENT)
            return None
        return await self._join_read(digests)

    def apply(self, change: Change) -> None:
        """Serve nothing any more that has not seen `change`; changes may come twice and in any order."""
        self._floors.raise_to(change.generation, change.subject)
        if is_token(change.subject):
            self._absent.clear()
        elif change.subject == ROUTES_SUBJECT:
            self._routes_floor = max(self._routes_floor, change.generation)

    def resynchronise(self, generation: int) -> None:
        """Begin afresh at `generation`: what changed up to there is unknown, so nothing older is believed.

        It may be lower than one seen before: then the database has been restored.
        """
        self._history += 1
        self._floors.reset(generation)
        self._shelf.clear()
        self._absent.clear()
        self._routes_as_of = -1
        self._routes_floor = generation

    @property
    def routes(self) -> RouteTable:
        """Return the route table in force; raise StoreUnavailableError before the first `load_routes`."""
        if self._routes is None:
            message = "the route table has not been read yet"
            raise StoreUnavailableError(message)
        return self._routes

    @property
    def are_routes_current(self) -> bool:
        """Say whether a route table is in force that has seen every change of it we know of."""
        return self._routes is not None and self._routes_as_of >= self._routes_floor

    async def load_routes(self) -> None:
        """Read the route table and put it in force, unless what is in force is newer."""
        history = self._history
        found = await self._store.routes()
        if history != self._history or found.as_of <= self._routes_as_of:
            return
        self._routes_as_of = found.as_of
        table = RouteTable(found.rules, found.meters)
        if self._routes is None or (self._routes.rules, self._routes.meters) != (table.rules, table.meters):
            self._routes = table

    async def close(self) -> None:
        """Cancel the reads under way."""
        await self._renewals.close()
        await self._strangers.close()

    def _is_believed(self, entry: Entry) -> bool:
        if entry.floors_version != self._floors.version:
            if entry.as_of < self._floors.under(entry.license):
                return False
            entry.floors_version = self._floors.version
        return True

    async def _join_read(self, digests: Sequence[bytes]) -> License | None:
        try:
            reads = self._strangers if self._shelf.get(digests[0]) is None else self._renewals
            found = await reads.join(digests)
        except OverloadedError:
            self._observe(CacheResult.OVERLOADED)
            raise
        except StoreUnavailableError:
            stale = self._stale(digests[0])
            if stale is None:
                self._observe(CacheResult.UNAVAILABLE)
                raise
            self._observe(CacheResult.STALE)
            return stale
        self._observe(CacheResult.MISS)
        return found

    def _stale(self, digest: bytes) -> License | None:
        """Return what was read before the store was lost, if it may still be served."""
        entry = self._shelf.get(digest)
        now = self._clock.monotonic()
        if entry is None or now >= entry.read_at + self._max_stale_s or not self._is_believed(entry):
            return None
        # For a moment it is served like a fresh one: not every request has to try the store.
        entry.is_stale = True
        entry.fresh_until = min(now + _RETRY_S, entry.read_at + self._max_stale_s)
        return entry.license

    async def _read(self, digests: Sequence[bytes]) -> License | None:
        for _ in range(_TRIES_PER_READ):
            history, read_at = self._history, self._clock.monotonic()
            found = await self._ask_store(digests)
            is_recent = self._clock.monotonic() - read_at < self._ttl_s
            if is_recent and history == self._history and found.as_of >= self._floors.under(found.license):
                return self._keep(digests[0], found, read_at)
        message = "the store answers too late, or with less than is known already: a replica far behind?"
        raise StoreUnavailableError(message)

    async def _ask_store(self, digests: Sequence[bytes]) -> Found:
        try:
            found = await self._store.find(digests)
        except StoreUnavailableError:
            self._is_store_down = True
            raise
        self._is_store_down = False
        self._answered_at = self._clock.monotonic()
        return found

    def _keep(self, digest: bytes, found: Found, read_at: float) -> License | None:
        present = self._shelf.get(digest)
        if present is not None and present.as_of > found.as_of:
            return present.license
        if found.license is None:
            self._shelf.drop(digest)
            self._absent.add(digest, read_at)
            return None
        life_s = self._ttl_s * (1 - _TTL_JITTER * self._jitter())
        refresh_at = read_at + life_s * (_REFRESH_FROM + _REFRESH_SPREAD * self._jitter())
        # The same license stays the same object: what was worked out for it is known by that.
        known = found.license if present is None or present.license != found.license else present.license
        entry = Entry(known, found.as_of, read_at, refresh_at, read_at + life_s, self._floors.version)
        self._shelf.put(digest, entry)
        return known
