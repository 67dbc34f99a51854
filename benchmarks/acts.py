"""How long does a commercial act take, from the command to the first decision that is different for it?

The clock starts when the command does. When it returns, one `tallygate serve` process is asked, again and again, until
it decides otherwise than before; the data plane knew the token, where there was one. Goal: every act under 1 s. Each
act is done by the control plane in this process, and by the command line, each command a process of its own; an act
named in two parts is two commands. Before each, something bare is measured to compare with: the update of one row,
waited for to be on disk; and for the command line, the start of an interpreter that ends at once.

    python -m benchmarks.acts
"""

import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.caller import OK, Answer, Caller, Question, calling
from benchmarks.commands import CommandLine, Commands, InProcess, start_interpreter
from benchmarks.lab import control_plane, data_planes, laboratory, scratch
from benchmarks.measure import arguments, keep, quantile, run, show, spread_ms

from tallygate.admin.operations import Operations
from tallygate.admin.records import IssuedToken
from tallygate.plans.parse import parse
from tallygate.storage.postgres import connect

GOAL_MS = 1000
COHORT = 100
"""Subscriptions moved by one price change."""
_CHANGED_WITHIN_S = 30.0
_MOVES = 4  # a subscription keeps its past changes, so that one moved ever again is dearer than any real one
_PLANS = """
routes: [{match: "* /v1/**"}]
plans:
  - {key: steady, name: Steady, limits: [{name: per-second, rate: 1_000_000/s, burst: 1_000_000}]}
  - {key: small, name: Small, limits: [{name: monthly, quota: 1, period: billing}]}
"""
_TIER = """
routes: [{match: "* /v1/**"}]
plans:
  - {key: KEY, name: A tier, price: {amount: "PRICE", currency: USD, every: month},
     limits: [{name: monthly, quota: 1_000_000, period: billing}]}
"""


def tier(key: str, price: int = 1) -> str:
    """Return a plan file with one plan."""
    return _TIER.replace("KEY", key).replace("PRICE", f"{price}.00")


@dataclass(frozen=True, slots=True)
class Done:
    """One act: seconds until its commands had returned, and until the first changed decision."""

    command_s: float
    changed_s: float


@dataclass(slots=True)
class Cohort:
    """Subscriptions on one plan that always move together, and the token of one of them."""

    plan: str
    secret: str
    version: int = 1


class Stage:
    """Where acts are done: somebody to act, a data plane to ask, and customers to act upon."""

    def __init__(self, name: str, operations: Operations, caller: Caller, commands: Commands) -> None:
        """Act by `commands`; `operations` prepare what an act needs. `name` keeps the customers of two stages apart."""
        self._name = name
        self.operations = operations
        self.caller = caller
        self.commands = commands
        self._made = 0
        self.cohort: Cohort | None = None

    def fresh(self, prefix: str) -> str:
        """Return a key nobody has yet."""
        self._made += 1
        return f"{prefix}-{self._name}-{self._made}"

    async def customer(self) -> str:
        """Return a new customer."""
        return (await self.operations.customers.create(self.fresh("customer"), None)).id

    async def known_token(self, plan: str = "steady") -> IssuedToken:
        """Return a token of a new customer on `plan` that the data plane has allowed once."""
        subscription = await self.operations.subscriptions.create(await self.customer(), plan)
        issued = await self.operations.tokens.issue(subscription=subscription.id)
        await self.until(issued.secret, lambda answer: answer.reason == OK)
        return issued

    async def until(self, secret: str, is_changed: Callable[[Answer], bool]) -> None:
        """Ask until the answer is as wanted; raise TimeoutError when it does not come to that."""
        end, question = time.monotonic() + _CHANGED_WITHIN_S, Question(secret)
        while not is_changed(answer := await self.caller.ask(question)):
            if time.monotonic() > end:
                raise TimeoutError(answer)


Act = Callable[[Stage], Awaitable[Done]]


async def issue(stage: Stage) -> Done:
    """A new token is allowed."""
    subscription = await stage.operations.subscriptions.create(await stage.customer(), "steady")
    started = time.perf_counter()
    secret = await stage.commands.issue(subscription.id)
    commanded = time.perf_counter()
    await stage.until(secret, lambda answer: answer.reason == OK)
    return _done(started, commanded)


async def revoke(stage: Stage) -> Done:
    """A revoked token is refused."""
    token = await stage.known_token()
    started = time.perf_counter()
    await stage.commands.revoke(token.record.id)
    commanded = time.perf_counter()
    await stage.until(token.secret, lambda answer: answer.reason == "token_unknown")
    return _done(started, commanded)


async def rotate(stage: Stage) -> Done:
    """The new token is allowed and the old one refused."""
    token = await stage.known_token()
    started = time.perf_counter()
    secret = await stage.commands.rotate(token.record.id)
    commanded = time.perf_counter()
    await stage.until(secret, lambda answer: answer.reason == OK)
    await stage.until(token.secret, lambda answer: answer.reason == "token_unknown")
    return _done(started, commanded)


async def suspend(stage: Stage) -> Done:
    """A suspended subscription is refused."""
    token = await stage.known_token()
    started = time.perf_counter()
    await stage.commands.suspend(token.record.subscription)
    commanded = time.perf_counter()
    await stage.until(token.secret, lambda answer: answer.reason == "subscription_suspended")
    return _done(started, commanded)


