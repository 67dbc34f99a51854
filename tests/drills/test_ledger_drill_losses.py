"""The ledger's drill finds what is missing: a drill that cannot fail proves nothing."""

from collections import Counter

from benchmarks.ledger_drill_callers import Told
from benchmarks.ledger_drill_losses import BOUND_S, Kill, Losses, differences
from redis.asyncio import Redis

AOF = {"aof_pending_bio_fsync": 1, "aof_buffer_length": 90, "aof_delayed_fsync": 0}
KILLED = Counter(valkey=1, serve=2)


def told_of(**keys: str) -> Told:
    """Return that a unit of each of these meters was told, known by its key."""
    told = Told()
    for meter, key in keys.items():
        told.add(meter, "counted", 1, key)
    return told


async def test_what_valkey_does_not_know_any_more_is_traced_to_its_kill(redis_url: str) -> None:
    """A loss tells its round, its meter and its age; one that is older than a late write is called so."""
    for age_s, too_old in ((1.0, 0), (BOUND_S + 1, 1)):
        told = told_of(exact="known", refunded="gone")
        told_at_s = told.recent[-1].at_s
        losses = Losses(redis_url, told_at_s - 60.5)
        async with Redis.from_url(redis_url) as client:
            await client.set("known", "0")
        kill = Kill(3, "valkey", told_at_s + age_s, AOF)
        await losses.look(told, kill)
        assert (losses.units, losses.too_old) == (Counter({("refunded", "counted"): 1}), too_old)
        (row,) = losses.rows
        assert (row["round"], row["lost"], row["minutes"]) == (3, {"refunded/counted": 1}, [60])
        assert row["oldest, s before"] == round(age_s, 3)
        assert told.recent == []


async def test_what_is_missing_without_a_kill_is_too_old(redis_url: str) -> None:
    """Nothing but a kill of Valkey explains a loss."""
    losses = Losses(redis_url, 0)
    await losses.look(told_of(exact="gone"), None)
    assert losses.too_old == 1


async def test_a_receipt_that_is_not_settled_any_more_is_a_loss(redis_url: str) -> None:
    """Its key is there, and has its charge again: the settlement is gone."""
    told, losses = Told(), Losses(redis_url, 0)
    for key in ("settled", "open"):
        told.add("reserved", "settlement", -4, key, is_settled=True)
    async with Redis.from_url(redis_url) as client:
        await client.mset({"settled": "", "open": "a receipt"})
    await losses.look(told, None)
    assert losses.units == {("reserved", "settlement"): 4}


def test_a_unit_too_few_or_too_many_is_told() -> None:
    """Without losses every total is exact, but for leased requests that a killed data plane had spent."""
    told, none = told_of(exact="1", leased="2"), Losses("", 0)
    exact, leased = ("exact", "counted"), ("leased", "counted")
    assert differences(told, {exact: 1, leased: 1 + 6}, none, KILLED) == {}
    for wrong in ({exact: 0, leased: 1}, {exact: 2, leased: 1}, {exact: 1, leased: 0}, {exact: 1, leased: 8}):
        assert len(differences(told, wrong, none, KILLED)) == 1
    lossy = Losses("", 0, rows=[{}], units=Counter({exact: 1}))
    assert differences(told, {exact: 0, leased: 1}, lossy, KILLED) == {}
