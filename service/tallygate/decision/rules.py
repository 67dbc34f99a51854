"""The laws a license is held to: status, time, network, route, scope, feature; and what the counters' answers mean.

Pure: each takes values and the instant, and returns a `Refusal` or None. Their order is the order in
which a caller is told; what costs nothing to check and reveals least comes first.
"""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address, ip_address

from tallygate.decision.decision import CheckInput, Opinion, Reason
from tallygate.licenses.license import CustomerStatus, Grant, License, Phase, Standing
from tallygate.licenses.routes import RouteRule, RouteTable
from tallygate.limits.limit import LimitKind
from tallygate.limits.limiter import LimitOutcome, LimitState

_DEAD_CUSTOMERS = (CustomerStatus.SUSPENDED, CustomerStatus.CLOSED)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request must not pass, a sentence for the caller, and the route where it is the route that refuses."""

    reason: Reason
    detail: str
    route: RouteRule | None = None


def refuse_token(token_license: License, now: datetime) -> Refusal | None:
    """Refuse a token that is revoked, disabled, expired or not yet valid at `now`."""
    if token_license.revoked_at is not None and token_license.revoked_at <= now:
        return Refusal(Reason.TOKEN_REVOKED, "The token has been revoked.")
    if token_license.disabled_at is not None and token_license.disabled_at <= now:
        return Refusal(Reason.TOKEN_DISABLED, "The token is disabled.")
    if token_license.expires_at is not None and token_license.expires_at <= now:
        return Refusal(Reason.TOKEN_EXPIRED, "The token has expired.")
    if token_license.not_before_at is not None and token_license.not_before_at > now:
        return Refusal(Reason.TOKEN_NOT_YET_VALID, "The token is not valid yet.")
    return None


_NOT_IN_FORCE = {
    Standing.SCHEDULED: Refusal(Reason.SUBSCRIPTION_SUSPENDED, "The subscription has not started yet."),
    Standing.SUSPENDED: Refusal(Reason.SUBSCRIPTION_SUSPENDED, "The subscription is suspended."),
    Standing.CANCELED: Refusal(Reason.SUBSCRIPTION_ENDED, "The subscription has ended."),
    Standing.EXPIRED: Refusal(Reason.SUBSCRIPTION_ENDED, "The subscription has ended."),
}
_UNPAID = Refusal(Reason.PAYMENT_REQUIRED, "The subscription is suspended until it is paid.")


def refuse_status(token_license: License, phase: Phase) -> Refusal | None:
    """Refuse when the customer or the subscription is not in force."""
    if token_license.customer_status in _DEAD_CUSTOMERS:
        return Refusal(Reason.CUSTOMER_SUSPENDED, "The customer's account is suspended.")
    return _UNPAID if phase.is_unpaid else _NOT_IN_FORCE.get(phase.standing)


def refuse_network(token_license: License, client_address: str) -> Refusal | None:
    """Refuse a caller outside the token's networks; an address that cannot be read is outside."""
    if not token_license.networks:
        return None
    try:
        address = ip_address(client_address)
    except ValueError:
        return Refusal(Reason.NETWORK_DENIED, "The caller's address is unknown, and the token is bound to networks.")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # how a dual-stack listener shows an IPv4 caller
    if any(address in network for network in token_license.networks):
        return None
    return Refusal(Reason.NETWORK_DENIED, "The token may not be used from this network.")


_IN_DOUBT = Refusal(Reason.ROUTE_DENIED, "The path is not in normal form.")
_NOT_COVERED = Refusal(Reason.ROUTE_DENIED, "No plan covers this method and path.")
_NO_SUCH_RULE = Refusal(Reason.ROUTE_DENIED, "The gateway names a route rule that the plans do not have.")


def find_route(table: RouteTable, asked: CheckInput) -> RouteRule | Refusal:
    """Return the rule for a request, or the refusal when none covers it or its path is in doubt.

    A rule that the gateway names takes the place of the one the path finds. A path in doubt is refused all the same:
    the gateway chose its route by it.
    """
    path, rule = table.look_up(asked.method, asked.target)
    if asked.rule is not None and path is not None:
        return table.by_text(asked.rule) or _NO_SUCH_RULE
    return rule or (_IN_DOUBT if path is None else _NOT_COVERED)


def refuse_route(token_license: License, grant: Grant, route: RouteRule) -> Refusal | None:
    """Refuse when the route needs a scope the token lacks or a feature the plan lacks."""
    if route.scope is not None and route.scope not in token_license.scopes_under(grant):
        return Refusal(Reason.SCOPE_MISSING, f"The token lacks the scope {route.scope}.", route)
    if route.feature is not None and grant.features.get(route.feature, False) is False:
        return Refusal(Reason.FEATURE_MISSING, f"The plan does not include the feature {route.feature}.", route)
    return None


_DENIED: dict[LimitKind, tuple[Reason, str]] = {
    LimitKind.CREDITS: (Reason.CREDITS_EXHAUSTED, "The credits are used up"),
    LimitKind.QUOTA: (Reason.QUOTA_EXCEEDED, "The quota is used up"),
    LimitKind.RATE: (Reason.RATE_LIMITED, "Too many requests"),
    LimitKind.CONCURRENCY: (Reason.CONCURRENCY_EXCEEDED, "Too many requests at once"),
}


def denied_because(states: tuple[LimitState, ...], route: RouteRule) -> Refusal:
    """Return the reason that takes longest to pass, and a sentence naming every exceeded limit of that kind."""
    exceeded = [state.limit for state in states if state.outcome is LimitOutcome.EXCEEDED]
    for kind, (reason, text) in _DENIED.items():
        names = [limit.name for limit in exceeded if limit.kind is kind]
        if names:
            return Refusal(reason, f"{text}: {', '.join(names)}.", route)
    message = "a refused acquisition names no exceeded limit"
    raise AssertionError(message)


def shadow_refused_because(state: LimitState) -> Reason | None:
    """Return what a limit in shadow would have refused the request for, None when it had room."""
    return _DENIED[state.limit.kind][0] if state.outcome is LimitOutcome.SHADOW_EXCEEDED else None


def allowed_because(states: tuple[LimitState, ...], opinions: tuple[Opinion, ...]) -> Reason:
    """Return OVERAGE if a limit is over its amount, else SHADOW if anything in shadow would refuse, else OK."""
    for state in states:
        if state.outcome is LimitOutcome.OVERAGE:
            return Reason.OVERAGE
    for opinion in opinions:
        if opinion.would_refuse is not None:
            return Reason.SHADOW
    return Reason.OK
