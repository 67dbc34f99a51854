"""The license store in Postgres, through the `*_v1` functions alone.

Owns the calls. Does not own caching or retrying. While Postgres is down calls fail at once (a breaker),
so a cache can go on with what it has instead of making each request wait for a deadline.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import asyncpg

from tallygate.core.errors import StoreUnavailableError
from tallygate.licenses.codec import SharedTerms, decode_license
from tallygate.licenses.codec_routes import decode_routes
from tallygate.licenses.license import License
from tallygate.licenses.store import Change, Changes, Found, FoundRoutes
from tallygate.storage.breaker import Breaker
from tallygate.storage.postgres import Pool, acquire
from tallygate.storage.queries import load

MOST_CHANGES = 10_000
"""Further behind than this, starting afresh is cheaper than catching up."""

_DOWN = "Postgres has not been answering; it is tried again shortly"
_SQL = load("tallygate.licenses")


class PostgresLicenseStore:
    """A LicenseStore; the login behind `pool` needs the role `tallygate_dataplane`, no more."""

    def __init__(
        self,
        pool: Pool,
        deadline_s: float = 2.0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read through `pool`, each call within `deadline_s`."""
        self._pool = pool
        self._deadline_s = deadline_s
        self._breaker = Breaker(monotonic)
        self._terms = SharedTerms()

    async def find(self, digests: Sequence[bytes]) -> Found:
        """Return the license of the token stored under one of these digests."""
        (row,) = await self._rows("find_license", list(digests))
        if row["license"] is None:
            return Found(None, row["as_of"])
        try:
            return Found(decode_license(row["license"], self._terms), row["as_of"])
        except ValueError as error:
            raise _unreadable("a license", error) from error

    async def find_holder(self, family: str, subscription: str) -> License | None:
        """Return the license of any token of a family (id); None when it is not of this subscription (id)."""
        (row,) = await self._rows("find_holder", family, subscription)
        try:
            return None if row["license"] is None else decode_license(row["license"], self._terms)
        except ValueError as error:
            raise _unreadable("a license", error) from error

    async def routes(self) -> FoundRoutes:
        """Return the route rules in force; none where no catalogue names any."""
        (row,) = await self._rows("current_routes")
        try:
            rules, meters = decode_routes(row["document"] or "[]")
            return FoundRoutes(rules, row["as_of"], meters)
        except ValueError as error:
            raise _unreadable("the route rules", error) from error

    async def changes_since(self, generation: int) -> Changes:
        """Return every change after `generation`; incomplete when there are more than `MOST_CHANGES`."""
        rows = await self._rows("changes_since", generation, MOST_CHANGES + 1)
        is_known = rows[0]["pruned_to"] <= generation <= rows[0]["newest"]
        changes = tuple(Change(row["generation"], row["subject"]) for row in rows if row["subject"] is not None)
        return Changes(changes[:MOST_CHANGES], is_known and len(changes) <= MOST_CHANGES)

    async def generation(self) -> int:
        """Return the number of the newest change, 0 when there is none."""
        (row,) = await self._rows("current_generation")
        newest: int = row["newest"]
        return newest

    async def note_used(self, tokens: Sequence[str]) -> None:
        """Note that these tokens (ids) were used about now."""
        await self._rows("note_used", list(tokens))

    async def note_first_uses(self, uses: Mapping[str, datetime]) -> Collection[str]:
        """Note when these subscriptions (ids) were first used; return those to be told again."""
        rows = await self._rows("note_first_uses", list(uses), list(uses.values()))
        return {row["id"] for row in rows}

    async def _rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        # Only what Postgres itself does is guarded: one row we cannot read is no outage.
        with self._breaker.guard(StoreUnavailableError(_DOWN)):
            async with acquire(self._pool, self._deadline_s, query.replace("_", " ")) as connection:
                rows: list[asyncpg.Record] = await connection.fetch(_SQL[query], *arguments)
                return rows


def _unreadable(what: str, error: ValueError) -> StoreUnavailableError:
    return StoreUnavailableError(f"{what} is {error}")
