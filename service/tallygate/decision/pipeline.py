"""The story of one request, from its headers to `Allow` or `Deny`.

Owns the order of the steps and what happens when a dependency is lost. Does not own any step's law
(`rules`), the counters (`limits`), or how a decision is written (`denials`, `envoy/responses`).
Any number of checks run at once; a check holds no lock. A cancelled check may have counted or not:
Envoy's retry brings the same request id, and the counters know it.

What does not change from one request to the next is worked out once and remembered, within bounds: what a
credential says, what a token's digests are, what a license comes to (`situation`), which route a path is.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import lru_cache
from typing import Protocol

from tallygate.core.clock import Clock
from tallygate.core.errors import LimiterUnavailableError, OverloadedError, StoreUnavailableError
from tallygate.credentials.extract import AmbiguousCredential, Credential, CredentialPlaces, NoCredential, Places
from tallygate.decision.decision import CheckInput, Decision, Deny, Reason
from tallygate.decision.first_use import FirstUse
from tallygate.decision.rules import Refusal, denied_because, find_route
from tallygate.decision.situation import Passage, Situation, Situations
from tallygate.licenses.first_used import FirstUses
from tallygate.licenses.license import License
from tallygate.licenses.routes import RouteTable
from tallygate.limits.degraded import DegradedUsage
from tallygate.limits.limit import FailPolicy
from tallygate.limits.limiter import Acquirer, Acquisition, Charge, Verdict
from tallygate.tokens.digest import Peppers
from tallygate.tokens.format import TokenFormat

_ID_BYTES, _IDS_AT_ONCE = 16, 256
_TOKENS = 16_384
"""Tokens whose digests are remembered: as many as are in use at a time, at a few hundred bytes each."""


class LicenseSource(Protocol):
    """Where the pipeline gets licenses: the cache."""

    @property
    def routes(self) -> RouteTable:
        """Return the route rules in force; raise StoreUnavailableError before they have been read."""
        ...

    def at_hand(self, digests: Sequence[bytes]) -> License | None:
        """Return the license if it is known now, None if `get` must say."""
        ...

    async def get(self, digests: Sequence[bytes]) -> License | None:
        """Return the license, or None for a token that does not exist."""
        ...


def decision_ids(draw: Callable[[int], bytes] = os.urandom) -> Callable[[], str]:
    """Return what makes ids: 32 hexadecimal digits of the operating system's entropy, drawn for many at a time."""

    def made() -> Iterator[str]:
        while True:
            digits = draw(_ID_BYTES * _IDS_AT_ONCE).hex()
            yield from (digits[at : at + 2 * _ID_BYTES] for at in range(0, len(digits), 2 * _ID_BYTES))

    return made().__next__


