"""What a license comes to at a time: all of a decision that no single request changes, worked out once.

Owns the answers that hold until the license is another one or an instant of its own has come, and keeps those
in use. Does not own the laws (`rules`) nor the order of the steps (`pipeline`). For one event loop.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeAlias

from tallygate.credentials.extract import Credential
from tallygate.decision.decision import Allow, CheckInput, Deny
from tallygate.decision.outcomes import with_ancestors
from tallygate.decision.rules import (
    Refusal,
    allowed_because,
    refuse_network,
    refuse_route,
    refuse_status,
    refuse_token,
)
from tallygate.decision.shadows import Shadows, shadows_of
from tallygate.licenses.license import License, Phase
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limit import FailPolicy, LimitKind
from tallygate.limits.limiter import Acquisition, Charge, LimitState, Subject, Verdict
from tallygate.plans.meters import Meters

_KEPT, _KEPT_PASSAGES = 10_000, 40_000
_made = tuple.__new__
"""As a named tuple's own constructor does, without the call in between: for what is made at every request."""
_NO_METERS: Meters = MappingProxyType({})
_ALWAYS, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Passage:
    """A route under a license: why it is refused, or what a request of it consumes, but for the request's id.

    `shadows` are what looks at such requests and decides nothing, None when nothing does. `has_outcome`: how a request
    ends changes something, so it leaves a receipt, or holds a limit until then.
    """

    license: License
    phase: Phase
    route: RouteRule
    refusal: Refusal | None
    acquisition: Acquisition
    shadows: Shadows | None
    has_outcome: bool = False

    def asking(self, request_id: str | None, decision_id: str) -> Acquisition:
        """Return what the request with this id consumes; one without goes by the decision's where its end matters."""
        subject, charges, usage, route, _, *more = self.acquisition
        if request_id is None and self.has_outcome:
            request_id = decision_id
        return _made(Acquisition, (subject, charges, usage, route, request_id, *more))

    def allow(
        self,
        decision_id: str,
        credential: Credential,
        verdict: Verdict,
        degraded: FailPolicy | None,
        request_id: str | None,
    ) -> Allow:
        """Return the admission of what was asked under `request_id`, with what is in shadow says of it."""
        _, is_repeat, states, _ = verdict
        opinions = () if self.shadows is None else self.shadows.opinions(states)
        reason = allowed_because(states, opinions)
        # While the counters are away nothing was charged that could be amended, nor is anything held.
        receipt = request_id if self.has_outcome and degraded is None else None
        holder = credential, self.license, self.phase, self.route
        return _made(Allow, (reason, decision_id, *holder, states, degraded, is_repeat, opinions, receipt))


_Made: TypeAlias = deque[tuple[dict[int, Passage], int]]


@dataclass(slots=True)
class Situation:
    """A license from one of its instants, `from_at`, until the next, `until_at`; `refusal` holds for any request.

    `_made` are the passages in the order they were made, of all situations that share it: the oldest go first.
    """

    license: License
    phase: Phase
    refusal: Refusal | None
    from_at: datetime
    until_at: datetime
    first_used_at: datetime | None = None
    _made: _Made = field(default_factory=deque)
    _passages: dict[int, Passage] = field(default_factory=dict)

    @classmethod
    def at(cls, now: datetime, token_license: License, first_used_at: datetime | None) -> "Situation":
        """Return what the license comes to at `now`, given when its subscription was first used, if it was."""
        phase = token_license.terms.phase_at(now, first_used_at)
        instants = _instants(token_license, first_used_at)
        return cls(
            token_license,
            phase,
            refuse_token(token_license, now) or refuse_status(token_license, phase),
            max((at for at in instants if at <= now), default=_ALWAYS),
            min((at for at in instants if at > now), default=_NEVER),
            first_used_at,
        )

    def refuse(self, asked: CheckInput) -> Refusal | None:
        """Return why a request from where this one comes must not pass, whatever it asks for."""
        if self.refusal is not None or not self.license.networks:
            return self.refusal
        return refuse_network(self.license, asked.client_address)

    def passage(self, route: RouteRule, meters: Meters = _NO_METERS) -> Passage:
        """Return what this route, of a table with these meters, is under the license."""
        found = self._passages.get(id(route))
        if found is None or found.route is not route:
            found = self._passages[id(route)] = _passage(self.license, self.phase, route, meters)
            self._made.append((self._passages, id(route)))
            if len(self._made) > _KEPT_PASSAGES:
                passages, oldest = self._made.popleft()
                passages.pop(oldest, None)
        return found

    def share(self, made: _Made) -> None:
        """Count the passages made from now on among these."""
        self._made = made

    def deny(
        self, decision_id: str, why: Refusal, states: tuple[LimitState, ...] = (), degraded: FailPolicy | None = None
    ) -> Deny:
        """Return the refusal."""
        return Deny(why.reason, decision_id, why.detail, self.license, self.phase, why.route, states, degraded)


