"""How long do the acts of the control plane take when the business is large?

Builds 100,000 customers with 1,000,000 tokens, 100,000 of which are one customer's, the whale's. Then calls each use
case, and the data plane's look-up, one call after the other, each for somebody else, or at another place of the whale's
list. Goal: p99 below 50 ms. Beside each number stands its ratio to a bare exchange of the
same kind with the same Postgres (`SELECT 1`, or an update of one row), measured in between: the machine's share.
Tables that were read from end to end meanwhile are named; there should be none.

    python -m benchmarks.scale
"""

import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import FORMAT, PEPPERS, Lab, control_plane, laboratory, scratch
from benchmarks.measure import arguments, keep, quantile, run, show, spread_ms
from benchmarks.population import Crowd, populate

from tallygate.admin.operations import Operations
from tallygate.admin.revocations import TokenFilter
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.storage.postgres import Connection, close_pool, connect, create_pool

GOAL_MS = 50
AT_ONCE = 8
_PAGE = 100
_SMALL_ROWS = 10_000
_ROUND = 50

Act = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Acts:
    """What is measured, by name; each is told the number of the call.

    `writes` are compared with a bare write, and so are `crowded` ones, of which `AT_ONCE` are under way at a time. They
    wait for each other: changes are numbered, and audit entries chained, in the order in which they are committed.
    """

    reads: Mapping[str, Act]
    writes: Mapping[str, Act]
    crowded: Mapping[str, Act]


