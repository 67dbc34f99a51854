"""Calls that share a connection: what goes together, what goes wrong alone, and what a broken connection costs."""

import asyncio
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import pytest
import uvloop
from redis import Redis as Waiting
from redis.asyncio import Redis
from support.certificates import Authority
from support.counting import ALICE, asking, prepaid
from support.limiters import PATIENT_S, limiter_to
from support.tcp_proxy import TcpProxy, tcp_proxy

from tallygate.core.clock import ManualClock
from tallygate.core.errors import DependencyError, InputError, LimiterUnavailableError
from tallygate.devservers.ports import free_port
from tallygate.limits.algorithms import instant
from tallygate.limits.keys import record_key
from tallygate.limits.limit import CountedPer
from tallygate.limits.limiter import Acquisition, Subject, Verdict
from tallygate.limits.redis import RedisLimiter
from tallygate.storage.breaker import Breaker

ASKED = asking(prepaid(9))
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def of(number: int) -> Acquisition:
    """Return a request of a customer of its own, whose answer is its own: `number` units are left."""
    return asking(prepaid(number + 1), subject=Subject(f"cus_{number}", "sub", "fam"), usage=())


async def all_of(limiter: RedisLimiter, asked: list[Acquisition]) -> list[Verdict | BaseException]:
    """Ask all at once; return answers and errors."""
    return await asyncio.gather(*(limiter.acquire(each) for each in asked), return_exceptions=True)


def wrong(answers: list[Verdict | BaseException], first: int = 0) -> list[object]:
    """Return what is neither the call's own answer nor an outage, nor that a starved machine came to it too late."""
    return [
        answer
        for number, answer in enumerate(answers, first)
        if not isinstance(answer, DependencyError)
        and (isinstance(answer, BaseException) or answer.states[0].remaining != number)
    ]


async def until_answered(limiter: RedisLimiter, asked: Acquisition = ASKED) -> Verdict:
    """Ask until Redis answers; nobody else does anything about it."""
    async with asyncio.timeout(PATIENT_S):
        while True:
            try:
                return await limiter.acquire(asked)
            except DependencyError:  # an outage; or, on a starved machine, our own overload
                await asyncio.sleep(0)


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[TcpProxy]:
    """Return a relay before Redis that can break; its `url` leads through it."""
    async with tcp_proxy(redis_url) as relay:
        yield relay


@asynccontextmanager
async def answering(said: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Serve whatever `said` answers to what was read; yield the URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while chunk := await reader.read(65_536):
            writer.write(said(chunk))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()


async def test_calls_of_one_moment_go_in_one_write(redis_url: str) -> None:
    """A hundred calls at once are one write; those that come while they are under way are the next."""
    sizes: list[int] = []
    written = asyncio.Event()

    def note(size: int) -> None:
        sizes.append(size)
        written.set()

    limiter = limiter_to(redis_url, on_batch=note)
    await limiter.acquire(ASKED)
    sizes.clear()
    written.clear()
    first = [asyncio.create_task(limiter.acquire(of(number))) for number in range(100)]
    await written.wait()
    later = [asyncio.create_task(limiter.acquire(of(number))) for number in range(100, 130)]
    answers: list[Verdict | BaseException] = [*await asyncio.gather(*first, *later)]
    assert (sizes, wrong(answers)) == ([100, 30], [])
    await limiter.close()


async def test_those_who_leave_leave_their_place(redis_url: str) -> None:
    """Of calls that were sent together every third is given up; the replies of the others are their own."""
    written = asyncio.Event()
    limiter = limiter_to(redis_url, on_batch=lambda _: written.set())
    await limiter.acquire(ASKED)
    written.clear()
    calls = [asyncio.create_task(limiter.acquire(of(number))) for number in range(60)]
    await written.wait()
    for call in calls[::3]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True, False, False] * 20
    assert all(isinstance(answer, asyncio.CancelledError) for answer in wrong(answers))
    await limiter.close()


async def test_what_fails_fails_alone(redis_url: str) -> None:
    """One customer's record that something else overwrote fails that customer's call, and none beside it."""
    admin = Redis.from_url(redis_url)
    for number in (7, 40):
        await admin.set(record_key(of(number).subject, CountedPer.SUBSCRIPTION), "not a hash")
    limiter = limiter_to(redis_url)
    for _ in range(3):
        answers = await all_of(limiter, [of(number) for number in range(64)])
        failed = [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)]
        assert (failed, "WRONGTYPE" in str(answers[7])) == ([7, 40], True)
        await admin.delete(*(record_key(of(n).subject, CountedPer.SUBSCRIPTION) for n in range(64) if n not in (7, 40)))
    await limiter.close()
    await admin.aclose()


