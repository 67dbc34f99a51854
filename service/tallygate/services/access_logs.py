"""Envoy's access log service: each stream is read to its end, and every outcome is put where it is settled.

Owns reading a stream. Does not own Envoy's messages (`envoy/access_log` reads them) nor the queue (`settlements`).
Bounded: one message of a stream is in work at a time, and the next is not read before its entries have found room.
Failure: a message that cannot be read ends its stream with an InputError.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from tallygate.decision.outcomes import Outcome

Read = Callable[[bytes], Iterable[Outcome | None]]
Put = Callable[[Outcome | None], Awaitable[None]]


class AccessLogs:
    """Answers StreamAccessLogs."""

    def __init__(self, read: Read, put: Put) -> None:
        """Take what reads the entries of a message, and what takes them on."""
        self._read = read
        self._put = put

    async def __call__(self, messages: AsyncIterator[bytes]) -> bytes:
        """Read until the stream ends; return the answer, which is empty."""
        async for message in messages:
            for outcome in self._read(message):
                await self._put(outcome)
        return b""
