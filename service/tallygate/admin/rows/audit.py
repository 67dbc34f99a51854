"""Rows of the audit log."""

import json
from datetime import datetime

from tallygate.admin.audit_chain import ChainedEntry
from tallygate.admin.postgres import Row, Statements
from tallygate.admin.records import AuditEntry

_TEXTS = ("actor", "action", "object", "before", "after", "reason", "request_id")


class AuditRows:
    """The audit log in one transaction; writing is `Transaction.audit`."""

    def __init__(self, statements: Statements) -> None:
        """Run `statements`."""
        self._sql = statements

    async def page(
        self, object_: str | None, actor: str | None, action: str | None, after: int, limit: int
    ) -> list[AuditEntry]:
        """Return entries numbered above `after`, oldest first, with this object, actor and action."""
        if object_ is not None:
            rows = await self._sql.rows("audit_of_object", object_, after, limit, actor, action)
        elif actor is not None and action is not None:
            rows = await self._sql.rows("audit_of_actor_and_action", actor, after, limit, action)
        elif actor is not None:
            rows = await self._sql.rows("audit_of_actor", actor, after, limit)
        elif action is not None:
            rows = await self._sql.rows("audit_of_action", action, after, limit)
        else:
            rows = await self._sql.rows("audit", after, limit)
        return [_entry(row) for row in rows]

    async def first_since(self, since: datetime) -> int | None:
        """Return the number of the first entry that is not older than `since`."""
        row = await self._sql.row("audit_since", since)
        return None if row is None else int(row["id"])

    async def chain(self, after: int, limit: int) -> tuple[tuple[int, bytes] | None, list[ChainedEntry]]:
        """Return, in one snapshot, number and hash of the head, if there is one, and entries numbered above `after`."""
        rows = await self._sql.rows("audit_chain", after, limit)
        has_head = rows[0]["head_id"] is not None
        head = (int(rows[0]["head_id"]), bytes(rows[0]["head_hash"])) if has_head else None
        return head, [_chained(row) for row in rows if row["id"] is not None]


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        at=row["at"],
        actor=row["actor"],
        action=row["action"],
        object=row["object"],
        before=_read(row["before"]),
        after=_read(row["after"]),
        reason=row["reason"],
        request_id=row["request_id"],
        previous_hash=row["previous_hash"].hex(),
        hash=row["hash"].hex(),
    )


def _chained(row: Row) -> ChainedEntry:
    return ChainedEntry(
        id=row["id"],
        at=row["at"],
        texts=(
            row["actor"],
            row["action"],
            row["object"],
            row["before"],
            row["after"],
            row["reason"],
            row["request_id"],
        ),
        previous_hash=row["previous_hash"],
        hash=row["hash"],
    )


def _read(document: str | None) -> dict[str, object] | None:
    return None if document is None else json.loads(document)
