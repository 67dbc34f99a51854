"""When calls have to be over: `grpc-timeout` read, and the calls under way, the late ones cancelled.

One timer serves all calls, for Envoy gives each the same fifth of a second and nearly all end well before: a timer
for each would cost more than the rest of the transport. A deadline is kept to within `_STEP_S`. Lives on one event
loop. Failure: CallError for a timeout that is none.
"""

import asyncio
import math
import re
from functools import lru_cache

from tallygate.transport.status import CallError, Status

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_STEP_S = 0.005
_OVERDUE = -math.inf
# A call ends this much before its caller gives up: an answer costs less than a reset on both sides, and h2corn closes
# a connection on which callers reset 200 calls within seconds.
_AHEAD, _MOST_AHEAD_S = 0.1, 0.02


def deadline_passed() -> CallError:
    """Return what a late call ends with."""
    return CallError(Status.DEADLINE_EXCEEDED, "the deadline has passed")


@lru_cache(maxsize=1024)
def seconds_of(timeout: bytes | None) -> float:
    """Return the seconds of a `grpc-timeout` such as `200m`, infinity for none.

    Raises CallError: INTERNAL for one that is malformed, DEADLINE_EXCEEDED for zero.
    """
    if timeout is None:
        return math.inf
    match = _TIMEOUT.fullmatch(timeout)
    if match is None:
        raise CallError(Status.INTERNAL, "grpc-timeout is malformed: write up to 8 digits and one of H M S m u n")
    seconds = int(match[1]) * _UNIT_S[match[2]]
    if not seconds:
        raise deadline_passed()
    return seconds


class CallsUnderWay:
    """The tasks that answer calls, and when each has to be over."""

    def __init__(self) -> None:
        """Start with none."""
        self._ends_at: dict[asyncio.Task[None], float] = {}
        self._looks_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, task: "asyncio.Task[None]", timeout_s: float) -> None:
        """Cancel `task` unless it ends within `timeout_s`, less a moment to tell the caller."""
        loop = task.get_loop()
        ends_at = self._ends_at[task] = loop.time() + max(timeout_s - _MOST_AHEAD_S, timeout_s * (1 - _AHEAD))
        if ends_at < self._looks_at:
            self._look_at(ends_at, loop)

    def end(self, task: "asyncio.Task[None]") -> None:
        """Let `task` be, if it was begun."""
        self._ends_at.pop(task, None)

    def is_overdue(self, task: "asyncio.Task[None]") -> bool:
        """Say whether `task` was cancelled because its time was up."""
        return self._ends_at.get(task) == _OVERDUE

    def cancel_all(self) -> None:
        """Cancel every call, as one that nobody waits for any more."""
        for task in list(self._ends_at):
            task.cancel()

    def _look_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = when
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, next_at = loop.time(), math.inf
        for task, ends_at in list(self._ends_at.items()):
            if ends_at == _OVERDUE:
                continue
            if ends_at <= now:
                self._ends_at[task] = _OVERDUE
                task.cancel()
            else:
                next_at = min(next_at, ends_at)
        self._timer, self._looks_at = None, math.inf
        if next_at < math.inf:
            self._look_at(max(next_at, now + _STEP_S), loop)
