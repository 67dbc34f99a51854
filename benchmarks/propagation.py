"""How long after a revocation is the token refused, by every one of four processes, under load?

Four `tallygate serve` processes with a cache each decide a steady load of requests. Tokens are revoked through the use
case, one after the other. Each is asked for at each process without a break, before and after; what counts is the
first refusal, from the moment the use case returned (so from the commit) and from the moment it was called. At the end
every token is asked for again everywhere: none may have come back.

Then the same through a relay that lets everything of Postgres pass but notifications. What is left is the change log,
read every 5 s; above it stands the life of a cached license, 25 s.

    python -m benchmarks.propagation
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field

from benchmarks.caller import OK, Caller, Question, calling
from benchmarks.lab import Lab, control_plane, data_planes, laboratory, scratch
from benchmarks.measure import arguments, keep, run, show, spread_ms
from benchmarks.population import catalogue_text
from benchmarks.relay import losing_notifications

from tallygate.admin.operations import Operations
from tallygate.admin.records import IssuedToken
from tallygate.plans.parse import parse

PROCESSES = 4
BOUND_S = 30.0
_REFUSED = "token_unknown"  # what a revoked token reads like
_FAST_PAUSE_S, _SLOW_PAUSE_S = 0.001, 0.05
_SLOW_EVERY_S = 0.4
_LOAD_TOKENS = 100
_LOAD_IN_FLIGHT = 64


@dataclass(slots=True)
class Watch:
    """One token at one process: allowed so far, then refused."""

    caller: Caller
    secret: str
    pause_s: float
    was_allowed: asyncio.Event = field(default_factory=asyncio.Event)

    async def first_refusal(self) -> float:
        """Ask until refused; return when that was."""
        question = Question(self.secret)
        async with asyncio.timeout(BOUND_S * 2):
            while True:
                answer = await self.caller.ask(question)
                if answer.reason == _REFUSED:
                    return time.perf_counter()
                if answer.reason == OK:  # a process too busy to decide says so, and is asked again
                    self.was_allowed.set()
                await asyncio.sleep(self.pause_s)


@dataclass(frozen=True, slots=True)
class Revoked:
    """What became of one revocation: seconds from the call, and from the commit, to each process's first refusal."""

    from_command_s: tuple[float, ...]
    from_commit_s: tuple[float, ...]


async def revoke(operations: Operations, callers: Sequence[Caller], token: IssuedToken, pause_s: float) -> Revoked:
    """Revoke a token that every process has in its cache, and wait until every process refuses it."""
    watches = [Watch(caller, token.secret, pause_s) for caller in callers]
    async with asyncio.TaskGroup() as group:
        refusals = [group.create_task(watch.first_refusal()) for watch in watches]
        for watch in watches:
            await watch.was_allowed.wait()
        called_at = time.perf_counter()
        await operations.tokens.revoke(token.record.id, "benchmark")
        committed_at = time.perf_counter()
    refused_at = [refusal.result() for refusal in refusals]
    return Revoked(
        tuple(at - called_at for at in refused_at),
        # A process may hear of the commit before the one who made it does.
        tuple(max(0.0, at - committed_at) for at in refused_at),
    )


@asynccontextmanager
async def load(callers: Sequence[Caller], secrets: Sequence[str], per_second: int) -> AsyncIterator[Counter[str]]:
    """Send so many requests a second to each process while the block runs; count the answers by reason."""
    answers: Counter[str] = Counter()
    questions = [Question(secret) for secret in secrets]
    in_flight = asyncio.Semaphore(_LOAD_IN_FLIGHT)

    async def one(caller: Caller, question: Question) -> None:
        try:
            answers[(await caller.ask(question)).reason] += 1
        finally:
            in_flight.release()

    async def steadily(group: asyncio.TaskGroup) -> None:
        started, number = time.monotonic(), 0
        while True:
            for caller in callers:
                await in_flight.acquire()
                group.create_task(one(caller, questions[number % len(questions)]))
            number += 1
            await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))

    async with asyncio.TaskGroup() as group:
        pacing = group.create_task(steadily(group))
        try:
            yield answers
        finally:
            pacing.cancel()


async def heard(operations: Operations, callers: Sequence[Caller], tokens: Sequence[IssuedToken]) -> list[Revoked]:
    """Revoke one token after the other, as fast as all processes follow."""
    return [await revoke(operations, callers, token, _FAST_PAUSE_S) for token in tokens]


