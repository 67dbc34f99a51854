"""A whole pipeline in memory: the shipped cache, store and counters, a clock to move, a token that works.

Tests change the one thing they are about: the license, the routes, the request, or what is lost.
"""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network

from support.terms import terms_of, with_limits

from tallygate.core.clock import ManualClock
from tallygate.core.errors import LimiterUnavailableError
from tallygate.credentials.extract import CredentialPlaces
from tallygate.decision.decision import CheckInput, Decision
from tallygate.decision.explain import Looking
from tallygate.decision.pipeline import Pipeline
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.first_used import FirstUses
from tallygate.licenses.license import CustomerStatus, Grant, License, Terms
from tallygate.licenses.memory import MemoryLicenseStore
from tallygate.licenses.routes import EVERYTHING, RouteRule
from tallygate.limits.amendment import Amendment, AmendOutcome
from tallygate.limits.degraded import DegradedUsage
from tallygate.limits.limit import FailPolicy, Limit, LimitKind
from tallygate.limits.limiter import Acquirer, Acquisition, Subject, Verdict
from tallygate.limits.memory import MemoryLimiter
from tallygate.limits.receipt import Receipt
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import Environment, TokenFormat
from tallygate.tokens.mint import mint

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
PEPPER_TEXT = "a pepper of tests, long enough to be one"
PEPPER = Pepper(PEPPER_TEXT)
FORMAT = TokenFormat()
TOKEN = mint(FORMAT, Environment.LIVE)
UNKNOWN = mint(FORMAT, Environment.LIVE)
GRANT = Grant(
    plan="pro@3",
    plan_key="pro",
    scopes=frozenset({"things.read", "things.write"}),
    features={"reports": True, "beta": False, "seats": 0},
    limits=(),
)
TERMS = terms_of(GRANT)
PHASE = TERMS.phase_at(NOW)
LICENSE = License("cus_1", CustomerStatus.ACTIVE, "sub_1", "fam_1", "tok_1", TERMS, generation=1)
HOME = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))


class Counters:
    """The counters in memory, until told to fail; counts how often it was asked."""

    def __init__(self, clock: ManualClock) -> None:
        """Begin with nothing counted, and answering."""
        self.memory = MemoryLimiter(clock)
        self.failure: Exception | None = None
        self.calls = 0

    def lose(self) -> None:
        """Stop answering, as a lost Redis does."""
        self.failure = LimiterUnavailableError("the counters were told to be lost")

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge or none."""
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        return await self.memory.acquire(acquisition)

    async def peek(self, acquisition: Acquisition) -> Verdict:
        """Say what `acquire` would answer."""
        return await self.memory.peek(acquisition)

    async def report(self, acquisition: Acquisition) -> Verdict:
        """Consume every charge, come what may."""
        return await self.memory.report(acquisition)

    async def receipt(self, customer: str, receipt_id: str) -> Receipt | None:
        """Return a receipt."""
        return await self.memory.receipt(customer, receipt_id)

    async def amend(self, amendment: Amendment) -> AmendOutcome:
        """Change what was charged."""
        return await self.memory.amend(amendment)

    async def release(self, subject: Subject, request_id: str) -> None:
        """Say that a request has ended."""
        await self.memory.release(subject, request_id)

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        """Say when the subscription was first used."""
        if self.failure is not None:
            raise self.failure
        return await self.memory.first_used_at(subject, is_look=is_look)


class Desk:
    """A pipeline and everything around it. `TOKEN` has `LICENSE` until a test issues another."""

    def __init__(self, places: CredentialPlaces | None = None) -> None:
        """Set everything up at `NOW`, with one route rule that covers everything."""
        self.clock = ManualClock(NOW)
        self.store = MemoryLicenseStore()
        self.cache = LicenseCache(self.store, self.clock, jitter=lambda: 0.0)
        self.counters = Counters(self.clock)
        self.local = MemoryLimiter(self.clock)
        self.places = places or CredentialPlaces()
        self.first_uses = FirstUses()
        self.degraded = DegradedUsage(self.clock, lambda _result, _requests: None)
        self.issue()
        self.rules: tuple[RouteRule, ...] = (EVERYTHING,)
        self.meters: dict[str, str | None] = {}
        self.pipeline = self.pipeline_over(self.counters)

    def pipeline_over(self, limiter: Acquirer) -> Pipeline:
        """Return a pipeline that counts in `limiter`."""
        return Pipeline(
            licenses=self.cache,
            limiter=limiter,
            local=self.local,
            token_format=FORMAT,
            peppers=Peppers(PEPPER),
            clock=self.clock,
            places=self.places,
            decision_id=lambda: "decision-1",
            first_uses=self.first_uses,
            degraded=self.degraded,
        )

    def issue(self, *limits: Limit, terms: Terms = TERMS, license_: License = LICENSE) -> None:
        """Give `TOKEN` a license with these terms and limits."""
        entry = replace(license_, terms=with_limits(terms, limits) if limits else terms)
        self.cache.apply(self.store.put(PEPPER.digest(TOKEN).value, entry))

    def lose(self, *limits: Limit) -> None:
        """Give `TOKEN` these limits and lose the counters they are counted in."""
        self.issue(*limits)
        self.counters.lose()

    async def check(self, asked: CheckInput | None = None) -> Decision:
        """Decide a request, with the rules of this desk in force."""
        if self.store.is_available:
            await self.put_rules()
        return await self.pipeline.check(asked or request())

    async def explain(self, asked: CheckInput | None = None) -> Decision:
        """Decide the same, looking only."""
        await self.put_rules()
        return await self.pipeline_over(Looking(self.counters)).check(asked or request())

    async def put_rules(self) -> None:
        """Put the rules and meters of this desk in force."""
        found = await self.store.routes()
        if (found.rules, found.meters) != (self.rules, self.meters):
            self.cache.apply(self.store.put_routes(self.rules, self.meters))
        await self.cache.load_routes()


def request(
    target: str = "/v1/things",
    method: str = "GET",
    *,
    token: str = TOKEN.text,
    headers: dict[str, str] | None = None,
    client_address: str = "192.0.2.7",
    request_id: str | None = None,
) -> CheckInput:
    """Return a request that carries `token` as its bearer, unless `headers` say otherwise."""
    given = {"authorization": f"Bearer {token}"} if headers is None else headers
    return CheckInput(method, target, given, client_address, request_id)


def credits_of(name: str, amount: int, **options: object) -> Limit:
    """Return a limit of so many units in all, which needs no clock to reason about."""
    return replace(Limit(name, LimitKind.CREDITS, amount), **options)  # type: ignore[arg-type]  # the fields of Limit


def limits_by_policy() -> dict[FailPolicy, Limit]:
    """Return a limit of one unit for every fail policy."""
    return {policy: credits_of(policy.value, 1, fail=policy) for policy in FailPolicy}
