"""Use cases of the audit log: reading it, and finding out whether somebody wrote in it."""

from datetime import datetime

from tallygate.admin.audit_chain import Chain
from tallygate.admin.desk import PAGE, Desk
from tallygate.admin.records import AuditEntry, AuditReport
from tallygate.core.errors import InputError

_BATCH = 1000
_BEFORE_ALL = -(2**63)
"""Numbers begin with 1: one below was put in by hand, and must not be passed over."""


class AuditLog:
    """List and verify the audit log."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def verify(self, anchor: str | None = None) -> AuditReport:
        """Walk the whole chain and compare it with its head; `anchor` is a head that was noted earlier.

        Entries that are added meanwhile are verified too. Raises InputError for an anchor that is none.
        """
        number, noted = (None, "") if anchor is None else _anchor(anchor)
        chain = Chain()
        while True:
            async with self._desk.transaction() as rows:
                head, entries = await rows.log.chain(chain.last_id if chain.entries else _BEFORE_ALL, _BATCH)
            is_last = len(entries) < _BATCH
            if number is not None and (is_last or entries[-1].id >= number):
                chain.check_anchor(next((entry for entry in entries if entry.id == number), None), number, noted)
                number = None
            chain.walk(entries)
            if is_last:
                break
        if head is None:
            chain.end_without_head()
        else:
            chain.end(*head)
        report = None if head is None or chain.entries == 0 else f"{head[0]}:{head[1].hex()}"
        return AuditReport(not chain.problems, chain.entries, report, tuple(chain.problems))

    async def list(
        self,
        *,
        object: str | None = None,  # noqa: A002 - the field's name everywhere else
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        after: int = 0,
        limit: int = PAGE,
    ) -> list[AuditEntry]:
        """Return entries numbered above `after`, oldest first: of one object, actor, action, or since an instant."""
        async with self._desk.transaction() as rows:
            if since is not None:
                first = await rows.log.first_since(since)
                if first is None:
                    return []
                after = max(after, first - 1)
            return await rows.log.page(object, actor, action, after, limit)


def _anchor(text: str) -> tuple[int, str]:
    number, colon, noted = text.partition(":")
    is_number = number.isascii() and number.isdigit() and len(number) < 19  # noqa: PLR2004 - int8's digits
    if not (colon and is_number and int(number) > 0 and len(noted) == 64):  # noqa: PLR2004 - SHA-256 in hexadecimal
        raise InputError("anchor", "is no head of the log", "copy `head` of an earlier `tallygate audit verify`")
    return int(number), noted.lower()
