"""One pipelining connection to Redis: many calls in one write, replies handed out in the order of the calls.

Owns the bytes of one connection and the queue of calls that await a reply on it. Does not own connecting
again, deadlines or what a refusal means (`redis_link`). redis-py spends 60 to 120 us of CPU on a command; this
spends a few, for there is no task, timer or lock for a call, only its future.

A call leaves the queue when its own reply is read, not before. A caller that was cancelled or told that its
time is over has a future that is done: its reply is read and dropped, and never taken for another call's.

Concurrency: one event loop. Failure: bytes that are no reply, or a reply nobody asked for, end the connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple, Protocol, TypeAlias, cast

import hiredis

ReplyError = hiredis.ReplyError
"""A reply that says no; `str` is Redis's own text, and its first word the kind: `NOSCRIPT`, `MOVED`, `ERR`."""

Answer: TypeAlias = object
"""What a call comes to: bytes, an integer, None, a list of them; or an exception, as a value and not raised, so
that an answer nobody waits for any more is nobody's error."""

pack_command = cast("Callable[[tuple[bytes | str | int, ...]], bytes]", hiredis.pack_command)
"""Return a command, given as its parts, in the form Redis reads (RESP): text in UTF-8, integers in decimal."""

_ASKING = pack_command(("ASKING",))


class Call(NamedTuple):
    """A command, whom to tell, and its time: two instants of `time.monotonic`.

    `is_asking` lets a node run it that only takes over its slot: `ASKING` goes before it, in the same write.
    """

    command: bytes
    future: "asyncio.Future[Answer]"
    began_s: float
    ends_s: float
    is_asking: bool


class Listener(Protocol):
    """Who hears what becomes of a connection."""

    def refused(self, pipeline: "Pipeline", error: ReplyError) -> Answer:
        """Hear a refusal; return what the caller is told."""
        ...

    def heard(self, pipeline: "Pipeline", *, is_answer: bool) -> None:
        """Hear that replies came, and whether one of them was no refusal."""
        ...

    def lost(self, pipeline: "Pipeline", error: Exception | None) -> None:
        """Hear, once, that the connection is over; `awaited` holds whom nobody will answer."""
        ...


class Pipeline(asyncio.Protocol):
    """A connection and the calls that await a reply on it."""

    def __init__(self, listener: Listener) -> None:
        """Take who listens. `asyncio` connects it."""
        self.awaited: deque[Call] = deque()
        self.owed_since_s = monotonic()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listener = listener
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._is_paused = False

    @property
    def has_room(self) -> bool:
        """Return whether to send: nothing is under way, and what was written has left."""
        return not self.awaited and not self._is_paused

    def send(self, calls: Sequence[Call]) -> None:
        """Send calls in one write. Raise ConnectionResetError when the connection is over: nothing was sent."""
        if self._transport is None:
            raise ConnectionResetError("the connection was closed")
        if not self.awaited:
            self.owed_since_s = monotonic()
        commands = []
        for call in calls:
            if call.is_asking:
                commands.append(_ASKING)
                self.awaited.append(_nobodys(call))
            commands.append(call.command)
            self.awaited.append(call)
        self._transport.write(b"".join(commands))

    def abort(self) -> None:
        """End the connection now; what was written and not sent is gone."""
        self._is_paused = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand out the replies in `data`; asyncio calls this."""
        self.owed_since_s = monotonic()
        is_answer = False
        next_call, next_reply = self.awaited.popleft, self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := next_reply()) is not False:
                future = next_call().future
                if reply.__class__ is ReplyError:
                    reply = self._listener.refused(self, reply)
                else:
                    is_answer = True
                if not future.done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):  # no reply, or one nobody asked for
            self.abort()
            return
        self._listener.heard(self, is_answer=is_answer)

    def pause_writing(self) -> None:
        """Send no more for now; asyncio calls this."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Send again; asyncio calls this."""
        self._is_paused = False
        self._listener.heard(self, is_answer=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; asyncio calls this."""
        self._transport = None
        self.ended.set_result(None)
        self._listener.lost(self, exc)


def _nobodys(call: Call) -> Call:
    """Return a call whose reply is read and dropped."""
    dropped: asyncio.Future[Answer] = call.future.get_loop().create_future()
    dropped.cancel()
    return call._replace(future=dropped)
