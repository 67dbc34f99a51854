"""Values of a decision: what was asked, and `Allow` or `Deny`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tallygate.credentials.extract import Credential
from tallygate.licenses.license import License, Phase
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limiter import LimitState


class Reason(StrEnum):
    """Why a request was decided so: the metric label, the body's `reason`, the docs' heading."""

    OK = "ok"
    OVERAGE = "overage"
    SHADOW = "shadow"
    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_AMBIGUOUS = "credential_ambiguous"
    TOKEN_MALFORMED = "token_malformed"  # noqa: S105 - a reason, no secret
    TOKEN_UNKNOWN = "token_unknown"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"  # noqa: S105
    TOKEN_DISABLED = "token_disabled"  # noqa: S105
    SUBSCRIPTION_SUSPENDED = "subscription_suspended"
    SUBSCRIPTION_ENDED = "subscription_ended"
    CUSTOMER_SUSPENDED = "customer_suspended"
    NETWORK_DENIED = "network_denied"
    SCOPE_MISSING = "scope_missing"
    FEATURE_MISSING = "feature_missing"
    ROUTE_DENIED = "route_denied"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    CONCURRENCY_EXCEEDED = "concurrency_exceeded"
    CREDITS_EXHAUSTED = "credits_exhausted"
    PAYMENT_REQUIRED = "payment_required"
    OVERLOADED = "overloaded"
    DEPENDENCY_DOWN = "dependency_down"


class CheckInput(NamedTuple):
    """What Envoy tells of a request.

    `headers` have lower-case names, repeated ones joined by commas as Envoy does. `target` is the path
    with its query, undecoded. `client_address` is the client's IP as far as Envoy trusts it.
    `request_id` is Envoy's own `http.id`, never the client's. `rule` is the text of the route rule that the gateway's
    configuration names for its route, None when the path is to find one.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    client_address: str = ""
    request_id: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one thing in shadow would have done with a request: refused it for a reason, or, None, let it pass.

    `shadow` is the version that is tried (`pro@4`), or a limit of the version in force (`pro@3:burst`).
    """

    shadow: str
    would_refuse: Reason | None


class Allow(NamedTuple):
    """The request may pass; `reason` is OK, OVERAGE or SHADOW. A named tuple: one is made for every request.

    `degraded` names the fail policy (`open`, `local`) that stood in for a lost counter store. `is_repeat`:
    Envoy asked again about a request that was counted already. `opinions` are those of everything in shadow
    that looked at it, the version that is tried first. `receipt` names what its outcome is told under, where that
    changes something: what it was charged, or that it is in flight no more.
    """

    reason: Reason
    decision_id: str
    credential: Credential
    license: License
    phase: Phase
    route: RouteRule
    states: tuple[LimitState, ...]
    degraded: str | None = None
    is_repeat: bool = False
    opinions: tuple[Opinion, ...] = ()
    receipt: str | None = None

    @property
    def would_refuse(self) -> Reason | None:
        """Return the first reason for which anything in shadow would have refused the request."""
        return next((opinion.would_refuse for opinion in self.opinions if opinion.would_refuse is not None), None)


@dataclass(frozen=True, slots=True)
class Deny:
    """The request must not pass, and why.

    `detail` is a sentence for the caller. `phase` is the one in force, when the license was found. `states`
    are given when limits were looked at.
    """

    reason: Reason
    decision_id: str
    detail: str
    license: License | None = None
    phase: Phase | None = None
    route: RouteRule | None = None
    states: tuple[LimitState, ...] = ()
    degraded: str | None = None


Decision = Allow | Deny
