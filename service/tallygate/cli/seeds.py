"""Sample customers: one on each plan of a catalogue, with a token each."""

from dataclasses import dataclass

from tallygate.admin.operations import Operations
from tallygate.admin.records import Role
from tallygate.core.errors import NotFoundError
from tallygate.plans.document import Catalogue

_FAMILY = "dev"


@dataclass(frozen=True, slots=True)
class Seed:
    """A sample customer, the plan version they are on, and the secret of their token."""

    customer: str
    plan: str
    token: str

    def __repr__(self) -> str:
        """Say who it is, without the secret."""
        return f"Seed(customer={self.customer!r}, plan={self.plan!r}, token='…')"


async def seed(control: Operations, catalogue: Catalogue) -> tuple[Seed, ...]:
    """Apply the catalogue and return a customer with a fresh token for each of its plans.

    Run again it finds the same customers and rotates their tokens, so that counters go on.
    """
    await control.plans.apply(catalogue)
    return tuple([await _seed(control, plan.key) for plan in catalogue.plans])


async def _seed(control: Operations, plan: str) -> Seed:
    key = f"sample-{plan}"
    try:
        customer = await control.customers.show(key)
    except NotFoundError:
        customer = await control.customers.create(key, f"Sample customer on {plan}")
        await control.subscriptions.create(customer.id, plan)
    subscription = (await control.subscriptions.list(customer.id))[0]
    tokens = await control.tokens.list(subscription=subscription.id)
    usable = [token for token in tokens if token.name == _FAMILY and token.revoked_at is None]
    if usable:
        issued = await control.tokens.rotate(usable[-1].id, reason="tallygate dev started again")
    else:
        issued = await control.tokens.issue(subscription=subscription.id, name=_FAMILY)
    return Seed(customer.key, subscription.plan, issued.secret)


async def admin_key(control: Operations) -> str:
    """Return the secret of a fresh admin key; those of earlier runs are revoked."""
    for key in await control.keys.list():
        if key.name == _FAMILY and key.revoked_at is None:
            await control.keys.revoke(key.id, reason="tallygate dev started again")
    return (await control.keys.create(_FAMILY, Role.ADMIN)).secret
