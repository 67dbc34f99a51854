"""The reference, continued: how concurrency counts. `lua/acquire.lua` must say the same.

A request takes one slot, whatever it costs (a cost of 0 takes none), until it is released or `hold_s` seconds
have passed. Kept is when it began, in µs since 1970, by request: a sorted set in Redis, a record here. How
long it counts is the limit's present word, and a step of the clock counts as time passed, as for a rate.

A request with an idempotency key is held under it and can be released. One without is numbered within its
microsecond, and only time ends it. Pure.
"""

from collections.abc import Mapping

from tallygate.limits.keys import EXPIRY_FIELD, Place
from tallygate.limits.limit import Limit

_SECOND_US = 1_000_000


class Slots:
    """The requests that hold a concurrency limit."""

    def __init__(self, limit: Limit, place: Place, record: Mapping[str, str], now_us: int) -> None:
        """Read the set; `place.field` is the request's own member, empty for one without an id."""
        self._limit = limit
        self._place = place
        self._now_us = now_us
        self._hold_us = limit.hold_s * _SECOND_US
        began_us = {member: int(at) for member, at in record.items() if member != EXPIRY_FIELD}
        self._ended = [member for member, at_us in began_us.items() if abs(now_us - at_us) >= self._hold_us]
        self._members = began_us.keys() - self._ended
        self._began_us = sorted(began_us[member] for member in self._members)

    @property
    def writes(self) -> Mapping[Place, str | None]:
        """Return the request's own beginning, and the removal of all that ended."""
        key = self._place.key
        return {
            **{Place(key, member): None for member in self._ended},
            Place(key, self._place.field or self._numbered()): str(self._now_us),
        }

    @property
    def needed_until_us(self) -> int | None:
        """Return when this request's hold ends."""
        return self._now_us + self._hold_us

    @property
    def remaining(self) -> int:
        """Return the free slots."""
        return max(0, self._limit.amount - len(self._began_us))

    @property
    def reset_us(self) -> int | None:
        """Return the time after which a slot more is free even if nothing is released."""
        beyond = max(0, len(self._began_us) - self._limit.amount)
        if beyond >= len(self._began_us):
            return None
        return self._began_us[beyond] + self._hold_us - self._now_us

    def fits(self, cost: int) -> bool:
        """Return whether a slot is free."""
        return cost == 0 or len(self._began_us) < self._limit.amount

    def over(self, cost: int) -> int:  # noqa: ARG002 - the port's signature
        """Return 0: concurrency has no overage."""
        return 0

    def retry_us(self, cost: int) -> int | None:  # noqa: ARG002 - the port's signature
        """Return the time after which a slot is free even if nothing is released."""
        return self.reset_us

    def take(self, cost: int) -> None:  # noqa: ARG002 - the port's signature
        """Take one slot."""
        self._began_us = sorted([*self._began_us, self._now_us])

    def _numbered(self) -> str:
        number = 1
        while f"t:{self._now_us}:{number}" in self._members:
            number += 1
        return f"t:{self._now_us}:{number}"
