"""The port of receivers: whoever is told of usage over HTTP.

Promises, the same for every adapter (tests/contract/test_export_receivers.py): an event is sent under the key of its
entry, the same each time; `SENT` and `REPEATED` are said only after the receiver's own answer; events after one that
has no answer may have been sent too, and are sent again; every call has a deadline, and nothing is raised for what a
receiver does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from tallygate.billing.exports.row import LedgerRow


class Fate(StrEnum):
    """What became of an event.

    `SENT`: the receiver has it. `REPEATED`: it had it before. `REFUSED`: it will never take it. `UNHEARD`: it certainly
    has not got it, and may take it later. `UNKNOWN`: it may have it.
    """

    SENT = "sent"
    REPEATED = "repeated"
    REFUSED = "refused"
    UNHEARD = "unheard"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Say whether nothing is left to do for it."""
        return self in {Fate.SENT, Fate.REPEATED, Fate.REFUSED}


@dataclass(frozen=True, slots=True)
class Event:
    """An entry as it is sent: `name` is what the receiver calls the meter, `subject` whose usage it is."""

    name: str
    subject: str
    row: LedgerRow


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an event, in the receiver's words where it has some; it may say when to come again."""

    fate: Fate
    text: str = ""
    retry_after_s: float = 0


class Receiver(Protocol):
    """Somebody who is told of usage, `batch` events at a time.

    `remembers` is for how long it knows an event again; None: for ever.
    """

    batch: int
    remembers: timedelta | None

    async def send(self, events: Sequence[Event]) -> Sequence[Answer]:
        """Tell it of these, in their order; return what became of each."""
        ...

    async def close(self) -> None:
        """Hang up; the next `send` connects again."""
        ...
