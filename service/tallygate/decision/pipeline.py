"""The story of one request, from its headers to `Allow` or `Deny`.

Owns the order of the steps and what happens when a dependency is lost. Does not own any step's law
(`rules`), the counters (`limits`), or how a decision is written (`denials`, `envoy/responses`).
Any number of checks run at once; a check holds no lock. A cancelled check may have counted or not:
Envoy's retry brings the same request id, and the counters know it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from tallygate.core.clock import Clock
from tallygate.core.errors import LimiterUnavailableError, OverloadedError, StoreUnavailableError
from tallygate.credentials.extract import AmbiguousCredential, Credential, CredentialPlaces, NoCredential, extract
from tallygate.decision.decision import Allow, CheckInput, Decision, Deny, Reason
from tallygate.decision.first_use import FirstUse
from tallygate.decision.rules import Refusal, find_route, refuse_network, refuse_route, refuse_status, refuse_token
from tallygate.licenses.first_used import FirstUses
from tallygate.licenses.license import License, Phase
from tallygate.licenses.routes import RouteRule, RouteTable
from tallygate.limits.limit import FailPolicy, LimitKind
from tallygate.limits.limiter import Acquisition, Charge, Limiter, LimitOutcome, LimitState, Subject, Verdict
from tallygate.tokens.digest import Peppers
from tallygate.tokens.format import TokenFormat


class LicenseSource(Protocol):
    """Where the pipeline gets licenses: the cache."""

    @property
    def routes(self) -> RouteTable:
        """Return the route rules in force; raise StoreUnavailableError before they have been read."""
        ...

    async def get(self, digests: Sequence[bytes]) -> License | None:
        """Return the license, or None for a token that does not exist."""
        ...


def new_decision_id() -> str:
    """Return 32 hexadecimal digits from the operating system's entropy."""
    return os.urandom(16).hex()


class Pipeline:
    """Decides requests. `local` stands in for `limiter` where a limit's fail policy says so."""

    def __init__(
        self,
        *,
        licenses: LicenseSource,
        limiter: Limiter,
        local: Limiter,
        token_format: TokenFormat,
        peppers: Peppers,
        clock: Clock,
        places: CredentialPlaces = CredentialPlaces(),  # noqa: B008 - an immutable value
        decision_id: Callable[[], str] = new_decision_id,
        first_uses: FirstUses | None = None,
    ) -> None:
        """Take everything a decision needs; nothing is read later. `first_uses` learns when subscriptions began."""
        self._licenses = licenses
        self._limiter = limiter
        self._local = local
        self._format = token_format
        self._peppers = peppers
        self._clock = clock
        self._places = places
        self._decision_id = decision_id
        self._first_use = FirstUse(limiter, first_uses or FirstUses())

    async def check(self, asked: CheckInput) -> Decision:  # noqa: PLR0911 - any step of the story may end it
        """Decide one request; raises nothing that a dependency's failure could cause."""
        decision_id = self._decision_id()

        # 1. The one credential of the request.
        credential = extract(asked.headers, asked.target, self._places)
        if isinstance(credential, NoCredential):
            return Deny(Reason.CREDENTIAL_MISSING, decision_id, "The request carries no API token.")
        if isinstance(credential, AmbiguousCredential):
            return Deny(Reason.CREDENTIAL_AMBIGUOUS, decision_id, f"The request carries {credential.problem}.")

        # 2. Its form and checksum, before any look-up.
        token = self._format.parse(credential.text)
        if token is None:
            return Deny(Reason.TOKEN_MALFORMED, decision_id, "The API token is malformed.")

        # 3. What it may do.
        try:
            token_license = await self._licenses.get(self._peppers.candidates(token))
            routes = self._licenses.routes
        except OverloadedError:
            return Deny(Reason.OVERLOADED, decision_id, _OVERLOADED)
        except StoreUnavailableError:
            return Deny(Reason.DEPENDENCY_DOWN, decision_id, "The license cannot be read at present.")
        if token_license is None:
            return Deny(Reason.TOKEN_UNKNOWN, decision_id, "The API token is not known.")

        # 4. Whether it may do this, here and now.
        now = self._clock.now()
        phase = token_license.terms.phase_at(now, await self._first_use.of(token_license))
        case = Case(decision_id, credential, token_license, phase)
        judged = judge(case, routes, asked, now)
        if isinstance(judged, Refusal):
            return case.deny(judged)

        # 5. Every limit that applies, all or none.
        decision = await self._acquire(case, judged, asked)
        if isinstance(decision, Allow):
            await self._first_use.begin(token_license)
        return decision

    async def _acquire(self, case: "Case", route: RouteRule, asked: CheckInput) -> Decision:
        acquisition = case.acquisition(route, asked.request_id)
        degraded: FailPolicy | None = None
        try:
            verdict = await self._limiter.acquire(acquisition)
        except OverloadedError:
            return case.deny(Refusal(Reason.OVERLOADED, _OVERLOADED, route))
        except LimiterUnavailableError:
            degraded = fail_policy(acquisition.charges)
            if degraded is FailPolicy.CLOSED:
                return case.deny(Refusal(Reason.DEPENDENCY_DOWN, _NO_COUNTERS, route), degraded=degraded)
            verdict = await self._local.acquire(only_local(acquisition))
        if not verdict.is_admitted:
            return case.deny(replace(denied_because(verdict.states), route=route), verdict.states, degraded)
        return case.allow(route, verdict, degraded)


