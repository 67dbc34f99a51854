"""When a subscription was first used: what a trial that begins with the first request is counted from.

The license has the instant once the database was told. Until then the counter store has it, from the first
request that was allowed on; this process remembers it and hands it on (`licenses/first_used`). Only licenses
with such a trial ask. While the store does not answer, the trial goes on.
"""

from datetime import datetime

from tallygate.core.errors import DependencyError
from tallygate.licenses.first_used import FirstUses
from tallygate.licenses.license import License
from tallygate.limits.limiter import Acquirer, Subject

_REMEMBERED = 100_000


class FirstUse:
    """Looks at the license, asks the counter store, and once it knows, never again."""

    def __init__(self, limiter: Acquirer, uses: FirstUses) -> None:
        """Ask `limiter`, and note in `uses` what the license does not have."""
        self._limiter = limiter
        self._uses = uses
        self._known: dict[str, datetime] = {}

    async def of(self, token_license: License) -> datetime | None:
        """Return when the license's subscription was first used; None if it was not, or no trial depends on it."""
        if token_license.terms.first_use is None:
            return None
        if token_license.first_used_at is not None:
            self._uses.settle(token_license.subscription)
            return token_license.first_used_at
        known = self._known.get(token_license.subscription)
        if known is None:
            return await self._ask(token_license, is_look=True)
        self._uses.note(token_license.subscription, known)
        return known

    async def begin(self, token_license: License) -> None:
        """Take a request that was allowed for the first use, unless there was one before."""
        is_waiting = token_license.terms.first_use is not None and token_license.first_used_at is None
        if is_waiting and token_license.subscription not in self._known:
            await self._ask(token_license, is_look=False)

    async def _ask(self, token_license: License, *, is_look: bool) -> datetime | None:
        subject = Subject(token_license.customer, token_license.subscription, token_license.family)
        try:
            at = await self._limiter.first_used_at(subject, is_look=is_look)
        except DependencyError:
            return None
        if at is not None:
            if len(self._known) >= _REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[token_license.subscription] = at
            self._uses.note(token_license.subscription, at)
        return at