async def test_a_connection_killed_under_calls_gives_no_wrong_answer(redis_url: str) -> None:
    """However often Redis cuts the connection, a call has its own answer or an outage; it recovers by itself."""
    admin = Redis.from_url(redis_url)
    breaker = Breaker(monotonic, failures=10_000)
    limiter = limiter_to(redis_url, breaker=lambda: breaker)
    await until_answered(limiter)
    cut = 0
    for _ in range(30):
        asked = asyncio.create_task(all_of(limiter, [of(number) for number in range(64)]))
        await asyncio.sleep(0)
        await admin.client_kill_filter(_type="normal", skipme=True)
        answers = await asked
        assert wrong(answers) == []
        cut += any(isinstance(answer, LimiterUnavailableError) for answer in answers)
        await admin.flushdb()
    assert cut
    assert (await until_answered(limiter)).is_admitted
    await limiter.close()
    await admin.aclose()


async def test_a_silent_network_costs_each_call_its_deadline(proxy: TcpProxy) -> None:
    """While bytes go nowhere every call ends with an outage, soon at once; when they flow again, all is well again."""
    limiter = limiter_to(proxy.dsn, deadline_s=0.2)
    await until_answered(limiter)
    proxy.silence()
    said: list[str] = []
    for _ in range(8):
        answers = await all_of(limiter, [of(number) for number in range(50)])
        assert {type(answer) for answer in answers} == {LimiterUnavailableError}
        said += map(str, answers)
    assert sum("tried again" in each for each in said) > sum("within 200 ms" in each for each in said)
    proxy.speak()
    await until_answered(limiter)
    assert wrong(await all_of(limiter, [of(number) for number in range(50, 100)]), 50) == []
    await limiter.close()


