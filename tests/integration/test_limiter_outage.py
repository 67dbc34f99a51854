"""The limiter while Redis is silent, absent, busy or misled: bounded waiting, and recovery by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from unittest.mock import AsyncMock

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from support.counting import asking, prepaid
from support.limiters import PATIENT_S, limiter_to

from tallygate.core.clock import ManualClock, SystemClock
from tallygate.core.errors import LimiterUnavailableError, OverloadedError
from tallygate.devservers.ports import free_port
from tallygate.limits.script import ACQUIRE_LUA, Scripts
from tallygate.storage.breaker import Breaker
from tallygate.storage.redis import connect, eviction_warning, ping
from tallygate.storage.redis_link import LinkTerms, RedisLink
from tallygate.storage.redis_pipeline import pack_command

SHORT_S = 0.3
"""Short enough to wait for, and longer than a starved machine keeps a loop from its next turn."""
ASKED = asking(prepaid(9))


class Silence:
    """A server that accepts every connection and never answers."""

    def __init__(self) -> None:
        """Count from nothing."""
        self.url = ""
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Accept while the block runs."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()
            for writer in self._writers:
                writer.close()


@pytest.fixture
async def silence() -> AsyncIterator[Silence]:
    """Return a server that never answers."""
    black_hole = Silence()
    async with black_hole.listening():
        yield black_hole


async def test_silence_is_over_at_the_deadline(silence: Silence) -> None:
    """A Redis that accepts and says nothing costs a caller its deadline, no more, and an honest error."""
    limiter = limiter_to(silence.url, deadline_s=SHORT_S)
    with pytest.raises(LimiterUnavailableError, match=r"within (2\d\d|300) ms"):
        await limiter.acquire(ASKED)
    await limiter.close()


async def test_a_silent_login_costs_no_more(silence: Silence) -> None:
    """While a connection is being made in vain, each call that comes waits for its own deadline only."""
    limiter = limiter_to(silence.url.replace("redis://", "redis://:secret@"), deadline_s=SHORT_S)
    for _ in range(2):
        with pytest.raises(LimiterUnavailableError, match=r"within (2\d\d|300) ms"):
            await limiter.acquire(ASKED)
    await limiter.close()


async def test_a_silent_redis_is_left_alone_and_tried_again(silence: Silence) -> None:
    """After three silences nobody waits any more; each pause lets one call look, and only one."""
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    breaker = Breaker(clock.monotonic, failures=3, pause_s=1)
    limiter = limiter_to(silence.url, deadline_s=SHORT_S, breaker=lambda: breaker)

    async def errors(calls: int) -> list[str]:
        results = await asyncio.gather(*(limiter.acquire(ASKED) for _ in range(calls)), return_exceptions=True)
        return [str(result) for result in results]

    assert all("within" in error for error in await errors(3))
    assert all("tried again" in error for error in await errors(50))
    clock.advance(1)
    assert sorted("tried again" in error for error in await errors(50)) == [False] + [True] * 49
    await limiter.close()


async def test_calls_in_flight_are_bounded(silence: Silence) -> None:
    """A call beyond the bound is refused at once, while those under way still wait."""
    limiter = limiter_to(silence.url, deadline_s=SHORT_S, max_in_flight=3)
    results = await asyncio.gather(*(limiter.acquire(ASKED) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [LimiterUnavailableError] * 3 + [OverloadedError] * 2
    with pytest.raises(OverloadedError):  # their callers are gone, but they are still under way
        await limiter.acquire(ASKED)
    await limiter.close()


async def test_too_many_calls_are_shed_before_they_count(redis_url: str) -> None:
    """More than Redis can do is our overload, not its outage: no breaker opens, and what is shed was not charged."""
    slowly = ACQUIRE_LUA.replace("local time =", "for _ = 1, 1000000 do end\nlocal time =")
    breaker = Breaker(SystemClock().monotonic, failures=1)
    limiter = limiter_to(
        redis_url,
        deadline_s=1,
        max_batch=1,
        max_in_flight=2_000,
        scripts=Scripts(acquire=slowly),
        breaker=lambda: breaker,
    )
    credit = asking(prepaid(9_999))
    results = await asyncio.gather(*(limiter.acquire(credit) for _ in range(2_000)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert refused
    assert {type(error) for error in refused} == {OverloadedError}
    assert not breaker.is_open
    await limiter.close()
    looking = limiter_to(redis_url)
    look = await looking.peek(asking((prepaid(9_999), 0)))
    assert look.states[0].remaining == 9_999 - (len(results) - len(refused))
    await looking.close()


async def test_waiting_for_a_turn_in_vain_is_redis_silence(silence: Silence) -> None:
    """Behind a call that is never answered, the next one's error is the outage that it is, so fail policies hold."""
    limiter = limiter_to(silence.url, deadline_s=SHORT_S, max_batch=1)
    results = await asyncio.gather(*(limiter.acquire(ASKED) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [LimiterUnavailableError] * 3
    assert silence.connections == 1
    await limiter.close()


async def test_whoever_waited_for_the_end_of_a_silence_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer after a silence makes nobody's wait an overload: `fail` policies are for silence."""
    asked, may_answer, now_s = asyncio.Event(), asyncio.Event(), [100.0]

    async def hesitate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            asked.set()
            await may_answer.wait()
            writer.write(b"+PONG\r\n")
        writer.close()

    monkeypatch.setattr("tallygate.storage.redis_link.monotonic", lambda: now_s[0])
    async with await asyncio.start_server(hesitate, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        link = RedisLink(AsyncMock(return_value=(host, port)), LinkTerms(deadline_s=PATIENT_S))
        first = link.ask(pack_command(("PING",)), now_s[0] + PATIENT_S)
        await asked.wait()
        second = link.ask(pack_command(("PING",)), now_s[0] + PATIENT_S)
        now_s[0] += 0.8 * PATIENT_S
        may_answer.set()
        assert [await first, await second] == [b"PONG"] * 2
        await link.close()


async def test_a_call_cancelled_before_its_turn_is_never_sent(redis_url: str) -> None:
    """A request whose caller left while it waited consumes nothing, and its turn goes to the next."""
    limiter = limiter_to(redis_url, max_batch=1)
    tasks = [asyncio.create_task(limiter.acquire(ASKED)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks[1:4]:
        task.cancel()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [False, True, True, True, False]
    assert tasks[4].result().states[0].remaining == 7
    await limiter.close()


async def test_closing_ends_what_is_under_way(silence: Silence) -> None:
    """After `close` no task is left, and a caller still waiting hears of an outage, not of a cancellation."""
    limiter = limiter_to(silence.url, deadline_s=SHORT_S)
    waiting = asyncio.create_task(limiter.acquire(ASKED))
    await asyncio.sleep(0)
    await limiter.close()
    with pytest.raises(LimiterUnavailableError):
        await waiting
    with pytest.raises(LimiterUnavailableError):
        await limiter.acquire(ASKED)


async def test_an_absent_redis_is_an_outage() -> None:
    """With nobody listening, limiter and readiness both say so."""
    url = f"redis://127.0.0.1:{free_port()}"
    client, limiter = connect(url, deadline_s=PATIENT_S), limiter_to(url)
    for asking_it in (
        limiter.acquire(ASKED),
        limiter.release(ASKED.subject, "1"),
        limiter.first_used_at(ASKED.subject),
    ):
        with pytest.raises(LimiterUnavailableError, match="does not answer"):
            await asking_it
    with pytest.raises(LimiterUnavailableError):
        await ping(client)
    await limiter.close()
    await client.aclose()


async def test_recovery_needs_nobody(redis_url: str, silence: Silence) -> None:
    """When a silent Redis answers again, the next look closes the breaker and all calls pass."""
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    breaker = Breaker(clock.monotonic, failures=1, pause_s=1)
    limiter = limiter_to(silence.url, deadline_s=SHORT_S, breaker=lambda: breaker)
    with pytest.raises(LimiterUnavailableError, match="within"):
        await limiter.acquire(ASKED)
    await limiter.close()
    limiter = limiter_to(redis_url, breaker=lambda: breaker)
    with pytest.raises(LimiterUnavailableError, match="tried again"):
        await limiter.acquire(ASKED)
    clock.advance(1)
    verdicts = [await limiter.acquire(ASKED) for _ in range(3)]
    assert [verdict.states[0].remaining for verdict in verdicts] == [8, 7, 6]
    await limiter.close()


async def test_a_busy_redis_is_an_outage(redis_url: str) -> None:
    """While a script of someone else runs without end, BUSY counts as down; afterwards all is well."""
    admin = Redis.from_url(redis_url)
    hog = Redis.from_url(redis_url, socket_timeout=PATIENT_S)
    await admin.config_set("busy-reply-threshold", 1)
    limiter = limiter_to(redis_url)
    await limiter.acquire(ASKED)
    endless = asyncio.ensure_future(hog.execute_command("EVAL", "while true do end", 0))  # type: ignore[no-untyped-call]
    refused = None
    while refused is None:  # until the server has begun with it
        try:
            await limiter.acquire(ASKED)
        except LimiterUnavailableError as error:
            refused = error
    assert "BUSY" in str(refused).upper()
    await admin.script_kill()
    with pytest.raises(ResponseError):
        await endless
    await admin.config_set("busy-reply-threshold", 5_000)
    assert (await limiter.acquire(ASKED)).is_repeat is False
    await limiter.close()
    for each in (admin, hog):
        await each.aclose()


async def test_a_redis_that_may_evict_is_pointed_out(redis_url: str) -> None:
    """`noeviction` is silent; any other policy is named, for it can give a month away."""
    client = connect(redis_url, deadline_s=PATIENT_S)
    assert await eviction_warning(client) is None
    admin = Redis.from_url(redis_url)
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in (await eviction_warning(client) or "")
    finally:
        await admin.config_set("maxmemory-policy", "noeviction")
    await admin.aclose()
    await client.aclose()


async def test_durations_are_told(redis_url: str) -> None:
    """Each call to Redis is heard by the observer, in seconds."""
    heard: list[float] = []
    limiter = limiter_to(redis_url, observe=heard.append)
    await limiter.acquire(ASKED)
    await limiter.peek(ASKED)
    await limiter.release(ASKED.subject, "1")
    await limiter.first_used_at(ASKED.subject)
    assert len(heard) == 4
    assert all(0 < duration_s < PATIENT_S for duration_s in heard)
    await limiter.close()