class Situations:
    """The situations of the licenses in use."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[str, Situation] = {}
        self._made: _Made = deque()

    def of(self, token_license: License, now: datetime, first_used_at: datetime | None = None) -> Situation:
        """Return the situation of a license, given when its subscription was first used, if that matters."""
        known = self._known.get(token_license.token)
        if (
            known is None
            or known.license is not token_license
            or not known.from_at <= now < known.until_at
            or known.first_used_at != first_used_at
        ):
            if len(self._known) >= _KEPT:  # rarer than it costs: each is worked out again when it is next asked for
                self._known.clear()
                self._made.clear()
            known = self._known[token_license.token] = Situation.at(now, token_license, first_used_at)
            known.share(self._made)
        return known


def subject_of(token_license: License, phase: Phase) -> Subject:
    """Return whose counters a request moves."""
    return Subject(token_license.customer, token_license.subscription, token_license.family, phase.counters)


def _instants(token_license: License, first_used_at: datetime | None) -> list[datetime]:
    """Return when something about the license changes by itself."""
    own = (token_license.not_before_at, token_license.expires_at, token_license.revoked_at, token_license.disabled_at)
    return [at for at in own if at is not None] + [
        phase.starts_at for phase in token_license.terms.timeline(first_used_at)
    ]


def _passage(token_license: License, phase: Phase, route: RouteRule, meters: Meters) -> Passage:
    acquisition = _acquisition(token_license, phase, route, meters)
    is_held = any(charge.limit.kind is LimitKind.CONCURRENCY and charge.cost for charge in acquisition.charges)
    return Passage(
        license=token_license,
        phase=phase,
        route=route,
        refusal=refuse_route(token_license, phase.grant, route),
        acquisition=acquisition,
        shadows=shadows_of(token_license, phase, route),
        has_outcome=acquisition.receipt_s > 0 or is_held,
    )


def _acquisition(token_license: License, phase: Phase, route: RouteRule, meters: Meters) -> Acquisition:
    """Return what a request consumes: every limit, in shadow too, whose meter the route costs."""
    costs = dict(route.costs)
    refunded = {policy.meter: 0 for policy in route.policies if policy.is_refunded_unsettled and policy.meter in costs}
    limits = phase.grant.limits + (phase.shadow.limits if phase.shadow else ())
    return Acquisition(
        subject=subject_of(token_license, phase),
        charges=tuple(Charge(limit, costs[limit.meter]) for limit in limits if limit.meter in costs),
        # What costs nothing yet may be charged once its true number is known.
        usage=tuple((meter, units) for meter, units in route.costs if units or route.policies),
        route=route.text,
        plan=phase.grant.plan,
        receipt_s=max((policy.within_s for policy in route.policies), default=0),
        unsettled=tuple(with_ancestors(refunded, costs, meters).items()),
    )
