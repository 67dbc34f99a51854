"""What a token may be given: whose it is, its scopes, its networks, its time.

Owns the checks of what is asked for, each naming the field that cannot be used. Does not own issuing.
"""

from datetime import datetime
from ipaddress import ip_network

from tallygate.admin.desk import need_customer
from tallygate.admin.dossier import need_subscription, read_all
from tallygate.admin.records import Subscription
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError
from tallygate.tokens.format import Environment


async def contract_for(
    rows: Transaction, customer: str | None, subscription: str | None, environment: Environment | None
) -> Subscription:
    """Return the subscription that is named, or a customer's only live one; raise InputError when it is not clear."""
    if subscription is not None:
        contract = await need_subscription(rows, subscription)
        if environment is not None and contract.environment != environment.value:
            raise ConflictError("env", f"{contract.id} is {contract.environment}", "leave --env out")
        return contract
    if customer is None:
        raise InputError("subscription", "is missing", "give --subscription, or --customer")
    payer = await need_customer(rows, customer)
    found = [
        contract
        for contract in await read_all(rows, await rows.subscriptions.live_ids(payer.id))
        if contract.status != "canceled" and environment in (None, Environment(contract.environment))
    ]
    if not found:
        raise ConflictError("customer", f"{payer.key} has no subscription", "see `tallygate subscriptions create`")
    if len(found) > 1:
        mend = "name one with --subscription or --env"
        raise ConflictError("customer", f"{payer.key} has {len(found)} subscriptions", mend)
    return found[0]


async def check_scopes(rows: Transaction, contract: Subscription, scopes: tuple[str, ...] | None) -> None:
    """Refuse scopes that the contract neither grants now nor will by what is known of it."""
    terms = await rows.subscriptions.terms(contract.id)
    granted = {scope for phase in terms.every_phase for scope in phase.grant.scopes} if terms else set[str]()
    unknown = sorted(set(scopes or ()) - granted)
    if unknown:
        known = ", ".join(sorted(granted)) or "none"
        raise ConflictError("scopes", f"{contract.plan} does not grant {', '.join(unknown)}", f"it grants {known}")


def in_order(scopes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return scopes in order, each once."""
    return None if scopes is None else tuple(sorted(set(scopes)))


def check_expiry(not_before_at: datetime | None, expires_at: datetime | None, now: datetime) -> None:
    """Refuse an expiry after which the token would never have been valid."""
    if expires_at is not None and expires_at <= max(now, not_before_at or now):
        raise InputError("expires", "the token would never be valid", "choose an instant after now and after its start")


def networks_of(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return networks in full form; a single address is a network too."""
    networks = []
    for text in texts:
        try:
            networks.append(str(ip_network(text)))
        except ValueError as error:
            raise InputError("networks", str(error), "write networks such as 203.0.113.0/24") from None
    return tuple(networks)
