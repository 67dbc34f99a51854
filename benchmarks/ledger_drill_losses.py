"""What a Valkey that was killed had told and does not know any more, and whether the ledger is what that leaves.

Every admission and every settlement leaves a key in the step that counts its units: where the key is gone after a
restart, so are the units. Owns that search and the bounds. `always` may lose nothing. `everysec` may lose what was told
within `BOUND_S` of the kill of Valkey, and only that: while an fsync is under way Valkey puts off what it has to write,
for up to 2 s, and answers all the same. A slab of leased requests is told when it ends, up to a second after them, and
leaves no key of theirs: of those only the bound is known.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.drill_process import FASTER
from benchmarks.ledger_drill_callers import CALLERS, COSTS, Act, Told
from redis.asyncio import Redis

BOUND_S, SLAB_S = 2.5, 1.0
"""2 s that a write is put off, and half a second for what a busy machine takes to hear an answer."""
_GIVEN_BACK = "lapsing", "refund"
"""Given back and moved, lost, and given back again: nobody is told of it, so there is no bound to be checked. It takes
the fast clock: a bucket is moved 2 s after its minute, when by the true one all of it is in the file."""
_AT_ONCE = 5_000
Totals = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill of Valkey: in which round, with whom, when, and what Valkey said just before."""

    round: int
    victims: str
    at_s: float
    told: Mapping[str, int]


@dataclass
class Losses:
    """What was lost, kill by kill; minutes are those of the fast clock since `began_s`."""

    redis_url: str
    began_s: float
    rows: list[dict[str, object]] = field(default_factory=list)
    units: Counter[tuple[str, str]] = field(default_factory=Counter)
    from_slabs: int = 0
    too_old: int = 0

    async def look(self, told: Told, kill: Kill | None) -> None:
        """Look for all that was told since the last look; `kill` is what came between, None for nothing."""
        acts, told.recent = told.recent, []
        gone = await self._gone(acts)
        lost = [act for act in gone if act.meter != "leased"]
        self.from_slabs += len(gone) - len(lost)
        if kill is not None and (lost or kill.told["aof_pending_bio_fsync"]):
            at_risk = [act for act in acts if act.meter == "leased" and act.at_s > kill.at_s - BOUND_S - SLAB_S]
            self.units["leased", "counted"] += len(at_risk)
        for act in lost:
            self.units[act.meter, act.entry] += abs(act.units)
            self.too_old += kill is None or act.at_s < kill.at_s - BOUND_S
        if lost:
            self.rows.append(_row(lost, kill, self.began_s))

    async def _gone(self, acts: Sequence[Act]) -> list[Act]:
        """Return those of which Valkey does not know any more, or not that they are settled."""
        gone: list[Act] = []
        async with Redis.from_url(self.redis_url) as client:  # the connections of before were killed with Valkey
            for at in range(0, len(acts), _AT_ONCE):
                some = acts[at : at + _AT_ONCE]
                async with client.pipeline(transaction=False) as pipeline:
                    for act in some:
                        pipeline.get(act.key)
                    values = await pipeline.execute()
                known = zip(some, values, strict=True)
                gone += [act for act, value in known if value is None or (act.is_settled and value)]
        return gone


def differences(told: Told, ledger: Totals, losses: Losses, killed: Mapping[str, int]) -> dict[str, object]:
    """Return what differs from what was told by more than it may, by meter and entry."""
    found: dict[str, object] = {}
    for name in sorted({*told.units, *ledger}):
        more = ledger.get(name, 0) - told.units[name]
        least, most = _may_differ(name, losses, killed, told.late)
        if not least <= more <= most and not (losses.rows and name == _GIVEN_BACK):
            found["/".join(name)] = f"{more:+,} ({least:+,} to {most:+,} may be)"
    return found


def _may_differ(name: tuple[str, str], losses: Losses, killed: Mapping[str, int], late: int) -> tuple[int, int]:
    """Return by how much the ledger may have less, and more, than callers were told."""
    meter, entry = name
    lost, again = losses.units[name], 0
    if losses.rows:  # counted, moved, lost before it was answered, and asked again: one request of each caller
        again = killed["valkey"] * CALLERS.count(meter) * COSTS[meter]
    if meter == "leased":  # spent, and not answered when the data plane was killed: it counts, and is asked again
        again += killed["serve"] * CALLERS.count(meter) + late
    return (-lost, again) if entry == "counted" else (-lost - again, lost + again)


def _row(lost: Sequence[Act], kill: Kill | None, began_s: float) -> dict[str, object]:
    by_meter = Counter(f"{act.meter}/{act.entry}" for act in lost)
    if kill is None:
        return {"round": 0, "killed": "nobody", "lost": dict(by_meter)}
    ages_s = [kill.at_s - act.at_s for act in lost]
    return {
        "round": kill.round,
        "killed": kill.victims,
        "lost": dict(by_meter),
        "minutes": sorted({int((act.at_s - began_s) * FASTER // 60) for act in lost}),
        "oldest, s before": round(max(ages_s), 3),
        "newest": round(min(ages_s), 3),
        **kill.told,
    }
