"""The port of the licenses: reading them, and reading what changed.

Every change of anything a license is made from gets the next number of one sequence, the *generation*,
inside the transaction that makes it; numbers become visible in their own order. So a read that answers
`as_of=n` has seen every change up to n and can be compared with a notification about change m.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tallygate.licenses.license import License
from tallygate.licenses.routes import RouteRule

ROUTES_SUBJECT = "routes"


@dataclass(frozen=True, slots=True)
class Found:
    """A license, or that there is none, and the generation the read has seen."""

    license: License | None
    as_of: int


@dataclass(frozen=True, slots=True)
class FoundRoutes:
    """The route rules in force, in order, the generation the read has seen, and the parent of each declared meter."""

    rules: tuple[RouteRule, ...]
    as_of: int
    meters: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """Change number `generation` touched `subject`: an id of a customer, subscription, family or token, or `routes`."""

    generation: int
    subject: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed after a generation, oldest first.

    `is_complete` False: the log no longer reaches back that far, and everything read before is suspect.
    """

    changes: tuple[Change, ...]
    is_complete: bool


class LicenseStore(Protocol):
    """Where licenses are read. Every method raises StoreUnavailableError within its deadline."""

    async def find(self, digests: Sequence[bytes]) -> Found:
        """Return the license of the token stored under one of these digests (32 bytes each)."""
        ...

    async def routes(self) -> FoundRoutes:
        """Return the route rules in force."""
        ...

    async def changes_since(self, generation: int) -> Changes:
        """Return every change with a number above `generation`."""
        ...

    async def generation(self) -> int:
        """Return the number of the newest change, 0 when there is none."""
        ...
