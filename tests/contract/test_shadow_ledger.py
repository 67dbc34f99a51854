"""What every ledger of shadow counts keeps: one body, run on memory and on Redis."""

from collections.abc import AsyncIterator

import pytest

from tallygate.core.errors import DependencyError
from tallygate.insights.memory import MemoryShadowLedger
from tallygate.insights.redis import RedisShadowLedger
from tallygate.insights.shadow import (
    NAMED_AT_ONCE,
    NAMED_IN_ALL,
    NOTHING_SEEN,
    PASSED,
    Counts,
    ShadowLedger,
    ShadowTally,
    hand_on,
)
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


def tally_of(*seen: tuple[str, str, str, str | None]) -> ShadowTally:
    """Return a worker's tally of (beside, shadow, subscription, refused for)."""
    tally = ShadowTally()
    for beside, shadow, subscription, refused_for in seen:
        tally.count(beside, shadow, subscription, refused_for)
    return tally


async def test_the_report_adds_up_over_workers(ledger: ShadowLedger) -> None:
    """Two workers' counts make one report, and another shadow's are not in it."""
    trial, other = ("pro@3", "pro@4"), ("pro@3", "free@2")
    await hand_on(tally_of((*trial, "sub_1", None), (*trial, "sub_2", "quota_exceeded")), ledger)
    await hand_on(tally_of((*trial, "sub_2", "quota_exceeded"), (*other, "sub_3", "scope_missing")), ledger)
    report = await ledger.report("pro@3", "pro@4")
    assert (report.requests, report.refused) == (3, {"quota_exceeded": 2})
    assert report.subscriptions == {"sub_2": 2}


async def test_a_version_tried_beside_two_has_two_reports(ledger: ShadowLedger) -> None:
    """Nor does a limit in shadow share one with the version that is tried beside it, or with its like elsewhere."""
    seen = [("pro@3", "pro@4"), ("pro@2", "pro@4"), ("pro@3", "pro@3:burst"), ("pro@2", "pro@2:burst")]
    for number, pair in enumerate(seen, start=1):
        await hand_on(tally_of(*[(*pair, f"sub_{number}", "rate_limited")] * number), ledger)
    reports = [await ledger.report(*pair) for pair in seen]
    assert [report.requests for report in reports] == [1, 2, 3, 4]
    assert [report.subscriptions for report in reports] == [{"sub_1": 1}, {"sub_2": 2}, {"sub_3": 3}, {"sub_4": 4}]


async def test_the_most_refused_come_first_and_are_few(ledger: ShadowLedger) -> None:
    """The page shows whom a new version would hurt most."""
    seen = [("pro@3", "pro@4", f"sub_{number}", "rate_limited") for number in range(5) for _ in range(number + 1)]
    await hand_on(tally_of(*seen), ledger)
    assert list((await ledger.report("pro@3", "pro@4", top=2)).subscriptions) == ["sub_4", "sub_3"]


async def test_a_shadow_can_begin_afresh(ledger: ShadowLedger) -> None:
    """Stopped and started again, a shadow's report holds nothing of before; beside another it goes on."""
    await hand_on(tally_of(*((beside, "pro@4", "sub_1", "rate_limited") for beside in ("pro@3", "pro@2"))), ledger)
    await ledger.forget("pro@3", "pro@4")
    assert await ledger.report("pro@3", "pro@4") == NOTHING_SEEN
    assert (await ledger.report("pro@2", "pro@4")).requests == 1


async def test_a_report_names_so_many_and_counts_all(ledger: ShadowLedger) -> None:
    """A limit may be in shadow for years: its report stays small, and goes on with the subscriptions it knows."""
    trial = ("pro@3", "pro@4")
    for first in range(0, NAMED_IN_ALL, NAMED_AT_ONCE):
        numbers = range(first, first + NAMED_AT_ONCE)
        await hand_on(tally_of(*((*trial, f"sub_{number}", "rate_limited") for number in numbers)), ledger)
    await hand_on(tally_of((*trial, "sub_7", "rate_limited"), *[(*trial, "late", "quota_exceeded")] * 3), ledger)
    report = await ledger.report(*trial, top=NAMED_IN_ALL + 1)
    assert report.refused == {"quota_exceeded": 3, "rate_limited": NAMED_IN_ALL + 1}
    assert len(report.subscriptions) == NAMED_IN_ALL
    assert (report.subscriptions["sub_7"], "late" in report.subscriptions) == (2, False)


async def test_what_cannot_be_handed_on_is_kept() -> None:
    """A minute without Redis costs the report nothing, and nothing that was handed on before is counted twice."""

    class Away(MemoryShadowLedger):
        async def add(self, beside: str, shadow: str, counts: Counts) -> None:
            if beside != "pro@2":
                raise DependencyError(str(len(counts)))
            await super().add(beside, shadow, counts)

    ledger, tally = Away(), tally_of(("pro@2", "pro@4", "sub_1", None), ("pro@3", "pro@4", "sub_1", None))
    with pytest.raises(DependencyError):
        await hand_on(tally, ledger)
    assert (await ledger.report("pro@2", "pro@4")).requests == 1
    assert tally.take() == {("pro@3", "pro@4"): {("", PASSED): 1}}


@pytest.mark.parametrize("is_refused", [False, True], ids=["counted", "put back"])
def test_a_tally_names_so_many_and_counts_all(*, is_refused: bool) -> None:
    """Memory is bounded between two flushes, and over many that fail: beyond, only who is known is named."""
    tally, pair = ShadowTally(), ("pro@3", "pro@4")
    for number in range(NAMED_AT_ONCE):
        tally.count(*pair, f"sub_{number}", "rate_limited")
    if is_refused:
        tally.put_back(pair, tally.take()[pair])
    for subscription in ("late", "later", "sub_0"):
        tally.count(*pair, subscription, "rate_limited")
    counts = tally.take()[pair]
    assert len(counts) == NAMED_AT_ONCE + 1
    assert (counts["", "rate_limited"], counts["sub_0", "rate_limited"]) == (NAMED_AT_ONCE + 3, 2)
