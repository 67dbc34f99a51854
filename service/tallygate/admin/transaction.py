"""One transaction of the control plane: its rows by noun, and what it announces at its end.

Owns the order of the last steps: change numbers, compiled licenses, audit entries. Numbers and the audit's
head are locked until commit by whoever takes them (see storage/migrations), so they are taken last, always
in this order, and nothing waits for a row while holding them: two use cases can never block each other for
good, and the time in which writers are one at a time is short. Belongs to one task.
"""

from collections.abc import Mapping
from datetime import datetime

from tallygate.admin.postgres import Statements
from tallygate.admin.rows import to_json
from tallygate.admin.rows.access import AnswerRows, KeyRows
from tallygate.admin.rows.audit import AuditRows
from tallygate.admin.rows.corrections import CorrectionRows
from tallygate.admin.rows.customers import CustomerRows
from tallygate.admin.rows.plans import PlanRows
from tallygate.admin.rows.references import ReferenceRows
from tallygate.admin.rows.subscriptions import SubscriptionRows
from tallygate.admin.rows.tokens import TokenRows
from tallygate.admin.rows.upkeep import UpkeepRows
from tallygate.billing.exports.postgres import ExportRows
from tallygate.core.redaction import hide_secrets
from tallygate.licenses.codec import encode_terms
from tallygate.licenses.license import Terms


class Transaction:
    """The rows, on one connection; `now` is the instant everything in it happens at."""

    def __init__(self, statements: Statements, now: datetime, actor: str, request_id: str) -> None:
        """Use statements that are inside a transaction; `actor` and `request_id` go into the audit log."""
        self.now = now
        self.customers = CustomerRows(statements, now)
        self.references = ReferenceRows(statements, now)
        self.plans = PlanRows(statements, now)
        self.subscriptions = SubscriptionRows(statements, now, actor)
        self.tokens = TokenRows(statements, now)
        self.keys = KeyRows(statements, now)
        self.answers = AnswerRows(statements, now)
        self.corrections = CorrectionRows(statements, now)
        self.exports = ExportRows(statements.connection)
        self.upkeep = UpkeepRows(statements, now)
        self.log = AuditRows(statements)
        self.billed_usage = statements.billed_usage()
        self._sql = statements
        self._actor = actor
        self._request_id = request_id
        self._changes: dict[str, dict[str, Terms]] = {}
        self._entries: list[tuple[object, ...]] = []

    def changed(self, subject: str, licenses: Mapping[str, Terms] | None = None) -> None:
        """Announce a change of `subject` at the end, with the terms of subscriptions it compiled anew."""
        self._changes.setdefault(subject, {}).update(licenses or {})

    def audit(self, action: str, subject: str, before: object, after: object, reason: str = "") -> None:
        """Add an entry to the audit log at the end; `before` and `after` are JSON-able or None.

        The log only grows, so a secret somebody pasted into a reason or a name must not get in.
        """
        states = (_without_secrets(to_json(before)), _without_secrets(to_json(after)))
        told = (hide_secrets(reason), hide_secrets(self._request_id))
        self._entries.append((self.now, self._actor, action, subject, *states, *told))

    async def settle(self) -> None:
        """Write what was announced; to be called once, when nothing else is left to do."""
        for subject, licenses in self._changes.items():
            row = await self._sql.row("record_change", subject)
            assert row is not None  # noqa: S101 - the function always answers
            generation = int(row[0])
            await self._sql.run_many(
                "put_license",
                [(owner, to_json(encode_terms(terms)), generation) for owner, terms in licenses.items()],
            )
        await self._sql.run_many("insert_audit", self._entries)
        self._changes, self._entries = {}, []


def _without_secrets(text: str | None) -> str | None:
    return None if text is None else hide_secrets(text)
