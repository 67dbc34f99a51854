"""A standing way to one Redis: calls wait here for their turn, go out together, and end in time.

Owns one pipelining connection at a time: making it, giving it up and making it again; the queue before it, its
bound, and every call's deadline. Does not own where Redis is (`redis_topology`) or what is asked.

While calls are under way, those that come meanwhile wait, and go in one write when the last reply is read: the
busier, the fewer writes for each call. Until a call is sent it may be cancelled, and nothing was sent. While
Redis answers others again and again, a call waits half of its time at most to be sent: sent late, it is charged and
helps nobody. One answer alone is not that: it ends a silence, and whoever waited for it is sent.

One timer watches all deadlines. When it finds some passed it first lets the loop read what has arrived: a loop
that was stalled wakes its timers before it reads, and the replies may be there.

Failure: every answer is a value; LimiterUnavailableError when Redis is silent, absent, loading, busy or
read-only; OverloadedError when the queue is full, or a turn does not come while Redis does answer: then it is
us. The breaker opens on the former alone, and paces new attempts to connect. A connection that owes a reply for
`PATIENCE` deadlines is given up; until then late replies are read and dropped. No call is sent twice.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeAlias

from tallygate.core.errors import DependencyError, LimiterUnavailableError, OverloadedError
from tallygate.storage.breaker import Breaker
from tallygate.storage.redis_pipeline import Answer, Call, Pipeline, ReplyError, pack_command

PATIENCE = 4
"""A connection is given up after so many deadlines without the reply it owes, and so is an attempt to connect."""

Address: TypeAlias = tuple[str, int]
"""Host and port."""

_SILENT = "redis does not answer: "
_TIDY_S = 0.001
"""So often at most the queue is searched for calls nobody waits for."""
_DOWN = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"})
"""Refusals of a server that is not fit to count now; nothing ran."""


def _breaker() -> Breaker:
    return Breaker(monotonic, failures=10, pause_s=0.25)


def _unheard(calls: int) -> None:
    """Take the size of a batch and do nothing with it."""


@dataclass(frozen=True, slots=True)
class LinkTerms:
    """How to talk to each server.

    `deadline_s` is what callers wait as a rule, and the measure of our own patience. `max_in_flight` calls wait or
    are under way, `max_batch` of them at most go in one write. `breaker` makes one for each server; `on_batch`
    hears how many calls each write had.
    """

    deadline_s: float = 0.05
    max_in_flight: int = 1024
    max_batch: int = 128
    breaker: Callable[[], Breaker] = _breaker
    on_batch: Callable[[int], None] = _unheard
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None


class RedisLink:
    """Asks one server, wherever `find` says that it is."""

    def __init__(self, find: Callable[[], Awaitable[Address]], terms: LinkTerms) -> None:
        """Connect when first asked, and then to what `find` returns; its errors are OSError or DependencyError."""
        self._find = find
        self._terms = terms
        self._breaker = terms.breaker()
        self._unsent: deque[Call] = deque()
        self._pipeline: Pipeline | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_awake = False  # something will send what is unsent: a flush to come, a reply, a connection
        self._is_closed = False
        self._heard_at_s = self._heard_before_s = self._tidied_at_s = 0.0

    def ask(self, command: bytes, ends_s: float, *, is_asking: bool = False) -> "asyncio.Future[Answer]":
        """Send a finished command; what it comes to is the future's result, errors too, by `ends_s` at the latest.

        `ends_s` is an instant of `time.monotonic`. Raises OverloadedError when too many calls are in flight, and
        LimiterUnavailableError when the breaker is open: nothing was sent then.
        """
        loop, now_s = self._loop, monotonic()
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        if self._is_full():
            self._tidy(now_s)
            if self._is_full():
                raise OverloadedError(f"{self._terms.max_in_flight} calls to redis are in flight")
        if self._is_closed or not self._breaker.may_ask():
            raise LimiterUnavailableError("redis does not answer; it is tried again shortly")
        future: asyncio.Future[Answer] = loop.create_future()
        self._unsent.append(Call(command, future, now_s, ends_s, is_asking))
        if self._timer is None:
            self._watch(self._terms.deadline_s / 2)
        if not self._is_awake:
            self._is_awake = True
            loop.call_soon(self._flush)
        return future

    def hang_up(self) -> None:
        """End the connection, and find the server anew for the next call; what is under way fails."""
        if self._pipeline is not None:
            self._pipeline.abort()

    async def close(self) -> None:
        """Give calls in flight the deadline to end, then cut them off."""
        self._is_closed = True
        if waiting := [call.future for call in self._in_flight() if not call.future.done()]:
            await asyncio.wait(waiting, timeout=self._terms.deadline_s)
        _tell(self._unsent, "redis is not asked any more: its connection was closed")
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        if self._pipeline is not None:
            self._pipeline.abort()
            await self._pipeline.ended
        if self._timer is not None:
            self._timer.cancel()

    def refused(self, pipeline: Pipeline, error: ReplyError) -> Answer:
        """Hear a refusal: of this call, or of all that comes."""
        kind = str(error).partition(" ")[0]
        if kind not in _DOWN:
            self._answered()
            return error
        self._breaker.failed()
        if kind == "READONLY":  # a replica now; whoever is master is found when we connect again
            pipeline.abort()
        return LimiterUnavailableError(f"{_SILENT}{error}")

    def heard(self, pipeline: Pipeline, *, is_answer: bool) -> None:
        """Hear of replies, late ones too."""
        if is_answer:
            self._answered()
        if pipeline is self._pipeline and pipeline.has_room:
            self._go_on()

    def lost(self, pipeline: Pipeline, error: Exception | None) -> None:
        """Tell those who await a reply; those not yet sent go over the next connection."""
        reason = str(error) if error else "the connection was closed"
        if _tell(pipeline.awaited, f"{_SILENT}{reason}", is_sent=True):
            self._breaker.failed()
        if pipeline is self._pipeline:
            self._pipeline = None
            self._go_on()

    def _answered(self) -> None:
        self._breaker.answered()
        self._heard_before_s, self._heard_at_s = self._heard_at_s, monotonic()

    def _is_full(self) -> bool:
        under_way = 0 if self._pipeline is None else len(self._pipeline.awaited)
        return len(self._unsent) + under_way >= self._terms.max_in_flight

    def _tidy(self, now_s: float) -> None:
        """Forget those unsent whom nobody waits for any more, but do not look for them at each call."""
        if now_s - self._tidied_at_s >= _TIDY_S:
            self._tidied_at_s = now_s
            self._unsent = deque(call for call in self._unsent if not call.future.done())

    def _go_on(self) -> None:
        """Send what is unsent once those who were just answered had their turn to ask again."""
        self._is_awake = bool(self._unsent)
        if self._unsent and self._loop is not None:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        pipeline = self._pipeline
        if pipeline is None:
            if self._connecting is None and self._unsent:
                self._connecting = asyncio.create_task(self._connect())
            return
        while pipeline.has_room and (batch := self._next_batch()):
            pipeline.send(batch)
            self._terms.on_batch(len(batch))
        self._is_awake = not pipeline.has_room

    def _next_batch(self) -> list[Call]:
        """Take the next calls that somebody still waits for and that are not too late."""
        batch: list[Call] = []
        unsent, now_s, largest = self._unsent, monotonic(), self._terms.max_batch
        while unsent and len(batch) < largest:
            call = unsent.popleft()
            if call.future.done():
                continue
            if self._turn_ends_s(call) <= now_s:
                call.future.set_result(self._in_vain(call, is_sent=False))
            else:
                batch.append(call)
        return batch

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE * self._terms.deadline_s):
                self._pipeline = await self._connected()
        except (OSError, DependencyError, ReplyError) as error:  # TimeoutError is an OSError
            self._breaker.failed()
            reason = str(error).removeprefix(_SILENT) or type(error).__name__
            _tell(self._unsent, f"{_SILENT}{reason}")
        finally:
            self._connecting = None
            self._go_on()

    async def _connected(self) -> Pipeline:
        """Return a connection, logged in and in its database."""
        host, port = await self._find()
        loop, terms = asyncio.get_running_loop(), self._terms
        _, pipeline = await loop.create_connection(lambda: Pipeline(self), host, port, ssl=terms.tls)
        try:
            for command in _greeting(terms):
                now_s, future = monotonic(), loop.create_future()
                pipeline.send([Call(command, future, now_s, now_s, is_asking=False)])
                _agreed(await future)
            _agreed(ConnectionResetError("it closed the connection") if pipeline.ended.done() else None)
        except BaseException:
            pipeline.abort()
            raise
        return pipeline

    def _in_flight(self) -> list[Call]:
        return [*(() if self._pipeline is None else self._pipeline.awaited), *self._unsent]

    def _watch(self, delay_s: float) -> None:
        if self._loop is not None and not self._is_closed:
            self._timer = self._loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        """Let the loop read what has arrived, which takes it two turns, and then see who waited in vain."""
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._judge, monotonic())

    def _judge(self, at_s: float) -> None:
        """End the calls whose time was over at `at_s`; give up a connection that owes too long."""
        terms, pipeline = self._terms, self._pipeline
        next_s = [at_s + terms.deadline_s / 2]
        if pipeline is not None and pipeline.awaited:
            gives_up_s = pipeline.owed_since_s + PATIENCE * terms.deadline_s
            next_s.append(gives_up_s)
            if gives_up_s <= at_s:
                pipeline.abort()
            next_s += self._end(pipeline.awaited, at_s, is_sent=True)
        next_s += self._end(self._unsent, at_s, is_sent=False)
        self._timer = None
        self._tidy(at_s)
        if self._unsent or (pipeline is not None and pipeline.awaited):
            self._watch(max(min(next_s) - monotonic(), terms.deadline_s / 32))

    def _end(self, calls: Iterable[Call], at_s: float, *, is_sent: bool) -> list[float]:
        """End those whose time is over; return when that of the others is."""
        left: list[float] = []
        for call in calls:
            if not call.future.done():
                ends_s = call.ends_s if is_sent else self._turn_ends_s(call)
                if ends_s <= at_s:
                    call.future.set_result(self._in_vain(call, is_sent=is_sent))
                else:
                    left.append(ends_s)
        return left

    def _turn_ends_s(self, call: Call) -> float:
        """Return until when a call may be sent."""
        return call.ends_s if self._heard_before_s <= call.began_s else (call.began_s + call.ends_s) / 2

    def _in_vain(self, call: Call, *, is_sent: bool) -> DependencyError:
        """Return the error of a wait in vain; it speaks against Redis if nobody else had a reply meanwhile."""
        if self._heard_at_s <= call.began_s:
            self._breaker.failed()
        elif not is_sent and self._heard_before_s > call.began_s:
            return OverloadedError("calls to redis wait too long for their turn")
        waited_ms = (call.ends_s - call.began_s) * 1000
        return LimiterUnavailableError(f"redis did not answer within {waited_ms:.0f} ms", may_have_run=is_sent)


def _tell(calls: deque[Call], problem: str, *, is_sent: bool = False) -> int:
    """Take all calls and tell those who still wait; return how many."""
    told = 0
    for call in calls:
        if not call.future.done():
            call.future.set_result(LimiterUnavailableError(problem, may_have_run=is_sent))
            told += 1
    calls.clear()
    return told


def _agreed(answer: Answer) -> None:
    if isinstance(answer, Exception):
        raise answer


def _greeting(terms: LinkTerms) -> list[bytes]:
    """Return what a new connection says first."""
    login = [part for part in (terms.username, terms.password) if part is not None]
    said = [pack_command(("AUTH", *login))] if terms.password is not None else []
    return [*said, pack_command(("SELECT", terms.database))] if terms.database else said
