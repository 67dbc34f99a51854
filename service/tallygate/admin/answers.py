"""Answers to requests that may come twice: the same request under the same key gets the same answer.

There are two ways, with one interface:

- `once`: the answer commits in the transaction of the change it tells of, so there is no moment in which one
  exists without the other: a crash leaves neither, and the key is free. Whoever sends the request again
  meanwhile waits for the first (on the row of the key), within the registry's deadline.
- `apart`: for acts that go in batches, and for looks. The key is claimed in a short transaction, the block has
  transactions of its own, and the answer is stored in a short one: nothing is locked and no connection held in
  between. Whoever sends the request again meanwhile is told so (`UnderWayError`). When the first was broken
  off, whoever comes after `HELD` does the act again, so it must be one that may be done twice.

A secret is stored nowhere, and so neither in an answer. Within `once` secrets are derived instead of drawn:
by HMAC from the pepper, the client's key (of which only a digest is kept) and a nonce of this use of it. Who
repeats the request sends the client's key again, and the same secret is derived anew. A copy of the
database, and even the pepper with it, gives no secret without the client's key. `apart` makes no secrets.
"""

import hashlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hmac import compare_digest
from secrets import choice

from tallygate.admin.derived import DerivedChoice
from tallygate.admin.desk import Desk
from tallygate.admin.rows.access import AnswerRow
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, DependencyError, InputError
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import ALPHABET, BODY_LENGTH, CHECKSUM_LENGTH, checksum

FIELD = "Idempotency-Key"
KEPT = timedelta(hours=24)
HELD = timedelta(seconds=40)
"""How long an act `apart` keeps its key from others: longer than a request may last, and clocks may differ."""
_ASK_AGAIN_S = 5
_KEY = re.compile(r"[\x21-\x7E]{1,255}")
_MARK = b"\x00secret\x00"
_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What was answered the first time."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of a client's key: where its answer stands, and the row that is to become the answer."""

    actor: str
    key: str = field(repr=False)
    digest: bytes
    fresh: AnswerRow


class UnderWayError(ConflictError):
    """The same request is being done right now; ask again after `retry_after_s`."""

    def __init__(self, free_at: datetime, now: datetime) -> None:
        """Tell that nobody may take over before `free_at`."""
        super().__init__(FIELD, "its first request is still under way", "repeat it a little later")
        self.retry_after_s = max(1, min(_ASK_AGAIN_S, int((free_at - now).total_seconds())))


class Once:
    """One use of a key: either an answer is `stored`, or there is something to do and then to `finish`."""

    def __init__(
        self, stored: StoredAnswer | None, fresh: AnswerRow, put: Callable[[AnswerRow], Awaitable[None]]
    ) -> None:  # fmt: skip
        """Take the answer that stands, if one does; else what is to be stored with a new one, and how."""
        self.stored = stored
        self._fresh = fresh
        self._put = put

    async def finish(self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str | None = None) -> None:
        """Store the answer. `secret` (in `body`) is cut out of what is stored.

        A secret must have been made within this `once`; more than one cannot be given again.
        """
        prefix = None if secret is None else secret[: -(BODY_LENGTH + CHECKSUM_LENGTH)]
        kept = body if secret is None else body.replace(secret.encode(), _MARK)
        await self._put(replace(self._fresh, status=status, headers=dict(headers), body=kept, secret_prefix=prefix))


class Answers:
    """Answers by actor and key, for a day."""

    def __init__(self, desk: Desk, peppers: Peppers) -> None:
        """Work at `desk`, whose use cases become a part of what is done `once`."""
        self._desk = desk
        self._peppers = peppers

    @asynccontextmanager
    async def once(self, key: str, request_hash: bytes) -> AsyncIterator[Once]:
        """Do the block once for a key of this actor, in one transaction: look at `stored` first, else act and `finish`.

        `request_hash` (32 bytes) tells one request from another. Raises InputError for a key that cannot
        be used, or that stands for another request. A block that raises leaves nothing behind.
        """
        use = self._use(key, request_hash)
        async with self._desk.joined() as rows:
            stored = await self._claim(rows, use)
            self._desk.choose = self._derived(self._peppers.current, key, use.fresh)
            try:
                yield Once(stored, use.fresh, lambda answer: rows.answers.put(use.actor, use.digest, answer))
            finally:
                self._desk.choose = choice

    @asynccontextmanager
    async def apart(self, key: str, request_hash: bytes) -> AsyncIterator[Once]:
        """Do the block, whose transactions are its own, once for a key of this actor; for acts that may be done twice.

        As `once`, and raises UnderWayError while the first request is being done. A block that raises frees
        the key; one that is cancelled, or dies, keeps it for `HELD` from its beginning.
        """
        use = self._use(key, request_hash)
        async with self._desk.transaction() as rows:
            stored = await self._claim(rows, use, rows.now + HELD)
        try:
            yield Once(stored, use.fresh, lambda answer: self._put_apart(use, answer))
        except Exception:
            with suppress(DependencyError):  # what the block raised says more; the key frees itself in time
                async with self._desk.transaction() as rows:
                    await rows.answers.free(use.actor, use.digest, use.fresh.nonce)
            raise

    async def _put_apart(self, use: _Use, answer: AnswerRow) -> None:
        async with self._desk.transaction() as rows:
            await rows.answers.put(use.actor, use.digest, answer)

    def _use(self, key: str, request_hash: bytes) -> _Use:
        if not _KEY.fullmatch(key):
            raise InputError(FIELD, "cannot be used", "send 1 to 255 printable ASCII characters, such as a UUID")
        actor = self._desk.actor
        digest = hashlib.sha256(f"{actor}\0{key}".encode()).digest()
        return _Use(actor, key, digest, AnswerRow(request_hash, os.urandom(_NONCE_BYTES), self._peppers.current.id))

    async def _claim(self, rows: Transaction, use: _Use, free_at: datetime | None = None) -> StoredAnswer | None:
        """Take the key, for others to take over at `free_at`; or return the answer that stands under it."""
        await rows.answers.prune()
        if await rows.answers.claim(use.actor, use.digest, replace(use.fresh, free_at=free_at), KEPT):
            return None
        found = await rows.answers.find(use.actor, use.digest)
        assert found is not None  # noqa: S101 - it could not be claimed, and our transaction sees who did
        if not compare_digest(found.request_hash, use.fresh.request_hash):
            raise InputError(FIELD, "was used for another request", "take a new key for each request")
        if found.status is None:
            raise UnderWayError(found.free_at or rows.now, rows.now)
        return StoredAnswer(found.status, found.headers, self._body(use.key, found))

    def _body(self, key: str, found: AnswerRow) -> bytes:
        """Return the body as it was sent, with the secret that was cut out of it."""
        if found.secret_prefix is None:
            return found.body
        pepper = self._peppers.named(found.pepper_id)
        if pepper is None:
            raise InputError(FIELD, "is too old: the pepper has been changed twice since", "take a new key")
        choose = self._derived(pepper, key, found)
        secret = "".join(choose(ALPHABET) for _ in range(BODY_LENGTH))
        return found.body.replace(_MARK, (found.secret_prefix + secret + checksum(secret)).encode())

    def _derived(self, pepper: Pepper, key: str, answer: AnswerRow) -> DerivedChoice:
        # Lengths are fixed but for actor and key, and neither holds a NUL.
        purpose = b"\0".join((b"answer", self._desk.actor.encode(), key.encode(), answer.request_hash + answer.nonce))
        return DerivedChoice(pepper.derive(purpose))
