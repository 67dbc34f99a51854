"""When a subscription was first used: what a trial that begins with the first request is counted from.

The counter store keeps the instant of the first request that was allowed; this process remembers it. Only
licenses with such a trial ask. While the store does not answer, the trial goes on.
"""

from datetime import datetime

from tallygate.core.errors import DependencyError
from tallygate.licenses.license import License
from tallygate.limits.limiter import Limiter, Subject

_REMEMBERED = 100_000


class FirstUse:
    """Asks the counter store, and once it knows, never again."""

    def __init__(self, limiter: Limiter) -> None:
        """Ask `limiter`."""
        self._limiter = limiter
        self._known: dict[str, datetime] = {}

    async def of(self, token_license: License) -> datetime | None:
        """Return when the license's subscription was first used; None if it was not, or no trial depends on it."""
        if token_license.terms.first_use is None:
            return None
        known = self._known.get(token_license.subscription)
        return known if known is not None else await self._ask(token_license, is_look=True)

    async def begin(self, token_license: License) -> None:
        """Take a request that was allowed for the first use, unless there was one before."""
        if token_license.terms.first_use is not None and token_license.subscription not in self._known:
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
        return at