class Pipeline:
    """Decides requests. `local` stands in for `limiter` where a limit's fail policy says so."""

    def __init__(
        self,
        *,
        licenses: LicenseSource,
        limiter: Acquirer,
        local: Acquirer,
        token_format: TokenFormat,
        peppers: Peppers,
        clock: Clock,
        places: CredentialPlaces = CredentialPlaces(),  # noqa: B008 - an immutable value
        decision_id: Callable[[], str] | None = None,
        first_uses: FirstUses | None = None,
        degraded: DegradedUsage | None = None,
    ) -> None:
        """Take everything a decision needs; nothing is read later. `first_uses` learns when subscriptions began.

        `degraded` hears of what is admitted without the counters.
        """
        self._degraded = degraded
        self._licenses = licenses
        self._limiter = limiter
        self._local = local
        self._clock = clock
        self._extract = Places(places).extract
        self._decision_id = decision_id or decision_ids()
        self._first_use = FirstUse(limiter, first_uses or FirstUses())
        self._situations = Situations()
        self._longest_token = token_format.length
        self._digests = lru_cache(_TOKENS)(lambda text: _digests(text, token_format, peppers))

    def through(
        self, licenses: Callable[[LicenseSource], LicenseSource], limiter: Callable[[Acquirer], Acquirer]
    ) -> "Pipeline":
        """Return a pipeline that asks for licenses and limits by what these make of its own; all else is shared."""
        other = copy(self)
        other._licenses = licenses(self._licenses)  # noqa: SLF001 - another of ourselves
        other._limiter = limiter(self._limiter)  # noqa: SLF001
        return other

    async def check(self, asked: CheckInput) -> Decision:  # noqa: C901, PLR0911, PLR0912 - any step may end the story
        """Decide one request; raises nothing that a dependency's failure could cause."""
        decision_id = self._decision_id()

        # 1. The one credential of the request.
        credential = self._extract(asked.headers, asked.target)
        if not isinstance(credential, Credential):
            return _no_credential(decision_id, credential)

        # 2. Its form and checksum, before any look-up.
        text = credential.text
        digests = self._digests(text) if len(text) <= self._longest_token else None
        if digests is None:
            return Deny(Reason.TOKEN_MALFORMED, decision_id, "The API token is malformed.")

        # 3. What it may do.
        try:
            token_license = self._licenses.at_hand(digests) or await self._licenses.get(digests)
            routes = self._licenses.routes
        except OverloadedError:
            return Deny(Reason.OVERLOADED, decision_id, _OVERLOADED)
        except StoreUnavailableError:
            return Deny(Reason.DEPENDENCY_DOWN, decision_id, "The license cannot be read at present.")
        if token_license is None:
            return Deny(Reason.TOKEN_UNKNOWN, decision_id, "The API token is not known.")

        # 4. Whether it may do this, here and now.
        now = self._clock.now()
        if token_license.terms.first_use is None:
            situation = self._situations.of(token_license, now)
        else:
            situation = self._situations.of(token_license, now, await self._first_use.of(token_license))
        passage = judge(situation, routes, asked)
        if isinstance(passage, Refusal):
            return situation.deny(decision_id, passage)

        # 5. Every limit that applies, all or none.
        acquisition = passage.asking(asked.request_id, decision_id)
        degraded: FailPolicy | None = None
        try:
            verdict = await self._limiter.acquire(acquisition)
        except OverloadedError:
            return situation.deny(decision_id, Refusal(Reason.OVERLOADED, _OVERLOADED, passage.route))
        except LimiterUnavailableError as error:
            degraded = fail_policy(acquisition.charges)
            if degraded is FailPolicy.CLOSED:
                lost = Refusal(Reason.DEPENDENCY_DOWN, _NO_COUNTERS, passage.route)
                return situation.deny(decision_id, lost, degraded=degraded)
            verdict = await self._acquire_locally(acquisition, may_have_run=error.may_have_run)
        if not verdict.is_admitted:
            return situation.deny(decision_id, denied_because(verdict.states, passage.route), verdict.states, degraded)
        if token_license.terms.first_use is not None:
            await self._first_use.begin(token_license)
        return passage.allow(decision_id, credential, verdict, degraded, acquisition.idempotency_key)

    async def _acquire_locally(self, acquisition: Acquisition, *, may_have_run: bool) -> Verdict:
        """Do without the counters; `may_have_run`: they may have counted it all the same."""
        verdict = await self._local.acquire(only_local(acquisition))
        if verdict.is_admitted and not verdict.is_repeat and self._degraded is not None and acquisition.usage:
            self._degraded.add(acquisition, may_have_run=may_have_run)
        return verdict


_OVERLOADED = "Too many requests are waiting; try again shortly."
_NO_COUNTERS = "The limits of the plan cannot be checked at present."


def judge(situation: Situation, routes: RouteTable, asked: CheckInput) -> Passage | Refusal:
    """Return the passage of a request that may have it, or why it must not pass."""
    refusal = situation.refuse(asked)
    if refusal is not None:
        return refusal
    route = find_route(routes, asked)
    if isinstance(route, Refusal):
        return route
    passage = situation.passage(route, routes.meters)
    return passage.refusal or passage


def _no_credential(decision_id: str, found: NoCredential | AmbiguousCredential) -> Deny:
    if isinstance(found, NoCredential):
        return Deny(Reason.CREDENTIAL_MISSING, decision_id, "The request carries no API token.")
    return Deny(Reason.CREDENTIAL_AMBIGUOUS, decision_id, f"The request carries {found.problem}.")


def _digests(text: str, token_format: TokenFormat, peppers: Peppers) -> tuple[bytes, ...] | None:
    token = token_format.parse(text)
    return None if token is None else peppers.candidates(token)


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
    return acquisition._replace(
        charges=tuple(
            charge
            for charge in acquisition.charges
            if charge.limit.fail is FailPolicy.LOCAL and not charge.limit.is_shadow
        ),
        usage=(),
        receipt_s=0,
        unsettled=(),
    )
