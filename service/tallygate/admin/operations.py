"""Everything the control plane can do, by noun, for one actor.

Owns how the use cases are put together. Does not own any of them, nor who may call which.
"""

from dataclasses import dataclass

from tallygate.admin.answers import Answers
from tallygate.admin.audit import AuditLog
from tallygate.admin.catalogue import Plans
from tallygate.admin.contracts import Contracts
from tallygate.admin.corrections import Corrections
from tallygate.admin.customers import Customers
from tallygate.admin.desk import Desk
from tallygate.admin.exports import Exports
from tallygate.admin.housekeeping import Housekeeping
from tallygate.admin.invoices import Invoices
from tallygate.admin.keys import AdminKeys
from tallygate.admin.leaks import Leaks
from tallygate.admin.postgres import Registry
from tallygate.admin.references import References
from tallygate.admin.revocations import Revocations
from tallygate.admin.shadows import Shadows
from tallygate.admin.subscriptions import Subscriptions
from tallygate.admin.tokens import Tokens
from tallygate.admin.usage import Usage
from tallygate.admin.versions import Versions
from tallygate.core.clock import Clock
from tallygate.tokens.digest import Peppers
from tallygate.tokens.format import TokenFormat


@dataclass(frozen=True, slots=True)
class Operations:
    """The use cases of one actor, for one request at a time; `answers` makes a request repeatable."""

    customers: Customers
    references: References
    plans: Plans
    versions: Versions
    shadows: Shadows
    subscriptions: Subscriptions
    contracts: Contracts
    tokens: Tokens
    revocations: Revocations
    leaks: Leaks
    invoices: Invoices
    usage: Usage
    corrections: Corrections
    exports: Exports
    housekeeping: Housekeeping
    keys: AdminKeys
    audit: AuditLog
    answers: Answers


class ControlPlane:
    """Makes operations; one for a whole process, shared freely."""

    def __init__(self, registry: Registry, clock: Clock, token_format: TokenFormat, peppers: Peppers) -> None:
        """Keep rows in `registry`; new tokens have `token_format` and the current pepper."""
        self._registry = registry
        self._clock = clock
        self._format = token_format
        self._peppers = peppers

    def acting(self, actor: str, request_id: str = "") -> Operations:
        """Return the operations of `actor`, for one request; both names go into the audit log."""
        desk = Desk(self._registry, self._clock, actor, request_id)
        return Operations(
            customers=Customers(desk),
            references=References(desk),
            plans=Plans(desk),
            versions=Versions(desk),
            shadows=Shadows(desk),
            subscriptions=Subscriptions(desk),
            contracts=Contracts(desk),
            tokens=Tokens(desk, self._format, self._peppers),
            revocations=Revocations(desk),
            leaks=Leaks(desk, self._format, self._peppers),
            invoices=Invoices(desk),
            usage=Usage(desk),
            corrections=Corrections(desk),
            exports=Exports(desk),
            housekeeping=Housekeeping(desk),
            keys=AdminKeys(desk),
            audit=AuditLog(desk),
            answers=Answers(desk, self._peppers),
        )
