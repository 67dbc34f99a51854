"""Answers to requests that may come twice: the same request under the same key gets the same answer.

The answer commits in the transaction of the change it tells of, so there is no moment in which one exists
without the other: a crash leaves neither, and the key is free. Whoever sends the request again meanwhile
waits for the first (on the row of the key), within the registry's deadline.

A secret is stored nowhere, and so neither in an answer. Within `once` secrets are derived instead of drawn:
by HMAC from the pepper, the client's key (of which only a digest is kept) and a nonce of this use of it. Who
repeats the request sends the client's key again, and the same secret is derived anew. A copy of the
database, and even the pepper with it, gives no secret without the client's key.
"""

import hashlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hmac import compare_digest
from secrets import choice

from tallygate.admin.derived import DerivedChoice
from tallygate.admin.desk import Desk
from tallygate.admin.rows.access import AnswerRow
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import InputError
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import ALPHABET, BODY_LENGTH, CHECKSUM_LENGTH, checksum

FIELD = "Idempotency-Key"
KEPT = timedelta(hours=24)
_KEY = re.compile(r"[\x21-\x7E]{1,255}")
_MARK = b"\x00secret\x00"
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What was answered the first time."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


class Once:
    """One use of a key: either an answer is `stored`, or there is something to do and then to `finish`."""

    def __init__(
        self, rows: Transaction, actor: str, key: bytes, stored: StoredAnswer | None, fresh: AnswerRow
    ) -> None:
        """Take the answer that stands, if one does, and what is to be stored with a new one."""
        self.stored = stored
        self._rows = rows
        self._actor = actor
        self._key = key
        self._fresh = fresh

    async def finish(self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None) -> None:
        """Store the answer, with the change it tells of. `secret` (in `body`) is cut out of what is stored.

        A secret must have been made within this `once`; more than one cannot be given again.
        """
        prefix = None if secret is None else secret[: -(BODY_LENGTH + CHECKSUM_LENGTH)]
        kept = body if secret is None else body.replace(secret.encode(), _MARK)
        answer = replace(self._fresh, status=status, headers=dict(headers), body=kept, secret_prefix=prefix)
        await self._rows.answers.put(self._actor, self._key, answer)


class Answers:
    """Answers by actor and key, for a day."""

    def __init__(self, desk: Desk, peppers: Peppers) -> None:
        """Work at `desk`, whose use cases become a part of what is done `once`."""
        self._desk = desk
        self._peppers = peppers

    @asynccontextmanager
    async def once(self, key: str, request_hash: bytes) -> AsyncIterator[Once]:
        """Do the block once for a key of this actor: look at `stored` first, else act and `finish`.

        `request_hash` (32 bytes) tells one request from another. Raises InputError for a key that cannot
        be used, or that stands for another request. A block that raises leaves nothing behind.
        """
        if not _KEY.fullmatch(key):
            raise InputError(FIELD, "cannot be used", "send 1 to 255 printable ASCII characters, such as a UUID")
        actor = self._desk.actor
        digest = hashlib.sha256(f"{actor}\0{key}".encode()).digest()
        async with self._desk.joined() as rows:
            await rows.answers.prune()
            pepper = self._peppers.current
            fresh = AnswerRow(request_hash, os.urandom(_NONCE_BYTES), pepper.id, 0, {}, b"", None)
            is_ours = await rows.answers.claim(actor, digest, fresh, KEPT)
            stored = None if is_ours else await self._stored(rows, key, digest, request_hash)
            self._desk.choose = self._derived(pepper, key, fresh)
            try:
                yield Once(rows, actor, digest, stored, fresh)
            finally:
                self._desk.choose = choice

    async def _stored(self, rows: Transaction, key: str, digest: bytes, request_hash: bytes) -> StoredAnswer:
        found = await rows.answers.find(self._desk.actor, digest)
        assert found is not None  # noqa: S101 - it could not be claimed, and our transaction sees who did
        if not compare_digest(found.request_hash, request_hash):
            raise InputError(FIELD, "was used for another request", "take a new key for each request")
        body = found.body
        if found.secret_prefix is not None:
            pepper = self._peppers.named(found.pepper_id)
            if pepper is None:
                raise InputError(FIELD, "is too old: the pepper has been changed twice since", "take a new key")
            choose = self._derived(pepper, key, found)
            secret = "".join(choose(ALPHABET) for _ in range(BODY_LENGTH))
            body = body.replace(_MARK, (found.secret_prefix + secret + checksum(secret)).encode())
        return StoredAnswer(found.status, found.headers, body)

    def _derived(self, pepper: Pepper, key: str, answer: AnswerRow) -> DerivedChoice:
        # Lengths are fixed but for actor and key, and neither holds a NUL.
        purpose = b"\0".join((b"answer", self._desk.actor.encode(), key.encode(), answer.request_hash + answer.nonce))
        return DerivedChoice(pepper.derive(purpose))
