"""What a round of an export came to."""

from dataclasses import dataclass
from datetime import datetime

from tallygate.billing.exports.parts import Outcome


@dataclass(slots=True)
class Round:
    """What a round came to: entries by what became of them, and files.

    `problem` is what ended it early; the receiver may have asked for a pause. `oldest_at` is when the first entry
    that is left was recorded; `asides` are put aside by now, from this round and from others.
    """

    sent: int = 0
    repeated: int = 0
    aside: int = 0
    skipped: int = 0
    files: int = 0
    asides: int = 0
    problem: str = ""
    retry_after_s: float = 0
    oldest_at: datetime | None = None
    is_others_turn: bool = False
    is_paused: bool = False

    def count(self, came: Outcome) -> None:
        """Add what a call came to."""
        self.sent += came.sent
        self.repeated += came.repeated
        self.aside += len(came.asides)
        self.skipped += came.skipped
        if came.failure is not None:
            self.problem = came.failure.text or "no answer"
            self.retry_after_s = came.failure.retry_after_s