async def test_a_late_reply_answers_nobody(proxy: TcpProxy) -> None:
    """A call whose deadline passed leaves its place in the queue; its reply is not the next call's."""
    breaker = Breaker(monotonic, failures=10_000)
    limiter = limiter_to(proxy.dsn, deadline_s=0.2, breaker=lambda: breaker)
    await until_answered(limiter)
    for _ in range(3):
        proxy.silence()
        late = await all_of(limiter, [of(number) for number in range(100, 120)])
        assert {type(answer) for answer in late} == {LimiterUnavailableError}
        waiting = asyncio.create_task(all_of(limiter, [of(0)]))
        await asyncio.sleep(0)
        proxy.speak()
        assert wrong(await waiting) == []
        await until_answered(limiter)
    assert proxy.accepted <= 1 + 3  # kept, but where the machine itself was slow
    await limiter.close()


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_a_stalled_worker_reads_before_it_judges(redis_url: str, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A loop that did nothing for longer than the deadline finds replies that came in time, and no outage."""

    async def stall() -> None:
        limiter = limiter_to(redis_url, deadline_s=0.5)
        await until_answered(limiter)
        calls = [asyncio.create_task(limiter.acquire(of(number))) for number in range(20)]
        ours, theirs = socket.socketpair()
        stalled = asyncio.get_running_loop().create_future()

        def busy() -> None:
            """Do nothing else until the deadline is over and the replies are there: then timers are due, too."""
            asyncio.get_running_loop().remove_reader(ours)
            ends_s = monotonic() + 0.75
            with Waiting.from_url(redis_url) as other:
                while monotonic() < ends_s:
                    other.ping()  # what was asked before is answered before the second of these
            stalled.set_result(None)

        asyncio.get_running_loop().add_reader(ours, busy)
        for _ in range(3):  # the calls are made, and written
            await asyncio.sleep(0)
        theirs.send(b"!")
        await stalled
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await limiter.close()
        ours.close()
        theirs.close()
        assert not any(isinstance(answer, BaseException) for answer in answers)
        assert wrong(answers) == []

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(stall())


REFUSALS = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down",
    "READONLY": "READONLY You can't write against a read only replica.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "BUSY": "BUSY Redis is busy running a script.",
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
async def test_an_unfit_redis_is_an_outage(refusal: str) -> None:
    """A server that says it cannot count now is left alone as a silent one is, and tried again."""
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    breaker = Breaker(clock.monotonic, failures=3, pause_s=1)
    async with answering(lambda chunk: f"-{refusal}\r\n".encode() * chunk.count(b"EVALSHA")) as url:
        limiter = limiter_to(url, breaker=lambda: breaker)
        said = [str((await all_of(limiter, [ASKED]))[0]) for _ in range(5)]
        assert [refusal in each for each in said] == [True] * 3 + [False] * 2
        clock.advance(1)
        assert refusal in str((await all_of(limiter, [ASKED]))[0])
        await limiter.close()


async def test_nonsense_ends_the_connection() -> None:
    """What is no reply of Redis is an outage, not an answer."""
    async with answering(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        limiter = limiter_to(url)
        with pytest.raises(LimiterUnavailableError):
            await limiter.first_used_at(ALICE)
        await limiter.close()


async def test_a_dead_connection_is_given_up() -> None:
    """A connection that never answers again is replaced, though nobody ever closed it."""
    answers = itertools.chain([b""], itertools.repeat(b":7\r\n"))
    async with answering(lambda _: next(answers)) as url:
        limiter = limiter_to(url, deadline_s=0.2)
        told, first_used_at = [], None
        async with asyncio.timeout(PATIENT_S):
            while first_used_at is None:
                try:
                    first_used_at = await limiter.first_used_at(ALICE)
                except DependencyError as error:  # an outage; or, on a starved machine, our own overload
                    told.append(str(error))
        assert first_used_at == instant(7)
        assert any("within 200 ms" in each for each in told)
        await limiter.close()


async def test_a_reply_nobody_asked_for_answers_nobody() -> None:
    """When a server says more than it was asked, the connection ends, and the next call hears its own answer."""
    numbers = itertools.count(10, 10)
    async with answering(lambda _: b":%d\r\n:666\r\n" % next(numbers)) as url:
        limiter = limiter_to(url)
        assert [await limiter.first_used_at(ALICE) for _ in range(4)] == [instant(each) for each in (10, 20, 30, 40)]
        await limiter.close()


async def test_a_replica_is_left_for_the_master(redis_url: str, proxy: TcpProxy) -> None:
    """A server that became a replica refuses; the connection is made anew, and counts as soon as one is master."""
    admin = Redis.from_url(redis_url)
    limiter = limiter_to(proxy.dsn)
    await until_answered(limiter)
    await admin.config_set("replica-serve-stale-data", "yes")
    await admin.replicaof("127.0.0.1", str(free_port()))
    try:
        with pytest.raises(LimiterUnavailableError, match="READONLY"):
            await limiter.acquire(ASKED)
    finally:
        await admin.replicaof("NO", "ONE")
    assert (await until_answered(limiter)).states[0].remaining == 7
    assert proxy.accepted == 2
    await limiter.close()
    await admin.aclose()


async def test_login_and_database_are_the_urls(redis_url: str) -> None:
    """A user of Redis's ACL logs in and counts in its database; a wrong password is an outage that says so."""
    async with AsyncExitStack() as stack:
        admin = Redis.from_url(redis_url)
        stack.push_async_callback(admin.aclose)
        await admin.acl_setuser("teller", enabled=True, passwords=["+a b:c"], keys=["tg:*"], categories=["+@all"])
        stack.push_async_callback(admin.acl_deluser, "teller")
        host = redis_url.rpartition("@")[2].rpartition("/")[0]
        limiter = limiter_to(f"redis://teller:a%20b%3Ac@{host}/3")
        stack.push_async_callback(limiter.close)
        await limiter.acquire(ASKED)
        elsewhere = Redis.from_url(redis_url.removesuffix("0") + "3")
        stack.push_async_callback(elsewhere.aclose)
        assert await elsewhere.exists(record_key(ALICE, CountedPer.SUBSCRIPTION))
        await elsewhere.flushdb()
        stranger = limiter_to(f"redis://teller:wrong@{host}/3")
        stack.push_async_callback(stranger.close)
        with pytest.raises(LimiterUnavailableError, match="WRONGPASS"):
            await stranger.acquire(ASKED)


async def test_tls_protects_the_calls(redis_url: str, data_dir: Path) -> None:
    """`rediss://` speaks TLS, and only to a server whose certificate is good."""
    authority = Authority(data_dir, "authority")
    pair = authority.sign("redis")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    async with tcp_proxy(redis_url, tls=context) as proxy:
        url = proxy.dsn.replace("redis://", "rediss://")
        trusting, wary = limiter_to(f"{url}?ssl_ca_certs={authority.certificate}"), limiter_to(url)
        answers = await all_of(trusting, [of(number) for number in range(50)])
        assert (wrong(answers), len(answers)) == ([], 50)
        assert not any(isinstance(answer, BaseException) for answer in answers)
        with pytest.raises(LimiterUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            await wary.acquire(ASKED)
        with pytest.raises(InputError, match="TALLYGATE_REDIS_URL: ssl_ca_certs"):
            limiter_to(f"{url}?ssl_ca_certs={data_dir}/absent.pem")
        await trusting.close()
        await wary.close()


async def test_a_burst_of_cancellations_leaves_room(redis_url: str) -> None:
    """Calls whose callers left before anything was sent take no place for good and count nothing."""
    limiter = limiter_to(redis_url, max_in_flight=50)
    for _ in range(20):
        tasks = [asyncio.create_task(limiter.acquire(ASKED)) for _ in range(50)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        await limiter.peek(asking((prepaid(9), 0)))
    assert (await limiter.acquire(ASKED)).states[0].remaining == 8
    await limiter.close()
