"""How each refusal reads to its caller: one table, a row for every reason that denies.

Owns gRPC codes, HTTP statuses, titles, problem types and challenges. Does not own headers or bodies
(`envoy/responses`), nor why a request was refused (`pipeline`, `rules`). Pure.

A revoked token must read like one that never existed: its row *is* the other's row, with a sentence of its
own that replaces the pipeline's. The true reason stays in `Deny.reason`, for metrics and logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from tallygate.decision.decision import Reason

PROBLEM_BASE_URL = "https://tallygate.dev/problems/"
_IANA = "https://iana.org/assignments/http-problem-types#"

_INVALID_ARGUMENT = 3
_PERMISSION_DENIED = 7
_RESOURCE_EXHAUSTED = 8
_UNAVAILABLE = 14
_UNAUTHENTICATED = 16

PAYMENT_REQUIRED = 402
TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Denial:
    """One row: what a caller is told.

    `reason` is the one shown. `problem` is the last part of our own problem type, or a whole URI.
    `needs_credential`: the refusal carries a `WWW-Authenticate` challenge, with `error` when it has one
    (RFC 6750 §3.1: none where no credential was sent). `shows_limits`: it carries the RateLimit fields.
    `is_upgradable`: a larger plan would have let the request pass. `retry_after_s` is what to say where no
    limit knows better. `detail` replaces the pipeline's sentence.
    """

    reason: Reason
    grpc_code: int
    http_status: int
    title: str
    problem: str
    needs_credential: bool = False
    error: str | None = None
    shows_limits: bool = False
    is_upgradable: bool = False
    retry_after_s: int | None = None
    detail: str | None = None

    def problem_type(self, base_url: str) -> str:
        """Return the problem type's URI (RFC 9457 §3.1.1), our own ones under `base_url`."""
        return self.problem if self.problem.startswith(_IANA) else base_url + self.problem


def _problem(reason: Reason) -> str:
    return reason.value.replace("_", "-")


def _unauthenticated(reason: Reason, title: str, error: str | None = "invalid_token") -> Denial:
    return Denial(reason, _UNAUTHENTICATED, 401, title, _problem(reason), needs_credential=True, error=error)


def _forbidden(reason: Reason, title: str, *, is_upgradable: bool = False) -> Denial:
    return Denial(reason, _PERMISSION_DENIED, 403, title, _problem(reason), is_upgradable=is_upgradable)


def _limited(reason: Reason, title: str) -> Denial:
    problem = _IANA + "quota-exceeded"
    return Denial(reason, _RESOURCE_EXHAUSTED, TOO_MANY_REQUESTS, title, problem, shows_limits=True, is_upgradable=True)


def _unavailable(reason: Reason, title: str) -> Denial:
    return Denial(reason, _UNAVAILABLE, 503, title, _IANA + "temporary-reduced-capacity", retry_after_s=1)


_ROWS = (
    _unauthenticated(Reason.CREDENTIAL_MISSING, "An API token is required", error=None),
    Denial(
        Reason.CREDENTIAL_AMBIGUOUS,
        _INVALID_ARGUMENT,
        400,
        "More than one credential was sent",
        _problem(Reason.CREDENTIAL_AMBIGUOUS),
        needs_credential=True,
        error="invalid_request",
    ),
    _unauthenticated(Reason.TOKEN_MALFORMED, "The API token is malformed"),
    replace(
        _unauthenticated(Reason.TOKEN_UNKNOWN, "The API token is not valid"),
        detail="No valid API token like this is known.",
    ),
    _unauthenticated(Reason.TOKEN_EXPIRED, "The API token has expired"),
    _unauthenticated(Reason.TOKEN_NOT_YET_VALID, "The API token is not valid yet"),
    _unauthenticated(Reason.TOKEN_DISABLED, "The API token is disabled"),
    _forbidden(Reason.SUBSCRIPTION_SUSPENDED, "The subscription is suspended"),
    _forbidden(Reason.SUBSCRIPTION_ENDED, "The subscription has ended"),
    _forbidden(Reason.CUSTOMER_SUSPENDED, "The account is suspended"),
    _forbidden(Reason.NETWORK_DENIED, "The API token may not be used from here"),
    replace(
        _forbidden(Reason.SCOPE_MISSING, "The API token lacks a scope", is_upgradable=True),
        needs_credential=True,
        error="insufficient_scope",
    ),
    _forbidden(Reason.FEATURE_MISSING, "The plan lacks a feature", is_upgradable=True),
    _forbidden(Reason.ROUTE_DENIED, "No plan covers this request"),
    _limited(Reason.RATE_LIMITED, "Too many requests"),
    _limited(Reason.QUOTA_EXCEEDED, "Request cannot be satisfied as assigned quota has been exceeded"),
    Denial(
        Reason.CREDITS_EXHAUSTED,
        _RESOURCE_EXHAUSTED,
        PAYMENT_REQUIRED,
        "The credits are used up",
        _problem(Reason.CREDITS_EXHAUSTED),
        shows_limits=True,
        is_upgradable=True,
    ),
    _limited(Reason.CONCURRENCY_EXCEEDED, "Too many requests at once"),
    Denial(
        Reason.PAYMENT_REQUIRED,
        _RESOURCE_EXHAUSTED,
        PAYMENT_REQUIRED,
        "The subscription is not paid",
        _problem(Reason.PAYMENT_REQUIRED),
    ),
    _unavailable(Reason.OVERLOADED, "Too many requests are waiting"),
    _unavailable(Reason.DEPENDENCY_DOWN, "The request cannot be decided at present"),
)

_BY_REASON = {row.reason: row for row in _ROWS}

DENIALS: Mapping[Reason, Denial] = MappingProxyType(
    {**_BY_REASON, Reason.TOKEN_REVOKED: _BY_REASON[Reason.TOKEN_UNKNOWN]}
)
"""The row of every reason but the allowing ones (OK, OVERAGE, SHADOW)."""


def denials(credits_status: int = PAYMENT_REQUIRED) -> Mapping[Reason, Denial]:
    """Return the table with the HTTP status that exhausted credits are to have: 402, or 429."""
    if credits_status not in (PAYMENT_REQUIRED, TOO_MANY_REQUESTS):
        raise ValueError(f"exhausted credits answer 402 or 429, not {credits_status}")
    row = replace(DENIALS[Reason.CREDITS_EXHAUSTED], http_status=credits_status)
    return MappingProxyType({**DENIALS, Reason.CREDITS_EXHAUSTED: row})
