"""Decisions to write down: a license, an Allow and a Deny, each with what a test does not care about filled in."""

from datetime import UTC, datetime

from support.terms import terms_of

from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.credentials.extract import Credential
from tallygate.decision.decision import Allow, CheckInput, Deny, Reason
from tallygate.licenses.license import CustomerStatus, Feature, Grant, License
from tallygate.licenses.routes import RouteRule
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import LimitOutcome, LimitState

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
BURST = Limit("burst", LimitKind.RATE, 50, window_us=1_000_000, burst=100)
DAILY = Limit("daily", LimitKind.QUOTA, 1000, calendar=Calendar(PeriodUnit.DAY))
ROUTE = RouteRule("GET", "/v1/things", (("requests", 1),))
TOKEN = "tg_test_0123456789abcdefghijABCDEFGHIJ012345"


def license_of(
    *,
    scopes: frozenset[str] = frozenset({"things.read", "reports.read"}),
    features: dict[str, Feature] | None = None,
    upgrade_url: str | None = None,
) -> License:
    """Return a license of customer `cus_1` on `pro@3`."""
    grant = Grant(
        plan="pro@3",
        plan_key="pro",
        scopes=scopes,
        features=features or {},
        limits=(BURST, DAILY),
        upgrade_url=upgrade_url,
    )
    return License("cus_1", CustomerStatus.ACTIVE, "sub_1", "fam_1", "tok_1", terms_of(grant), generation=1)


def state(
    limit: Limit,
    outcome: LimitOutcome = LimitOutcome.OK,
    remaining: int = 0,
    retry_after_s: int | None = None,
    reset_s: int | None = None,
    *,
    over: int = 0,
) -> LimitState:
    """Return where a limit stands."""
    return LimitState(limit, outcome, remaining, retry_after_s, reset_s, over)


def allow(
    credential: Credential | None = None, license_: License | None = None, states: tuple[LimitState, ...] = ()
) -> Allow:
    """Return an Allow of a request with a bearer token."""
    given = credential or Credential(TOKEN, remove_headers=("authorization",))
    holder = license_ or license_of()
    return Allow(Reason.OK, "d1", given, holder, holder.terms.phase_at(NOW), ROUTE, states)


def deny(
    reason: Reason,
    *,
    detail: str = "Because.",
    license_: License | None = None,
    route: RouteRule | None = None,
    states: tuple[LimitState, ...] = (),
) -> Deny:
    """Return a Deny."""
    phase = license_.terms.phase_at(NOW) if license_ else None
    return Deny(reason, "d1", detail, license_, phase, route, states)


def asked(**headers: str) -> CheckInput:
    """Return the question about `GET /v1/things` with these headers, underscores written for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CheckInput("GET", "/v1/things", named, "192.0.2.1", "r1")