async def custom_contract(stage: Stage) -> Done:
    """A customer whose quota is used up is served again once the contract says more."""
    token = await stage.known_token("small")
    await stage.until(token.secret, lambda answer: answer.reason == "quota_exceeded")
    started = time.perf_counter()
    await stage.commands.override(token.record.subscription, {"limits": {"monthly": {"amount": 1_000_000}}})
    commanded = time.perf_counter()
    await stage.until(token.secret, lambda answer: answer.reason == OK)
    return _done(started, commanded)


async def new_tier(stage: Stage) -> Done:
    """A plan that was not there is published, a customer put on it, and their token decided by it."""
    customer, key = await stage.customer(), stage.fresh("tier")
    started = time.perf_counter()
    await stage.commands.apply(tier(key))
    secret = await stage.commands.subscribe(customer, key)
    commanded = time.perf_counter()
    await stage.until(secret, lambda answer: answer.plan == f"{key}@1")
    return _done(started, commanded)


async def price_change(stage: Stage) -> Done:
    """A new version is published and everyone moved to it, from the first to the last of them."""
    if stage.cohort is None or stage.cohort.version > _MOVES:
        stage.cohort = await _gather(stage)
    cohort = stage.cohort
    version = cohort.version = cohort.version + 1
    started = time.perf_counter()
    await stage.commands.apply(tier(cohort.plan, price=version))
    await stage.commands.migrate(f"{cohort.plan}@{version - 1}", f"{cohort.plan}@{version}")
    commanded = time.perf_counter()
    await stage.until(cohort.secret, lambda answer: answer.plan == f"{cohort.plan}@{version}")
    return _done(started, commanded)


async def _gather(stage: Stage) -> Cohort:
    key = stage.fresh("priced")
    await stage.operations.plans.apply(parse(tier(key), "benchmark"))
    token = await stage.known_token(key)
    for _ in range(COHORT - 1):
        await stage.operations.subscriptions.create(await stage.customer(), key)
    return Cohort(key, token.secret)


ACTS: dict[str, Act] = {
    "issue a token": issue,
    "revoke a token": revoke,
    "rotate a token": rotate,
    "suspend a subscription": suspend,
    "custom contract (override)": custom_contract,
    "new tier (publish; subscribe with a token)": new_tier,
    f"price change (publish; move {COHORT} subscriptions)": price_change,
}


def _done(started: float, commanded: float) -> Done:
    return Done(commanded - started, time.perf_counter() - started)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def measure(stage: Stage, repeats: int, bare: Callable[[], Awaitable[object]]) -> list[dict[str, object]]:
    """Do every act so many times, and `bare` before each; CPU seconds are those of the processes started for it."""
    rows: list[dict[str, object]] = []
    for name, act in ACTS.items():
        done: list[Done] = []
        bare_s: list[float] = []
        cpu_s: list[float] = []
        for _ in range(repeats):
            started = time.perf_counter()
            await bare()
            bare_s.append(time.perf_counter() - started)
            before_s = _children_cpu_s()
            done.append(await act(stage))
            cpu_s.append(_children_cpu_s() - before_s)
        total_s = [one.changed_s for one in done]
        after_s = [one.changed_s - one.command_s for one in done]
        rows.append(
            {
                "act": name,
                **spread_ms(total_s),
                "after the command, p50_ms": spread_ms(after_s)["p50_ms"],
                "bare, p50_ms": spread_ms(bare_s)["p50_ms"],
                "CPU of commands, s": round(quantile(cpu_s, 0.5), 2),
                "x bare": round(quantile(total_s, 0.5) / quantile(bare_s, 0.5), 1),
            }
        )
    return rows


async def main(repeats: int, cli_repeats: int) -> None:
    """Do every act both ways, write down how long they took."""
    with scratch() as place:
        async with laboratory(place) as lab, control_plane(lab.control_dsn) as control:
            operations = control.acting("benchmark")
            await operations.plans.apply(parse(_PLANS, "benchmark"))
            disk = await connect(lab.owner_dsn, application_name="benchmark")
            await disk.execute("CREATE TABLE bare (n bigint); INSERT INTO bare VALUES (0)")
            try:
                async with data_planes(lab, 1) as (plane,), calling(plane.address) as caller:
                    by_process = Stage("a", operations, caller, InProcess(operations))
                    in_process = await measure(by_process, repeats, lambda: disk.execute("UPDATE bare SET n = n + 1"))
                    show(f"by the control plane in process; the goal is below {GOAL_MS} ms", in_process)
                    by_cli = await measure(
                        Stage("b", operations, caller, CommandLine(lab)), cli_repeats, start_interpreter
                    )
                    show("by the command line, each command a process", by_cli)
            finally:
                await disk.close()
    keep("acts", {"goal_ms": GOAL_MS, "in process": in_process, "command line": by_cli})


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, default=40, help="of each act in process (default: %(default)s)")
    parser.add_argument("--cli-repeats", type=int, default=25, help="of each by commands (default: %(default)s)")
    chosen = parser.parse_args()
    run(main(chosen.repeats, chosen.cli_repeats))
