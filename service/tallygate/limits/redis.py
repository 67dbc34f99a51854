"""The limiter in Redis: one script call decides every limit of a request.

Owns how the scripts are called, and what is done when Redis does not answer. Does not own connections, batches
and deadlines (`storage/redis_link.py`), the calls' layout (`script.py`) or counting (`lua/acquire.lua`).

Calls of a worker share round trips: what is asked while others are under way goes in one write after them.
A call has its place among the replies whatever happens to its caller, so no reply answers another call.

Failure: OverloadedError when too many calls are in flight, or one waits too long to be sent while Redis does
answer: then it is us. LimiterUnavailableError for everything else, at once while the breaker is open; it opens
when Redis is silent, not when it is asked more than it can do. One call's failure is nobody else's. Nothing is
sent twice unless it did not run.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, TypeAlias

from tallygate.core.clock import Clock, SystemClock
from tallygate.core.errors import LimiterUnavailableError
from tallygate.limits.algorithms import instant
from tallygate.limits.amend_script import AMEND_OUTCOMES, amend_request
from tallygate.limits.amendment import Amendment, AmendOutcome
from tallygate.limits.judgement import needed_id, reported
from tallygate.limits.keys import receipt_key
from tallygate.limits.limiter import Acquisition, Subject, Verdict
from tallygate.limits.present import Present
from tallygate.limits.ready import ReadyCall, ReadyCalls
from tallygate.limits.receipt import Receipt
from tallygate.limits.script import (
    Call,
    Mode,
    Scripts,
    first_use_request,
    is_stale,
    now_us,
    release_request,
    verdict,
)
from tallygate.storage.redis_pipeline import Answer, ReplyError, pack_command
from tallygate.storage.redis_topology import RedisLinks

_TRIES = 3
_Ask: TypeAlias = Callable[[bytes], Awaitable[Answer]]
_SCRIPTS = Scripts()


def _unobserved(duration_s: float) -> None:
    """Take a duration and do nothing with it."""


class RedisLimiter:
    """Counters in Redis, shared by every worker of every replica."""

    def __init__(
        self,
        links: RedisLinks,
        *,
        clock: Clock | None = None,
        observe: Callable[[float], None] = _unobserved,
        scripts: Scripts = _SCRIPTS,
    ) -> None:
        """Ask through `links`, which `close` closes; a caller waits their `deadline_s` at most.

        `observe` hears how many seconds each call took that was answered. The clock only guesses the present
        period; Redis corrects the guess.
        """
        self._ask = links.ask
        self._deadline_s = links.deadline_s
        self._close = links.close
        self._observe = observe
        self._acquire = _Script(scripts.acquire)
        self._release = _Script(scripts.release)
        self._first_use = _Script(scripts.first_use)
        self._amend = _Script(scripts.amend)
        self._present = Present(clock or SystemClock())
        self._ready = ReadyCalls(self._acquire.digest, self._present)

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge or none."""
        # Nearly every call ends here; what does not is told apart below.
        began_s = monotonic()
        ready, tag = self._ready.of(acquisition), acquisition.subject.customer
        command, ends_s = ready.command("acquire", acquisition.idempotency_key), began_s + self._deadline_s
        answer = await self._ask(command, ends_s, tag)
        if isinstance(answer, bytes) and not is_stale(answer):
            self._observe(monotonic() - began_s)
            return verdict(acquisition, answer)
        return await self._until_fresh("acquire", ready, acquisition, ends_s, answer)

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say what `acquire` would answer now, and change nothing."""
        return await self._until_fresh("peek", self._ready.of(acquisition), acquisition, self._ends_s())

    async def report(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge whether it fits or not."""
        needed_id(acquisition.idempotency_key)
        asked = reported(acquisition)
        # Reports are made one by one: nothing of theirs is worth keeping.
        ready = ReadyCall(asked, self._acquire.digest, self._present)
        return await self._until_fresh("report", ready, asked, self._ends_s())

    async def receipt(self, customer: str, receipt_id: str) -> Receipt | None:
        """Return the receipt that a request of this customer left; None when there is none, or it was settled."""
        answer = await self._ask(pack_command((b"GET", receipt_key(customer, receipt_id))), self._ends_s(), customer)
        if isinstance(answer, ReplyError):
            raise LimiterUnavailableError(f"redis refuses: {answer}") from answer
        if isinstance(answer, Exception):
            raise answer
        try:
            return Receipt.parse(customer, receipt_id, answer) if isinstance(answer, bytes) and answer else None
        except ValueError as error:
            raise LimiterUnavailableError(f"redis has something else: {error}") from error

    async def amend(self, amendment: Amendment) -> AmendOutcome:
        """Change what was charged, and count the difference as usage, once."""
        return AMEND_OUTCOMES[await self._run_once(self._amend, amend_request(amendment), amendment.customer)]

    async def release(self, subject: Subject, request_id: str) -> None:
        """End the request's holds on all its concurrency limits."""
        await self._run_once(self._release, release_request(subject, request_id), subject.customer)

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        """Return when the subject's subscription was first used: now, unless it was before."""
        asked = first_use_request(subject, is_look=is_look)
        at_us: int | None = await self._run_once(self._first_use, asked, subject.customer)
        return None if at_us is None else instant(at_us)

    async def close(self) -> None:
        """Give calls under way the deadline to end, then cut them off."""
        await self._close()

    def _ends_s(self) -> float:
        return monotonic() + self._deadline_s

    async def _until_fresh(
        self, mode: Mode, ready: ReadyCall, acquisition: Acquisition, ends_s: float, answer: Answer = None
    ) -> Verdict:
        """Ask until no period is over; `answer` is what was answered already."""
        request_id = acquisition.idempotency_key
        ask = partial(self._ask, ends_s=ends_s, tag=acquisition.subject.customer)
        call, began_s = partial(ready.call, mode, request_id), ends_s - self._deadline_s
        for _ in range(_TRIES):
            command = ready.command(mode, request_id)
            reply: bytes = await self._run(self._acquire, ask, command, call, began_s=began_s, answer=answer)
            answer, began_s = None, monotonic()
            if not is_stale(reply):
                return verdict(acquisition, reply)
            self._present.correct(now_us(reply))
            ready.renew()
        raise LimiterUnavailableError(f"redis's clock left the period {_TRIES} times in a row")

    async def _run_once(self, script: "_Script", call: Call, tag: str) -> Any:  # noqa: ANN401 - each has its own reply
        ask = partial(self._ask, ends_s=self._ends_s(), tag=tag)
        return await self._run(script, ask, script.by_digest(call), lambda: call, began_s=monotonic())

    async def _run(
        self,
        script: "_Script",
        ask: _Ask,
        command: bytes,
        call: Callable[[], Call],
        *,
        began_s: float,
        answer: Answer = None,
    ) -> Any:  # noqa: ANN401 - as above
        """Run a script by its digest, or by its text where it is not known.

        `answer` is what was answered already to who has been asking since `began_s`.
        """
        if answer is None:
            answer = await ask(command)
        if _is_unknown(answer):  # nothing ran: a restarted or flushed server
            if script.is_being_told(began_s):
                answer = await ask(command)
            if _is_unknown(answer):
                answer = await ask(script.by_text(call()))
        if isinstance(answer, Exception):
            if isinstance(answer, ReplyError):
                raise LimiterUnavailableError(f"redis refuses: {answer}") from answer
            raise answer
        self._observe(monotonic() - began_s)
        return answer


def _is_unknown(answer: Answer) -> bool:
    return isinstance(answer, ReplyError) and str(answer).startswith("NOSCRIPT")


class _Script:
    """A script, called by the digest of its text, or by the text where it is not known yet."""

    __slots__ = ("_text", "_told_at_s", "digest")

    def __init__(self, text: str) -> None:
        self._text = text.encode()
        self.digest = hashlib.sha1(self._text, usedforsecurity=False).hexdigest().encode()
        self._told_at_s = 0.0

    def is_being_told(self, since_s: float) -> bool:
        """Return whether the text was sent since then, so that what is sent now may find it known."""
        return self._told_at_s >= since_s

    def by_digest(self, call: Call) -> bytes:
        """Return a call of a script that Redis knows."""
        keys, arguments = call
        return pack_command((b"EVALSHA", self.digest, len(keys), *keys, *arguments))

    def by_text(self, call: Call) -> bytes:
        """Return a call that makes the script known."""
        keys, arguments = call
        self._told_at_s = monotonic()
        return pack_command((b"EVAL", self._text, len(keys), *keys, *arguments))
