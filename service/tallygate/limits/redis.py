"""The limiter in Redis: one script call decides every limit of a request.

Owns how the script is called: in which order, for how long, and what is done when Redis does not answer. Does
not own connections (`storage/redis.py`), the calls' layout (`script.py`) or counting (`lua/acquire.lua`).

A call first waits its turn, since a connection serves one at a time; until then it may be cancelled and
nothing was sent. Then it runs in a task of its own that is never cancelled: a caller that is cancelled or
whose deadline passes just leaves, and the task reads its reply to the end and drops it. So no reply can be
taken for the answer to another call. Tasks end by the client's socket timeouts.

Failure: OverloadedError when too many calls are in flight, or a turn does not come while Redis does answer:
then it is us. LimiterUnavailableError for everything else, at once while the breaker is open; it opens when
Redis is silent, not when it is asked more than it can do. Nothing is sent twice unless it did not run.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar, cast

from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from tallygate.core.clock import Clock, SystemClock
from tallygate.core.errors import LimiterUnavailableError, OverloadedError
from tallygate.limits.algorithms import instant
from tallygate.limits.limiter import Acquisition, Subject, Verdict
from tallygate.limits.present import Present
from tallygate.limits.script import (
    Call,
    Mode,
    Scripts,
    first_use_request,
    release_request,
    request,
    stale_at_us,
    verdict,
)
from tallygate.storage.breaker import Breaker
from tallygate.storage.redis import DEFAULT_CONNECTIONS, RedisClient

_TRIES = 3
_FIRST_PART = 0.8
_SCRIPTS = Scripts()

_Answer = TypeVar("_Answer")
_Asking: TypeAlias = Callable[[], Awaitable[_Answer]]


def _unobserved(duration_s: float) -> None:
    """Take a duration and do nothing with it."""


class RedisLimiter:
    """Counters in Redis, shared by every worker of every replica."""

    def __init__(
        self,
        client: RedisClient,
        *,
        deadline_s: float = 0.05,
        max_in_flight: int = 1024,
        max_talking: int = DEFAULT_CONNECTIONS,
        clock: Clock | None = None,
        breaker: Breaker | None = None,
        observe: Callable[[float], None] = _unobserved,
        scripts: Scripts = _SCRIPTS,
    ) -> None:
        """Ask `client`, which must not retry by itself and must have socket timeouts.

        A caller waits `deadline_s` at most, up to half of it for its turn among `max_talking`, which should be
        the client's connections. `observe` hears how many seconds each call took that was answered. The clock
        only guesses the present period; Redis corrects the guess.
        """
        self._client = client
        self._deadline_s = deadline_s
        self._max_in_flight = max_in_flight
        self._turns = asyncio.Semaphore(max_talking)
        self._waiting = 0
        self._replies = 0
        self._clock = clock or SystemClock()
        self._breaker = breaker or Breaker(self._clock.monotonic, failures=10, pause_s=0.25)
        self._observe = observe
        self._scripts = scripts
        self._present = Present(self._clock)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge or none."""
        return await self._ask(lambda: self._until_fresh("acquire", acquisition))

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say what `acquire` would answer now, and change nothing."""
        return await self._ask(lambda: self._until_fresh("peek", acquisition))

    async def release(self, subject: Subject, request_id: str) -> None:
        """End the request's holds on all its concurrency limits."""
        await self._ask(lambda: self._run(self._scripts.release, release_request(subject, request_id)))

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        """Return when the subject's subscription was first used: now, unless it was before."""
        asked = first_use_request(subject, is_look=is_look)
        at_us: int | None = await self._ask(lambda: self._run(self._scripts.first_use, asked))
        return None if at_us is None else instant(at_us)

    async def close(self) -> None:
        """Give calls under way the deadline to end, then cut them off; the client is its maker's to close."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=self._deadline_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _ask(self, ask: _Asking[_Answer]) -> _Answer:
        if self._waiting + len(self._under_way) >= self._max_in_flight:
            message = f"{self._max_in_flight} calls to redis are in flight"
            raise OverloadedError(message)
        if not self._breaker.may_ask():
            message = "redis does not answer; it is tried again shortly"
            raise LimiterUnavailableError(message)
        replies, time_s = self._replies, asyncio.get_running_loop().time
        ends_s = time_s() + self._deadline_s
        if self._turns.locked():
            await self._wait_for_turn(replies)
        else:
            await self._turns.acquire()  # at once
        task = asyncio.create_task(self._converse(ask))
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        # In two parts: a loop that was stalled wakes this timer before it reads the replies that came
        # meanwhile, and the second part lets it read them.
        left_s = max(ends_s - time_s(), self._deadline_s / 2)
        for part in (_FIRST_PART, 1 - _FIRST_PART):
            done, _ = await asyncio.wait({task}, timeout=left_s * part)
            if done and not task.cancelled():
                return task.result()
        raise self._silence(replies)

    async def _wait_for_turn(self, replies: int) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(self._deadline_s / 2):
                await self._turns.acquire()
        except TimeoutError:
            if self._replies == replies:
                raise self._silence(replies) from None
            message = "calls to redis wait too long for their turn"
            raise OverloadedError(message) from None
        finally:
            self._waiting -= 1

    def _silence(self, replies: int) -> LimiterUnavailableError:
        """Return the error of a wait in vain; it speaks against Redis if nobody else had a reply meanwhile."""
        if self._replies == replies:
            self._breaker.failed()
        return LimiterUnavailableError(f"redis did not answer within {self._deadline_s * 1000:.0f} ms")

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._turns.release()
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # read, so that a call nobody waits for any more fails in silence

    async def _converse(self, ask: _Asking[_Answer]) -> _Answer:
        started_s = self._clock.monotonic()
        try:
            answer = await ask()
        except ResponseError as error:
            self._heard()
            message = f"redis refuses: {error}"
            raise LimiterUnavailableError(message) from error
        except (RedisError, RedisClusterException, OSError) as error:
            self._breaker.failed()
            message = f"redis does not answer: {error}"
            raise LimiterUnavailableError(message) from error
        self._heard()
        self._observe(self._clock.monotonic() - started_s)
        return answer

    def _heard(self) -> None:
        """Note a reply, a late one or a refusal too."""
        self._replies += 1
        self._breaker.answered()

    async def _until_fresh(self, mode: Mode, acquisition: Acquisition) -> Verdict:
        for _ in range(_TRIES):
            reply: list[int] = await self._run(self._scripts.acquire, request(mode, acquisition, self._present))
            self._present.correct(reply[1])
            if stale_at_us(reply) is None:
                return verdict(acquisition, reply)
        message = f"redis's clock left the period {_TRIES} times in a row"
        raise LimiterUnavailableError(message)

    async def _run(self, script: str, call: Call) -> Any:  # noqa: ANN401 - each script has a reply of its own
        try:
            return await self._send(self._client.evalsha, _sha(script), call)
        except NoScriptError:  # nothing ran: a restarted or flushed server
            return await self._send(self._client.eval, script, call)

    async def _send(self, command: Callable[..., object], script: str, call: Call) -> object:
        keys, arguments = call
        # redis-py's hints unite its synchronous and asynchronous clients; this is the asynchronous one.
        return await cast("Awaitable[object]", command(script, len(keys), *keys, *arguments))


@lru_cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
