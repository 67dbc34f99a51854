"""What every ledger of shadow counts keeps: one body, run on memory and on Redis."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tallygate.core.errors import DependencyError
from tallygate.insights.memory import MemoryShadowLedger
from tallygate.insights.redis import RedisShadowLedger
from tallygate.insights.shadow import PASSED, ShadowLedger, ShadowTally, hand_on
from tallygate.storage import redis


@pytest.fixture(params=["memory", "redis"])
async def ledger(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[ShadowLedger]:
    """Return an empty ledger of each kind."""
    if request.param == "memory":
        yield MemoryShadowLedger()
        return
    client = redis.connect(redis_url, deadline_s=5)
    yield RedisShadowLedger(client)
    await client.aclose()


def tally_of(*seen: tuple[str, str, str | None]) -> ShadowTally:
    """Return a worker's tally of (shadow, subscription, refused for)."""
    tally = ShadowTally()
    for shadow, subscription, refused_for in seen:
        tally.count(shadow, subscription, refused_for)
    return tally


async def test_the_report_adds_up_over_workers(ledger: ShadowLedger) -> None:
    """Two workers' counts make one report, and another shadow's are not in it."""
    await hand_on(tally_of(("pro@4", "sub_1", None), ("pro@4", "sub_2", "quota_exceeded")), ledger)
    await hand_on(tally_of(("pro@4", "sub_2", "quota_exceeded"), ("free@2", "sub_3", "scope_missing")), ledger)
    report = await ledger.report("pro@4")
    assert (report.requests, report.refused) == (3, {"quota_exceeded": 2})
    assert report.subscriptions == {"sub_2": 2}


async def test_the_most_refused_come_first_and_are_few(ledger: ShadowLedger) -> None:
    """The page shows whom a new version would hurt most."""
    seen = [("pro@4", f"sub_{number}", "rate_limited") for number in range(5) for _ in range(number + 1)]
    await hand_on(tally_of(*seen), ledger)
    assert list((await ledger.report("pro@4", top=2)).subscriptions) == ["sub_4", "sub_3"]


async def test_a_shadow_can_begin_afresh(ledger: ShadowLedger) -> None:
    """Stopped and started again, a shadow's report holds nothing of before."""
    await hand_on(tally_of(("pro@4", "sub_1", "rate_limited")), ledger)
    await ledger.forget("pro@4")
    assert (await ledger.report("pro@4")).requests == 0


async def test_what_cannot_be_handed_on_is_kept() -> None:
    """A minute without Redis costs the report nothing."""

    class Away(MemoryShadowLedger):
        async def add(self, counts: Counter[tuple[str, str, str]]) -> None:
            raise DependencyError(str(len(counts)))

    tally = tally_of(("pro@4", "sub_1", None))
    with pytest.raises(DependencyError):
        await hand_on(tally, Away())
    assert tally.take() == {("pro@4", "", PASSED): 1}
