"""When a receiver that failed is called again: later each time, never all at once, and as it asks for. Pure."""

from collections.abc import Callable
from random import random

_FIRST_S, _MOST_S, _ASKED_MOST_S = 1.0, 300.0, 3600.0


class Pace:
    """Pauses that double from 1 s to 5 minutes, of which a half is chance; for as long as one export fails."""

    def __init__(self, chance: Callable[[], float] = random) -> None:
        """`chance` returns numbers from 0 to 1."""
        self._chance = chance
        self._next_s = _FIRST_S

    def after_failure(self, asked_s: float = 0) -> float:
        """Return the pause, in seconds; no shorter than the receiver `asked` for, up to an hour."""
        pause_s = self._next_s * (0.5 + self._chance() / 2)
        self._next_s = min(2 * self._next_s, _MOST_S)
        return max(pause_s, min(asked_s, _ASKED_MOST_S))

    def after_success(self) -> None:
        """Begin anew."""
        self._next_s = _FIRST_S
