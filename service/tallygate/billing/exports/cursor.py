"""How far an export has come, and what was put aside or written on its way. Values only."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far an export has come.

    Entries up to `last_id` (None: it has not begun) were answered for or put aside. Up to `tried_id` they may have been
    sent, since `tried_at`, and nobody answered.
    """

    name: str
    last_id: int | None = None
    tried_id: int = 0
    tried_at: datetime | None = None
    is_paused: bool = False
    last_error: str = ""
    updated_at: datetime | None = None

    @property
    def tried_since(self) -> datetime | None:
        """Return since when entries may have been sent without an answer; None if there are none."""
        return self.tried_at if self.tried_id > (self.last_id or 0) else None


@dataclass(frozen=True, slots=True)
class Aside:
    """An entry that was put aside, and why; `is_uncertain` where the receiver may have it."""

    entry_id: int
    reason: str
    is_uncertain: bool = False
    is_due: bool = False
    put_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DayFile:
    """What a day's file holds: what was recorded that day up to `to_id`, and what came late, after `after_id`."""

    day: date
    after_id: int
    to_id: int
    rows: int | None = None
    sha256: str | None = None
    written_at: datetime | None = None
