"""The port of the journal of slabs: what a worker holds, told to whoever comes after it.

A slab is entered before it is asked for, and its `counts` say at every moment what is left of it; so whoever finds the
entry of a worker that is no more can settle the slab as that worker would have. `NoJournal` remembers nothing.
"""

from typing import NamedTuple, Protocol

from tallygate.limits.amendment import Amendment


class Counts(Protocol):
    """Whole numbers by place."""

    def __setitem__(self, at: int, left: int, /) -> None:
        """Say what is left of the slab at this place."""
        ...


class Entry(Protocol):
    """A slab in the journal: `counts[at]` is what is left of it."""

    @property
    def counts(self) -> Counts:
        """Return the numbers of all slabs."""
        ...

    @property
    def at(self) -> int:
        """Return the place of this slab among them."""
        ...

    def clear(self) -> None:
        """Take it out, once it is settled."""
        ...


class Orphan(NamedTuple):
    """A slab of a worker that is no more: its terms for each request, and how many were spent and not."""

    entry: Entry
    terms: Amendment
    spent: int
    unspent: int


class Journal(Protocol):
    """The slabs of one worker, and those left behind by others."""

    @property
    def is_lasting(self) -> bool:
        """Say whether somebody will find what is entered."""
        ...

    def enter(self, terms: Amendment, size: int) -> Entry | None:
        """Enter a slab of so many requests, all unspent; None where there is no room, and it must not be taken."""
        ...

    def orphans(self) -> list[Orphan]:
        """Return slabs that were left behind; each belongs to who got it, and is found again until it is cleared."""
        ...

    def close(self) -> None:
        """End; what is not cleared by now was left behind."""
        ...


class NoJournal:
    """No journal: what a worker holds is gone with it."""

    is_lasting = False

    @property
    def counts(self) -> Counts:
        """Return what nobody reads."""
        return _NOWHERE

    at = 0

    def enter(self, terms: Amendment, size: int) -> Entry | None:  # noqa: ARG002 - the port's signature
        """Return an entry that is nowhere."""
        return self

    def clear(self) -> None:
        """Do nothing."""

    def orphans(self) -> list[Orphan]:
        """Return none."""
        return []

    def close(self) -> None:
        """Do nothing."""


_NOWHERE = [0]
