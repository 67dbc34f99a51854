"""Use cases of admin keys: who may use the control plane's API.

A key is `tga_`, 30 base62 characters from the operating system, and their checksum. It is shown once; kept
is its SHA-256, which a secret of 178 bits needs no pepper or slow function for, so that keys outlive the
rotation of the pepper. Does not own what a role may do at which address (`rest/`).
"""

import hashlib
import re
from datetime import timedelta

from tallygate.admin.desk import PAGE, Desk, check_name, check_reason
from tallygate.admin.records import AdminKey, IssuedKey, Role, as_json
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import NotFoundError
from tallygate.core.ids import new_id
from tallygate.tokens.format import ALPHABET, BODY_LENGTH, checksum

KEY_PREFIX = "tga_"
_SHAPE = re.compile(KEY_PREFIX + rf"([0-9A-Za-z]{{{BODY_LENGTH}}})([0-9A-Za-z]{{6}})")
_USE_IS_NOTED_EVERY = timedelta(hours=1)


class AdminKeys:
    """Create, list, show, revoke and recognise admin keys."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def create(self, name: str, role: Role, *, reason: str = "") -> IssuedKey:
        """Make a key; its secret is in the answer, and nowhere else."""
        check_reason(reason)
        chosen = name.strip()
        check_name(chosen)
        async with self._desk.transaction() as rows:
            body = "".join(self._desk.choose(ALPHABET) for _ in range(BODY_LENGTH))
            secret = KEY_PREFIX + body + checksum(body)
            made = AdminKey(new_id("key", rows.now), chosen, role, rows.now, None, None)
            await rows.keys.insert(made, _digest(secret))
            rows.audit("admin_key.create", made.id, None, as_json(made), reason)
        return IssuedKey(made, secret)

    async def authenticate(self, secret: str) -> AdminKey | None:
        """Return the key of a secret, None if there is none or it was revoked; notes its use, at most hourly."""
        match = _SHAPE.fullmatch(secret)
        if match is None or checksum(match[1]) != match[2]:
            return None
        async with self._desk.transaction() as rows:
            key = await rows.keys.by_digest(_digest(secret))
            if key is None or (key.revoked_at is not None and key.revoked_at <= rows.now):
                return None
            if key.last_used_at is None or key.last_used_at <= rows.now - _USE_IS_NOTED_EVERY:
                await rows.keys.note_used(key.id)
        return key

    async def show(self, ref: str) -> AdminKey:
        """Return the key with this id; raise NotFoundError."""
        async with self._desk.transaction() as rows:
            return await _need(rows, ref)

    async def revoke(self, ref: str, reason: str = "") -> AdminKey:
        """Revoke a key now; one that was revoked already stays as it is."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            before = await _need(rows, ref)
            if before.revoked_at is not None:
                return before
            await rows.keys.revoke(before.id)
            after = await _need(rows, ref)
            rows.audit("admin_key.revoke", before.id, as_json(before), as_json(after), reason)
        return after

    async def list(self, after: str = "", limit: int = PAGE) -> list[AdminKey]:
        """Return keys in order of creation, revoked ones too, after the id `after`."""
        async with self._desk.transaction() as rows:
            return await rows.keys.page(after, limit)


async def _need(rows: Transaction, ref: str) -> AdminKey:
    key = await rows.keys.find(ref)
    if key is None:
        raise NotFoundError("key", f"there is no admin key {ref!r}", "see `tallygate admin-keys list`")
    return key


def _digest(secret: str) -> bytes:
    return hashlib.sha256(b"tallygate admin key:" + secret.encode("ascii")).digest()