_OVERLOADED = "Too many requests are waiting; try again shortly."
_NO_COUNTERS = "The limits of the plan cannot be checked at present."


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a request once its license is found."""

    decision_id: str
    credential: Credential
    license: License
    phase: Phase

    def deny(self, why: Refusal, states: tuple[LimitState, ...] = (), degraded: FailPolicy | None = None) -> Deny:
        """Return the refusal."""
        return Deny(why.reason, self.decision_id, why.detail, self.license, self.phase, why.route, states, degraded)

    def allow(self, route: RouteRule, verdict: Verdict, degraded: FailPolicy | None) -> Allow:
        """Return the admission, with what a version in shadow says of it."""
        would_refuse = self._shadow_refusal(route, verdict)
        return Allow(
            reason=allowed_because(verdict, is_shadow_refused=would_refuse is not None),
            decision_id=self.decision_id,
            credential=self.credential,
            license=self.license,
            phase=self.phase,
            route=route,
            states=verdict.states,
            degraded=degraded,
            is_repeat=verdict.is_repeat,
            would_refuse=would_refuse,
        )

    def acquisition(self, route: RouteRule, request_id: str | None) -> Acquisition:
        """Return what the request consumes: every limit, in shadow too, whose meter the route costs."""
        costs = dict(route.costs)
        shadow = self.phase.shadow
        limits = self.phase.grant.limits + (shadow.limits if shadow else ())
        return Acquisition(
            subject=subject_of(self.license, self.phase),
            charges=tuple(Charge(limit, costs[limit.meter]) for limit in limits if limit.meter in costs),
            usage=tuple((meter, units) for meter, units in route.costs if units),
            route=route.text,
            idempotency_key=request_id,
        )

    def _shadow_refusal(self, route: RouteRule, verdict: Verdict) -> Reason | None:
        shadow = self.phase.shadow
        refusal = refuse_route(self.license, shadow, route) if shadow else None
        if refusal is not None:
            return refusal.reason
        exceeded = [state.limit for state in verdict.states if state.outcome is LimitOutcome.SHADOW_EXCEEDED]
        return _DENIED[exceeded[0].kind][0] if exceeded else None


def judge(case: Case, routes: RouteTable, asked: CheckInput, now: datetime) -> RouteRule | Refusal:
    """Return the route rule of a request that may have it, or why it must not pass."""
    refusal = (
        refuse_token(case.license, now)
        or refuse_status(case.license, case.phase)
        or refuse_network(case.license, asked.client_address)
    )
    if refusal is not None:
        return refusal
    route = find_route(routes, asked)
    return route if isinstance(route, Refusal) else refuse_route(case.license, case.phase.grant, route) or route


def subject_of(token_license: License, phase: Phase) -> Subject:
    """Return whose counters a request moves."""
    return Subject(token_license.customer, token_license.subscription, token_license.family, phase.counters)


def fail_policy(charges: tuple[Charge, ...]) -> FailPolicy:
    """Return the strictest policy of the enforced limits: closed over local over open.

    No enforced limit at all is open: nothing the caller could exceed is lost with the counters.
    """
    policies = {charge.limit.fail for charge in charges if not charge.limit.is_shadow}
    for policy in (FailPolicy.CLOSED, FailPolicy.LOCAL):
        if policy in policies:
            return policy
    return FailPolicy.OPEN


def only_local(acquisition: Acquisition) -> Acquisition:
    """Return the acquisition reduced to the limits that are counted in this process meanwhile."""
    return replace(
        acquisition,
        charges=tuple(
            charge
            for charge in acquisition.charges
            if charge.limit.fail is FailPolicy.LOCAL and not charge.limit.is_shadow
        ),
        usage=(),
    )


_DENIED: dict[LimitKind, tuple[Reason, str]] = {
    LimitKind.CREDITS: (Reason.CREDITS_EXHAUSTED, "The credits are used up"),
    LimitKind.QUOTA: (Reason.QUOTA_EXCEEDED, "The quota is used up"),
    LimitKind.RATE: (Reason.RATE_LIMITED, "Too many requests"),
    LimitKind.CONCURRENCY: (Reason.CONCURRENCY_EXCEEDED, "Too many requests at once"),
}


def denied_because(states: tuple[LimitState, ...]) -> Refusal:
    """Return the reason that takes longest to pass, and a sentence naming every exceeded limit of that kind."""
    exceeded = [state.limit for state in states if state.outcome is LimitOutcome.EXCEEDED]
    for kind, (reason, text) in _DENIED.items():
        names = [limit.name for limit in exceeded if limit.kind is kind]
        if names:
            return Refusal(reason, f"{text}: {', '.join(names)}.")
    message = "a refused acquisition names no exceeded limit"
    raise AssertionError(message)


def allowed_because(verdict: Verdict, *, is_shadow_refused: bool) -> Reason:
    """Return OVERAGE if a limit is over its amount, else SHADOW if a shadow would refuse, else OK."""
    outcomes = {state.outcome for state in verdict.states}
    if LimitOutcome.OVERAGE in outcomes:
        return Reason.OVERAGE
    return Reason.SHADOW if is_shadow_refused else Reason.OK
