"""How often a caller may ask: Tallygate's own limiter, counting admin keys and the addresses of strangers.

Owns the answer when it is too often. When the counter store is away, this process counts for itself: an
operator must be able to revoke a token all the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from tallygate.admin.rest.problems import Problem
from tallygate.core.errors import DependencyError
from tallygate.limits.limit import CountedPer, FailPolicy, Limit, LimitKind
from tallygate.limits.limiter import Acquisition, Charge, Limiter, LimitState, Subject, Verdict

Fields = Callable[[Sequence[LimitState]], Mapping[str, str]]
_TOO_OFTEN = "https://iana.org/assignments/http-problem-types#quota-exceeded"


@dataclass(frozen=True, slots=True)
class Throttle:
    """Counts requests; `fields` writes the RateLimit headers. `local` stands in for `limiter` while it is away."""

    limiter: Limiter
    local: Limiter
    fields: Fields
    per_key: Limit
    per_address: Limit

    async def charge_key(self, key_id: str) -> Mapping[str, str]:
        """Count a request of an admin key; return the headers to answer with, or raise Problem (429)."""
        return await self._charge(f"admin:{key_id}", self.per_key)

    async def charge_address(self, address: str) -> Mapping[str, str]:
        """Count a request of somebody unknown; return the headers to answer with, or raise Problem (429)."""
        return await self._charge(f"admin:{address}", self.per_address)

    async def _charge(self, who: str, limit: Limit) -> Mapping[str, str]:
        verdict = await self._acquire(Acquisition(Subject(who, who, who), (Charge(limit, 1),)))
        headers = self.fields(verdict.states)
        if verdict.is_admitted:
            return headers
        wait_s = max(1, verdict.states[0].retry_after_s or 1)
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Too many requests.",
            slug=_TOO_OFTEN,
            headers={**headers, "Retry-After": str(wait_s)},
            members={"violated-policies": [limit.name], "retry_after_s": wait_s},
        )

    async def _acquire(self, acquisition: Acquisition) -> Verdict:
        try:
            return await self.limiter.acquire(acquisition)
        except DependencyError:
            return await self.local.acquire(acquisition)


def requests_per_second(name: str, amount: int, *, burst: int) -> Limit:
    """Return a limit of `amount` requests a second, and `burst` times as many at once."""
    return Limit(
        name,
        LimitKind.RATE,
        amount,
        per=CountedPer.CUSTOMER,
        window_us=1_000_000,
        burst=amount * burst,
        fail=FailPolicy.LOCAL,
    )
