"""A breaker: when something does not answer, stop waiting for it, and look now and then.

Owns the decision whether to ask. Does not own what counts as a failure. After `failures` of them in a row it
refuses for `pause_s` after the last, then lets one call through, and so on until one is answered. For one
event loop; nothing here waits, and a call that never reports back only costs its own pause.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tallygate.core.errors import DependencyError


class Breaker:
    """Counts failures in a row. `monotonic` is its time, in seconds."""

    def __init__(self, monotonic: Callable[[], float], *, failures: int = 3, pause_s: float = 0.5) -> None:
        """Open after `failures` in a row; while open try once every `pause_s`."""
        self._monotonic = monotonic
        self._failures = failures
        self._pause_s = pause_s
        self._in_a_row = 0
        self._next_try_s = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether calls are refused, but for one now and then."""
        return self._in_a_row >= self._failures

    def may_ask(self) -> bool:
        """Return whether to ask now; a yes while open is the one try of this pause."""
        if not self.is_open:
            return True
        if self._monotonic() < self._next_try_s:
            return False
        self._pause()
        return True

    def answered(self) -> None:
        """Note an answer, even one that says no: close."""
        self._in_a_row = 0

    def failed(self) -> None:
        """Note that no answer came in time."""
        self._in_a_row += 1
        self._pause()

    @contextmanager
    def guard(self, refusal: DependencyError) -> Iterator[None]:
        """Run the block, or raise `refusal` at once; a DependencyError from the block is a failure.

        A cancelled block says nothing about the dependency: it is neither an answer nor a failure.
        """
        if not self.may_ask():
            raise refusal
        try:
            yield
        except DependencyError:
            self.failed()
            raise
        self.answered()

    def _pause(self) -> None:
        self._next_try_s = self._monotonic() + self._pause_s
