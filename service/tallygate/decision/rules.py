"""The laws a license is held to that need no counter: status, time, network, route, scope, feature.

Pure: each takes values and the instant, and returns a `Refusal` or None. Their order is the order in
which a caller is told; what costs nothing to check and reveals least comes first.
"""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address, ip_address

from tallygate.decision.decision import CheckInput, Reason
from tallygate.licenses.license import CustomerStatus, Grant, License, Phase, Standing
from tallygate.licenses.routes import RouteRule, RouteTable, normal_path

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


def find_route(table: RouteTable, asked: CheckInput) -> RouteRule | Refusal:
    """Return the rule for a request, or the refusal when none covers it or its path is in doubt."""
    path = normal_path(asked.target)
    if path is None:
        return Refusal(Reason.ROUTE_DENIED, "The path is not in normal form.")
    return table.match(asked.method, path) or Refusal(Reason.ROUTE_DENIED, "No plan covers this method and path.")


def refuse_route(token_license: License, grant: Grant, route: RouteRule) -> Refusal | None:
    """Refuse when the route needs a scope the token lacks or a feature the plan lacks."""
    if route.scope is not None and route.scope not in token_license.scopes_under(grant):
        return Refusal(Reason.SCOPE_MISSING, f"The token lacks the scope {route.scope}.", route)
    if route.feature is not None and grant.features.get(route.feature, False) is False:
        return Refusal(Reason.FEATURE_MISSING, f"The plan does not include the feature {route.feature}.", route)
    return None
