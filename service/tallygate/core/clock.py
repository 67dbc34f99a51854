"""Time as a value that is passed in, so that tests move it by hand.

Owns: the `Clock` port, the system's clock, and the manual clock of tests and simulations.
Does not own: Redis time, which alone decides about counters (see `limits/lua/acquire.lua`).
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards; only differences mean anything."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, at: datetime) -> None:
        """Start at `at` (aware)."""
        self._at = at.astimezone(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the instant it stands at."""
        return self._at

    def monotonic(self) -> float:
        """Return seconds advanced so far; `set` does not change it."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both readings forward by `seconds`."""
        self._at += timedelta(seconds=seconds)
        self._monotonic += seconds

    def set(self, at: datetime) -> None:
        """Step the wall clock to `at`, backwards too, as NTP or an operator may."""
        self._at = at.astimezone(UTC)
