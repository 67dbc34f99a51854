"""Rows of admin keys and of stored answers."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tallygate.admin.postgres import Row, Statements
from tallygate.admin.records import AdminKey, Role
from tallygate.admin.rows import to_json


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What stands under an idempotency key; a secret has been cut out of `body`."""

    request_hash: bytes
    nonce: bytes
    pepper_id: str
    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    secret_prefix: str | None


class KeyRows:
    """Admin keys in one transaction, at the instant `now`."""

    def __init__(self, statements: Statements, now: datetime) -> None:
        """Run `statements`."""
        self._sql = statements
        self._now = now

    async def insert(self, made: AdminKey, digest: bytes) -> None:
        """Add a key, known by its digest."""
        await self._sql.run("insert_admin_key", made.id, made.name, made.role.value, digest, made.created_at)

    async def find(self, key_id: str) -> AdminKey | None:
        """Return a key by its id."""
        return _key(await self._sql.row("admin_key", key_id))

    async def by_digest(self, digest: bytes) -> AdminKey | None:
        """Return the key stored under `digest`."""
        return _key(await self._sql.row("admin_key_by_digest", digest))

    async def page(self, after: str, limit: int) -> list[AdminKey]:
        """Return keys created after the id `after`, oldest first."""
        return [key for row in await self._sql.rows("admin_keys", after, limit) if (key := _key(row)) is not None]

    async def revoke(self, key_id: str) -> None:
        """Revoke a key now; an earlier revocation stands."""
        await self._sql.run("revoke_admin_key", key_id, self._now)

    async def note_used(self, key_id: str) -> None:
        """Keep that a key was used now."""
        await self._sql.run("note_admin_key_used", key_id, self._now)


class AnswerRows:
    """Stored answers in one transaction, at the instant `now`."""

    def __init__(self, statements: Statements, now: datetime) -> None:
        """Run `statements`."""
        self._sql = statements
        self._now = now

    async def claim(self, actor: str, key: bytes, fresh: AnswerRow, kept: timedelta) -> bool:
        """Take an idempotency key for an answer to come; False when one stands under it. Waits for whoever is at it."""
        row = await self._sql.row(
            "claim_answer", actor, key, fresh.request_hash, fresh.nonce, fresh.pepper_id, self._now, self._now + kept
        )
        return row is not None

    async def find(self, actor: str, key: bytes) -> AnswerRow | None:
        """Return the answer that stands under a key."""
        row = await self._sql.row("answer", actor, key)
        if row is None:
            return None
        return AnswerRow(
            row["request_hash"], row["nonce"], row["pepper_id"], row["status"], json.loads(row["headers"]), row["body"],
            row["secret_prefix"],
        )  # fmt: skip

    async def put(self, actor: str, key: bytes, answer: AnswerRow) -> None:
        """Store an answer under a key that was taken in this transaction."""
        headers = to_json(answer.headers)
        await self._sql.run("put_answer", actor, key, answer.status, headers, answer.body, answer.secret_prefix)

    async def prune(self) -> None:
        """Forget some answers that have expired: more than are made at a time, so that none stay for long."""
        await self._sql.run("prune_answers", self._now)


def _key(row: Row | None) -> AdminKey | None:
    if row is None:
        return None
    return AdminKey(
        row["id"], row["name"], Role(row["role"]), row["created_at"], row["revoked_at"], row["last_used_at"]
    )