def acts_of(operations: Operations, crowd: Crowd, store: PostgresLicenseStore) -> Acts:
    """Return every act, on somebody else each time; no token is rotated or revoked twice."""
    chance = random.Random(2)  # noqa: S311 - whom to ask about
    customers = chance.sample(crowd.customers, len(crowd.customers) // 2)
    subscriptions = chance.sample(crowd.subscriptions, len(crowd.subscriptions) // 2)
    live = chance.sample(crowd.tokens, len(crowd.tokens))
    quarter = len(live) // 4
    rotated, revoked, crowded, shown = (live[number * quarter :][:quarter] for number in range(4))

    async def find(number: int) -> None:
        text = FORMAT.parse(shown[number % quarter][1])
        assert text is not None  # noqa: S101 - we minted it
        found = await store.find(PEPPERS.candidates(text))
        assert found.license is not None  # noqa: S101 - a look-up that finds nothing is another measurement

    tokens, log = operations.tokens, operations.audit
    return Acts(
        reads={
            "license by digest (data plane)": find,
            "token by secret": lambda number: tokens.show(shown[number % quarter][1]),
            "token by id": lambda number: tokens.show(shown[number % quarter][0]),
            "tokens of a customer": lambda number: tokens.list(customer=customers[number], limit=_PAGE),
            "tokens of a subscription": lambda number: tokens.list(subscription=subscriptions[number], limit=_PAGE),
            **_acts_on_the_whale(operations, crowd, chance),
            "tokens by hint": lambda number: tokens.list(hint=shown[number % quarter][1][-4:], limit=_PAGE),
            "tokens, a page": lambda number: tokens.list(after=shown[number % quarter][0], limit=_PAGE),
            "customers, a page": lambda number: operations.customers.list(customers[number], _PAGE),
            "subscriptions, a page": lambda number: operations.subscriptions.list(None, subscriptions[number], _PAGE),
            "subscriptions of a customer": lambda number: operations.subscriptions.list(customers[number]),
            "subscription by id": lambda number: operations.subscriptions.show(subscriptions[number]),
            "audit of a token": lambda number: log.list(object=shown[number % quarter][0], limit=_PAGE),
            "audit of an actor": lambda number: log.list(actor=f"key:{number % 20}", limit=_PAGE),
            "audit, a page": lambda number: log.list(after=number * 100, limit=_PAGE),
        },
        writes={
            "issue": lambda number: tokens.issue(subscription=subscriptions[number], reason="benchmark"),
            "rotate": lambda number: tokens.rotate(rotated[number][0], reason="benchmark"),
            "revoke": lambda number: tokens.revoke(revoked[number][0], reason="benchmark"),
            "revoke a family": lambda number: tokens.revoke(crowd.families[number], reason="benchmark"),
            "suspend a subscription": lambda number: operations.subscriptions.suspend(subscriptions[number]),
            "create a customer": lambda number: operations.customers.create(f"newcomer-{number}", None),
        },
        crowded={
            f"issue, {AT_ONCE} at once": lambda number: tokens.issue(subscription=subscriptions[-1 - number]),
            f"revoke, {AT_ONCE} at once": lambda number: tokens.revoke(crowded[number][0], reason="benchmark"),
        },
    )


def _acts_on_the_whale(operations: Operations, crowd: Crowd, chance: random.Random) -> dict[str, Act]:
    """Return what is read of a customer with very many tokens, each time at another place of the list."""
    whole = crowd.whale_tokens[: -_PAGE - 1]  # after each of these comes a whole page
    middle = chance.sample(whole, min(len(whole), 10_000))

    async def page(after: str = "", **whose: str) -> None:
        found = await operations.tokens.list(after=after, limit=_PAGE, **whose)
        assert len(found) == _PAGE  # noqa: S101 - a shorter page is another measurement

    def somewhere(number: int) -> str:
        return middle[number % len(middle)]

    return {
        "tokens of the whale, first page": lambda _: page(customer=crowd.whale),
        "tokens of the whale, a middle page": lambda number: page(somewhere(number), customer=crowd.whale),
        "tokens of the whale's subscription, a middle page": lambda number: page(
            somewhere(number), subscription=crowd.whale_subscription
        ),
        "revoke the whale's, 100 in the middle (dry run)": lambda number: operations.revocations.revoke(
            TokenFilter(customer=crowd.whale), is_dry_run=True, limit=_PAGE, after=somewhere(number)
        ),
    }


async def timed(act: Act, calls: int, bare: Callable[[], Awaitable[object]], at_once: int = 1) -> dict[str, object]:
    """Return how long calls of an act took, and the ratio of its median to that of `bare`, asked in between."""
    took: list[float] = []
    bare_took: list[float] = []
    for first in range(0, calls, _ROUND):
        bare_took += [await _seconds(bare()) for _ in range(10)]
        todo = iter(range(first, min(first + _ROUND, calls)))

        async def one_after_the_other(todo: Iterator[int] = todo) -> None:
            for number in todo:
                took.append(await _seconds(act(number)))  # noqa: PERF401 - shared by all of them

        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return {**spread_ms(took), "x bare": round(quantile(took, 0.5) / quantile(bare_took, 0.5), 1)}


async def _seconds(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def measure(lab: Lab, crowd: Crowd, calls: int) -> list[dict[str, object]]:
    """Measure every act over `calls` calls."""
    bare = await connect(lab.owner_dsn, application_name="benchmark")
    pool = await create_pool(lab.data_plane_dsn, min_size=1)
    try:
        await bare.execute("CREATE TABLE bare (n bigint); INSERT INTO bare VALUES (0)")
        read, write = (lambda: bare.fetchval("SELECT 1")), (lambda: bare.execute("UPDATE bare SET n = n + 1"))
        async with control_plane(lab.control_dsn, connections=AT_ONCE) as control:
            acts = acts_of(control.acting("benchmark"), crowd, PostgresLicenseStore(pool))
            rows = [{"act": name, **await timed(act, calls, read)} for name, act in acts.reads.items()]
            rows += [{"act": name, **await timed(act, calls, write)} for name, act in acts.writes.items()]
            rows += [{"act": name, **await timed(act, calls, write, AT_ONCE)} for name, act in acts.crowded.items()]
            return rows
    finally:
        await close_pool(pool)
        await bare.close()


async def scans(connection: Connection) -> dict[str, int]:
    """Return how often each large table has been read from end to end."""
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    rows = await connection.fetch(
        "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE n_live_tup > $1", _SMALL_ROWS
    )
    return {row["relname"]: row["seq_scan"] for row in rows}


async def main(customers: int, tokens: int, whale: int, calls: int, directory: Path) -> None:
    """Build, measure, write down."""
    started = time.monotonic()
    async with laboratory(directory, is_durable=False) as lab, control_plane(lab.control_dsn) as control:
        owner = await connect(lab.owner_dsn, application_name="benchmark")
        crowd = await populate(
            control.acting("benchmark"), owner, customers=customers, tokens=tokens, whale=whale, known=4 * calls + 4
        )
        size = await owner.fetchval("SELECT pg_database_size(current_database())")
        await owner.close()
    gc.freeze()  # the crowd we keep is no garbage of the product's
    built_s = time.monotonic() - started
    print(f"built in {built_s:.0f} s: {size / 2**20:,.0f} MiB", flush=True)
    # Started anew: durable from here on, and nothing in the servers' caches.
    async with laboratory(directory) as lab:
        watching = await connect(lab.owner_dsn, application_name="benchmark")
        before = await scans(watching)
        rows = await measure(lab, crowd, calls)
        after = await scans(watching)
        await watching.close()
    read_whole = {
        table: number - before.get(table, 0) for table, number in after.items() if number != before.get(table)
    }
    show(f"{customers:,} customers, {tokens:,} tokens; the goal is p99 below {GOAL_MS} ms", rows)
    print("\nlarge tables read from end to end meanwhile:", read_whole or "none")
    counts = {"customers": customers, "subscriptions": len(crowd.subscriptions), "tokens": tokens}
    counts["tokens_of_the_whale"] = len(crowd.whale_tokens)
    about = {**counts, "MiB": size // 2**20, "built_s": round(built_s), "goal_ms": GOAL_MS}
    keep("scale", {"database": about, "acts": rows, "large_tables_read_whole": read_whole})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--whale", type=int, default=100_000, help="tokens of one customer (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=500, help="of each act (default: %(default)s)")
    chosen = parser.parse_args()
    with scratch() as place:
        run(main(chosen.customers, chosen.tokens, chosen.whale, chosen.calls, place))
