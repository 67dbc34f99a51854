"""Rows of admin keys and of stored answers."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tallygate.admin.postgres import Row, Statements
from tallygate.admin.records import AdminKey, Role
from tallygate.admin.rows import to_json


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What stands under an idempotency key; a secret has been cut out of `body`.

    Before there is an answer `status` is None, and from `free_at` on who repeats the request may take over.
    """

    request_hash: bytes
    nonce: bytes
    pepper_id: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    secret_prefix: str | None = None
    free_at: datetime | None = None


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
        """Take an idempotency key for an answer to come; False when it is taken.

        Waits for whoever is about to put an answer there. The same request may take it over once it is free.
        """
        until = self._now + kept
        values = fresh.request_hash, fresh.nonce, fresh.pepper_id, self._now, until, fresh.free_at
        return await self._sql.row("claim_answer", actor, key, *values) is not None

    async def find(self, actor: str, key: bytes) -> AnswerRow | None:
        """Return what stands under a key."""
        row = await self._sql.row("answer", actor, key)
        if row is None:
            return None
        return AnswerRow(
            row["request_hash"], row["nonce"], row["pepper_id"], row["status"], json.loads(row["headers"] or "{}"),
            row["body"] or b"", row["secret_prefix"], row["free_at"],
        )  # fmt: skip

    async def put(self, actor: str, key: bytes, answer: AnswerRow) -> None:
        """Store an answer under a key that was taken with its nonce; nothing happens when it was taken over since."""
        values = answer.status, to_json(answer.headers), answer.body, answer.secret_prefix, answer.nonce
        await self._sql.run("put_answer", actor, key, *values)

    async def free(self, actor: str, key: bytes, nonce: bytes) -> None:
        """Give a key back that was taken with this nonce and has no answer."""
        await self._sql.run("free_answer", actor, key, nonce)

    async def prune(self) -> None:
        """Forget some answers that have expired: more than are made at a time, so that none stay for long."""
        await self._sql.run("prune_answers", self._now)


def _key(row: Row | None) -> AdminKey | None:
    if row is None:
        return None
    return AdminKey(
        row["id"], row["name"], Role(row["role"]), row["created_at"], row["revoked_at"], row["last_used_at"]
    )