async def unheard(operations: Operations, callers: Sequence[Caller], tokens: Sequence[IssuedToken]) -> list[Revoked]:
    """Revoke a token every now and then, so that they fall anywhere between two reads of the log."""

    async def at(number: int, token: IssuedToken) -> Revoked:
        await asyncio.sleep(number * _SLOW_EVERY_S)
        return await revoke(operations, callers, token, _SLOW_PAUSE_S)

    return list(await asyncio.gather(*(at(number, token) for number, token in enumerate(tokens))))


async def came_back(callers: Sequence[Caller], tokens: Sequence[IssuedToken]) -> int:
    """Return how many revoked tokens some process allows again."""
    answers = [await caller.ask(Question(token.secret)) for token in tokens for caller in callers]
    return sum(answer.reason == OK for answer in answers)


async def issue(operations: Operations, number: int) -> list[IssuedToken]:
    """Return tokens of one customer on a plan without limits that matter here."""
    customer = await operations.customers.create(f"customer-{number}", None)
    subscription = await operations.subscriptions.create(customer.id, "enterprise")
    return [await operations.tokens.issue(subscription=subscription.id) for _ in range(number)]


def spreads(revoked: Sequence[Revoked]) -> dict[str, dict[str, float]]:
    """Return the spreads: of each process by itself, and of the last process of each revocation."""
    return {
        "commit to refusal, each process": spread_ms([took for one in revoked for took in one.from_commit_s]),
        "commit to refusal, the last process": spread_ms([max(one.from_commit_s) for one in revoked]),
        "command to refusal, the last process": spread_ms([max(one.from_command_s) for one in revoked]),
    }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario came to."""

    times: dict[str, dict[str, float]]
    tokens_that_came_back: int
    notifications_lost: int
    load_per_second: int
    load_answers: dict[str, int]


async def scenario(lab: Lab, operations: Operations, revocations: int, per_second: int, *, is_heard: bool) -> Outcome:
    """Measure one way of hearing of changes."""
    tokens = await issue(operations, revocations + _LOAD_TOKENS)
    revoked, steady = tokens[:revocations], tokens[revocations:]
    async with AsyncExitStack() as stack:
        relay = None if is_heard else await stack.enter_async_context(losing_notifications(lab.data_plane_dsn))
        planes = await stack.enter_async_context(data_planes(lab, PROCESSES, dsn=relay.dsn if relay else None))
        callers = [await stack.enter_async_context(calling(plane.address)) for plane in planes]
        started = time.monotonic()
        async with load(callers, [token.secret for token in steady], per_second) as answers:
            times = await (heard if is_heard else unheard)(operations, callers, revoked)
        rate = answers.total() / (time.monotonic() - started)
        back = await came_back(callers, revoked)
    return Outcome(spreads(times), back, relay.swallowed if relay else 0, round(rate), dict(answers))


async def main(revocations: int, unheard_revocations: int, per_second: int) -> None:
    """Run both scenarios, write down what they took."""
    with scratch() as place:
        async with laboratory(place) as lab, control_plane(lab.control_dsn) as control:
            operations = control.acting("benchmark")
            await operations.plans.apply(parse(catalogue_text(1), "benchmark"))
            fast = await scenario(lab, operations, revocations, per_second, is_heard=True)
            tell("with notifications", fast)
            slow = await scenario(lab, operations, unheard_revocations, per_second, is_heard=False)
            tell("every notification lost", slow)
    keep("propagation", {"processes": PROCESSES, "with notifications": asdict(fast), "without": asdict(slow)})


def tell(title: str, outcome: Outcome) -> None:
    """Print what a scenario came to."""
    show(title, ({"": name, **spread} for name, spread in outcome.times.items()))
    print(
        f"tokens that came back: {outcome.tokens_that_came_back}; notifications lost: {outcome.notifications_lost};",
        f"load: {outcome.load_per_second}/s, {outcome.load_answers}",
    )


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--revocations", type=int, default=1000)
    parser.add_argument("--unheard-revocations", type=int, default=50)
    parser.add_argument("--per-second", type=int, default=100, help="requests to each process (default: %(default)s)")
    chosen = parser.parse_args()
    run(main(chosen.revocations, chosen.unheard_revocations, chosen.per_second))
