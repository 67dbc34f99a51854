"""The license store in memory: for tests, simulations and trying things out.

Same promises as Postgres (tests/contract/test_license_store.py). Owns its licenses and their change log;
keeps nothing over a restart. For one event loop.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from tallygate.core.errors import StoreUnavailableError
from tallygate.licenses.license import License
from tallygate.licenses.routes import RouteRule
from tallygate.licenses.store import ROUTES_SUBJECT, Change, Changes, Found, FoundRoutes


class MemoryLicenseStore:
    """A LicenseStore; `is_available = False` makes every read fail, as a lost Postgres does."""

    def __init__(self) -> None:
        """Begin empty, at generation 0."""
        self.is_available = True
        self._licenses: dict[bytes, License] = {}
        self._rules: tuple[RouteRule, ...] = ()
        self._meters: Mapping[str, str | None] = {}
        self._changes: list[Change] = []
        self._newest = 0
        self._pruned_to = 0

    def put(self, digest: bytes, entry: License, *, subject: str | None = None) -> Change:
        """Store `entry` under `digest` as a change of `subject`, by default of its token."""
        self._licenses[digest] = entry
        return self.record_change(entry.token if subject is None else subject)

    def put_routes(self, rules: Sequence[RouteRule], meters: Mapping[str, str | None] | None = None) -> Change:
        """Put these route rules in force, with the parents of the meters they count by."""
        self._rules, self._meters = tuple(rules), meters or {}
        return self.record_change(ROUTES_SUBJECT)

    def record_change(self, subject: str) -> Change:
        """Give `subject` the next number of the change log."""
        self._newest += 1
        change = Change(self._newest, subject)
        self._changes.append(change)
        return change

    def prune(self, upto: int) -> None:
        """Forget the changes with numbers up to `upto`."""
        self._changes = [change for change in self._changes if change.generation > upto]
        self._pruned_to = max(self._pruned_to, min(upto, self._newest))

    async def find(self, digests: Sequence[bytes]) -> Found:
        """Return the license of the token stored under one of these digests."""
        self._require_available()
        known = (self._licenses[digest] for digest in digests if digest in self._licenses)
        return Found(next(known, None), self._newest)

    async def find_holder(self, family: str, subscription: str) -> License | None:
        """Return the license of any token of a family (id); None when it is not of this subscription (id)."""
        self._require_available()
        owned = (
            entry for entry in self._licenses.values() if (entry.family, entry.subscription) == (family, subscription)
        )
        return next(owned, None)

    async def note_first_uses(self, uses: Mapping[str, datetime]) -> Collection[str]:
        """Note when these subscriptions (ids) were first used; return those to be told again: none."""
        self._require_available()
        for digest, entry in self._licenses.items():
            at = uses.get(entry.subscription)
            if at is not None and (entry.first_used_at is None or at < entry.first_used_at):
                self._licenses[digest] = replace(entry, first_used_at=at)
        return ()

    async def routes(self) -> FoundRoutes:
        """Return the route rules in force."""
        self._require_available()
        return FoundRoutes(self._rules, self._newest, self._meters)

    async def changes_since(self, generation: int) -> Changes:
        """Return every change with a number above `generation`."""
        self._require_available()
        changes = tuple(change for change in self._changes if change.generation > generation)
        return Changes(changes, self._pruned_to <= generation <= self._newest)

    async def generation(self) -> int:
        """Return the number of the newest change."""
        self._require_available()
        return self._newest

    def _require_available(self) -> None:
        if not self.is_available:
            message = "the store was told to be unavailable"
            raise StoreUnavailableError(message)
