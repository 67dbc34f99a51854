"""Usage that was admitted while Redis was away: told to the ledger when it is back, once, and never twice."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.counting import ALICE, MemoryCounting, asking, quota
from support.leasing import Fault, FaultyStore
from support.limiters import PATIENT_S, limiter_to
from support.processes import paused
from support.valkeys import valkey

from tallygate.core.clock import ManualClock
from tallygate.core.errors import LimiterUnavailableError
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.valkey import EmbeddedValkey
from tallygate.limits.degraded import DegradedResult, DegradedUsage
from tallygate.limits.keys import OPENED_FIELD, Owner, usage_field
from tallygate.limits.limit import Limit
from tallygate.limits.limiter import Acquisition
from tallygate.limits.redis import RedisLimiter

NOW = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
MINUTE = int(NOW.timestamp()) // 60
ROUTE = "GET /v1/things"


def field(minute: int, meter: str = "requests") -> str:
    """Return where the usage of a minute is found."""
    return usage_field(Owner("sub_1", "pro@3", "fam_1"), meter, "allowed", ROUTE, entry="degraded", at=minute)


class Scene:
    """Degraded usage, its time, and what became of it."""

    def __init__(self, max_fields: int = 10_000) -> None:
        """Begin with none."""
        self.clock = ManualClock(NOW)
        self.became: Counter[DegradedResult] = Counter()
        self.usage = DegradedUsage(
            self.clock, lambda result, requests: self.became.update({result: requests}), max_fields=max_fields
        )

    def admit(self, asked: Acquisition, times: int = 1) -> None:
        """Admit it so often without counters."""
        for _ in range(times):
            self.usage.add(asked, may_have_run=False)


@pytest.fixture
def scene() -> Scene:
    """Return a process that has admitted nothing yet."""
    return Scene()


def monthly() -> Limit:
    """Return a quota."""
    return quota(1_000)


async def test_it_is_told_in_the_minute_it_was_admitted_in(scene: Scene) -> None:
    """Each minute and kind of request by itself, and no counter is charged for it."""
    counting = MemoryCounting()
    one = asking(monthly(), usage=(("requests", 1), ("tokens", 30)))._replace(plan="pro@3")
    scene.admit(one, 3)
    scene.clock.advance(60)
    scene.admit(one, 2)
    scene.admit(asking(monthly())._replace(plan="pro@3"), 4)
    await scene.usage.hand_on(counting.limiter)
    assert await counting.usage() == {
        field(MINUTE): 3,
        field(MINUTE, "tokens"): 90,
        field(MINUTE + 1): 6,
        field(MINUTE + 1, "tokens"): 60,
    }
    assert counting.records() == {}
    assert scene.became == {DegradedResult.TOLD: 9}


async def test_a_reply_that_is_lost_doubles_nothing(scene: Scene) -> None:
    """It is told again under the same id, and what came meanwhile is told beside it."""
    counting = MemoryCounting()
    away = FaultyStore(counting.limiter)
    asked = asking(monthly())._replace(plan="pro@3")

    async def unheard(report: Acquisition) -> None:
        await counting.limiter.report(report)
        raise LimiterUnavailableError("its reply was lost")

    away.report = unheard  # type: ignore[assignment]
    for _ in range(3):
        scene.admit(asked, 2)
        await scene.usage.hand_on(away)
    assert scene.became == {}
    await scene.usage.hand_on(counting.limiter)
    assert await counting.usage() == {field(MINUTE): 6}
    assert scene.became == {DegradedResult.TOLD: 6}
    assert away.fault is Fault.NONE


async def test_what_is_kept_is_bounded_and_its_loss_told() -> None:
    """What finds no room is lost, and so is what cannot be told before the end; both are heard of."""
    scene = Scene(max_fields=10)
    kinds = [asking(monthly(), usage=(("requests", 1), ("tokens", number))) for number in range(1, 8)]
    for kind in kinds:
        scene.admit(kind)
    assert scene.became == {DegradedResult.LOST: 2}
    away = FaultyStore(MemoryCounting().limiter)

    async def refuse(_: Acquisition) -> None:
        raise LimiterUnavailableError("it is away")

    away.report = refuse  # type: ignore[assignment]
    await scene.usage.close(away)
    assert scene.became == {DegradedResult.LOST: 7}


async def test_what_may_have_been_counted_is_not_told(scene: Scene) -> None:
    """A call that was sent and not answered may have run: it is not billed again."""
    scene.usage.add(asking(monthly()), may_have_run=True)
    counting = MemoryCounting()
    await scene.usage.hand_on(counting.limiter)
    assert await counting.usage() == {}
    assert scene.became == {DegradedResult.UNCLEAR: 1}


async def ask(limiter: RedisLimiter, scene: Scene, asked: Acquisition, times: int) -> int:
    """Ask as the pipeline does; return how many were answered."""
    answered = 0
    for _ in range(times):
        try:
            await limiter.acquire(asked)
        except LimiterUnavailableError as error:
            scene.usage.add(asked, may_have_run=error.may_have_run)
        else:
            answered += 1
    return answered


async def hand_on(limiter: RedisLimiter, scene: Scene) -> None:
    """Hand on until all is told."""
    async with asyncio.timeout(PATIENT_S):
        while scene.usage._open or scene.usage._sent:
            await scene.usage.hand_on(limiter)
            await asyncio.sleep(0)
    await scene.usage.hand_on(limiter)


async def told(url: str) -> Counter[str]:
    """Return all usage that Redis has of Alice, by entry."""
    found: Counter[str] = Counter()
    async with Redis.from_url(url, decode_responses=True) as client:
        async for key in client.scan_iter(f"tg:v1:{{{ALICE.customer}}}:u:*"):
            for name, units in (await client.hgetall(key)).items():
                if name != OPENED_FIELD:
                    found[str(name).split("|")[5]] += int(units)
    return found


async def test_a_redis_that_was_stopped_hears_of_it(scene: Scene, tmp_path: Path) -> None:
    """Stopped and started with what it had: all that was admitted is in the ledger, each unit once."""
    configuration, port, asked = "port {port}\nappendonly yes\n", free_port(), asking(monthly())
    url = f"redis://{LOOPBACK}:{port}"
    limiter = limiter_to(url)
    async with valkey(tmp_path / "valkey", configuration, port=port):
        assert await ask(limiter, scene, asked, 5) == 5
    assert await ask(limiter, scene, asked, 50) == 0
    async with valkey(tmp_path / "valkey", configuration, port=port):
        await hand_on(limiter, scene)
        unclear = scene.became[DegradedResult.UNCLEAR]
        assert unclear <= 1  # the one that noticed
        assert await told(url) == {"": 5, "degraded": 50 - unclear}
        assert scene.became[DegradedResult.TOLD] == 50 - unclear
        assert (await limiter.peek(asking((monthly(), 0)))).states[0].remaining == 995
        await limiter.close()


async def test_a_redis_that_was_silent_is_billed_nothing_twice(scene: Scene, tmp_path: Path) -> None:
    """What it was sent while it hung it may still do: no more is told than was admitted, and no less but for those."""
    async with EmbeddedValkey(tmp_path / "valkey", log_dir=tmp_path) as server:
        limiter = limiter_to(server.url, deadline_s=0.1)
        asked = asking(monthly())
        answered = 0
        async with asyncio.timeout(PATIENT_S):
            while not answered:
                answered = await ask(limiter, scene, asked, 1)
        scene.became.clear()
        with paused(tmp_path / "valkey"):
            answered += await ask(limiter, scene, asked, 100)
        await hand_on(limiter, scene)
        unclear, later = scene.became[DegradedResult.UNCLEAR], scene.became[DegradedResult.TOLD]
        assert unclear > 0
        assert later > 0
        usage = await told(server.url)
        assert usage["degraded"] == later
        assert answered <= usage[""] <= answered + unclear
        await limiter.close()
