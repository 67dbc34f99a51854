"""The customers of the demo: one account for each customer of each persona, on the plans of `plans.yaml`.

Owns what an account is like before the play begins. Does not own what happens to it then (`incidents.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from demo.persona import Credential, Persona

from tallygate.admin.operations import Operations
from tallygate.plans.document import Catalogue
from tallygate.plans.parse import parse

_PLANS = Path(__file__).with_name("plans.yaml")
_FREE, _STRICTER = "quota: 30, period: day", "quota: 8, period: day"
SHADOWED, IN_SHADOW = "free@1", "free@2"


@dataclass(slots=True)
class Account:
    """A customer, and how they call: `secret` is the token they use now. Strangers have nothing but a persona.

    `is_used_up` says that they were told so when they called last: nothing is left for them.
    """

    persona: Persona
    number: int
    customer: str = ""
    subscription: str = ""
    token: str = ""
    family: str = ""
    secret: str = ""
    is_used_up: bool = False


def catalogue(*, is_stricter: bool = False) -> Catalogue:
    """Return what is sold; stricter, the free plan includes less."""
    text = _PLANS.read_text()
    return parse(text.replace(_FREE, _STRICTER) if is_stricter else text, str(_PLANS))


async def open_accounts(control: Operations, cast: Iterable[Persona]) -> list[Account]:
    """Make everybody's account."""
    return [await _open(control, persona, number) for persona in cast for number in range(persona.customers)]


async def _open(control: Operations, persona: Persona, number: int) -> Account:
    if persona.credential is not Credential.OWN:
        return Account(persona, number)
    key = f"{persona.name}-{number + 1}"
    await control.customers.create(key, key.title())
    subscription = (await control.subscriptions.create(key, persona.plan)).id
    if not persona.is_on_trial:
        await control.contracts.change(subscription, persona.plan, reason="bought")
    issued = await control.tokens.issue(subscription=subscription, networks=persona.networks)
    match persona.name:
        case "overdue":
            await control.customers.set_status(key, "past_due", "invoice 17")
        case "left":
            await control.subscriptions.cancel(subscription, "too dear")
    return Account(persona, number, key, subscription, issued.record.id, issued.record.family, issued.secret)
