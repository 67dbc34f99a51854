"""Rows of tokens, their families, and leaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tallygate.admin.postgres import Row, Statements
from tallygate.admin.records import LeakAnswer, Token


@dataclass(frozen=True, slots=True)
class TokenScope:
    """Which tokens are asked for: those of the narrowest that is set, or all."""

    family: str | None = None
    subscription: str | None = None
    customer: str | None = None
    hint: str | None = None
    name: str | None = None


class TokenRows:
    """Tokens in one transaction, at the instant `now`."""

    def __init__(self, statements: Statements, now: datetime) -> None:
        """Run `statements`."""
        self._sql = statements
        self._now = now

    async def insert_family(self, family_id: str, subscription_id: str, name: str) -> None:
        """Add a token family."""
        await self._sql.run("insert_family", family_id, subscription_id, name, self._now)

    async def insert(self, made: Token, digest: bytes, pepper_id: str) -> None:
        """Add a token, known by its digest."""
        scopes = None if made.scopes is None else list(made.scopes)
        await self._sql.run(
            "insert_token", made.id, made.family, digest, pepper_id, made.hint, scopes, list(made.networks),
            made.not_before_at, made.expires_at, made.created_at,
        )  # fmt: skip

    async def lock(self, token_ids: Sequence[str]) -> None:
        """Let nobody else change these tokens until the transaction ends."""
        await self._sql.rows("lock_tokens", list(token_ids))

    async def get(self, token_ids: Sequence[str]) -> list[Token]:
        """Return the tokens with these ids, in order of creation."""
        return [_token(row, self._now) for row in await self._sql.rows("tokens_by_id", list(token_ids))]

    async def find(self, token_id: str) -> Token | None:
        """Return a token."""
        return next(iter(await self.get([token_id])), None)

    async def by_digest(self, digests: Sequence[bytes]) -> dict[bytes, str]:
        """Return the ids of the tokens that are stored under these digests."""
        return {row["digest"]: row["id"] for row in await self._sql.rows("token_ids_by_digest", list(digests))}

    async def ids(self, scope: TokenScope, after: str, limit: int) -> list[str]:
        """Return ids in `scope`, after the id `after`, in order of creation."""
        for name, value in (
            ("token_ids_of_family", scope.family),
            ("token_ids_of_subscription", scope.subscription),
            ("token_ids_by_hint", scope.hint),
            ("token_ids_of_customer", scope.customer),
            ("token_ids_by_name", scope.name),
        ):
            if value is not None:
                return [row["id"] for row in await self._sql.rows(name, value, after, limit)]
        return [row["id"] for row in await self._sql.rows("token_ids", after, limit)]

    async def revoke(self, token_ids: Sequence[str], at: datetime) -> None:
        """Revoke tokens at the instant `at`; an earlier revocation stands."""
        await self._sql.run("revoke_tokens", list(token_ids), at)

    async def mark_leaked(self, token_ids: Sequence[str]) -> None:
        """Keep when these tokens were first found in public."""
        await self._sql.run("mark_leaked", list(token_ids), self._now)

    async def set_disabled(self, token_id: str, since: datetime | None) -> None:
        """Disable a token, or (None) enable it."""
        await self._sql.run("set_token_disabled", token_id, since)

    async def update(self, token: Token) -> None:
        """Write a token's scopes, networks and expiry."""
        scopes = None if token.scopes is None else list(token.scopes)
        await self._sql.run("update_token", token.id, scopes, list(token.networks), token.expires_at)

    async def insert_leak(self, leak_id: str, answer: LeakAnswer, source: str) -> None:
        """Keep that a secret was found in public, without the secret."""
        await self._sql.run(
            "insert_leak", leak_id, self._now, answer.token, answer.type, answer.url, source, answer.action
        )


def _token(row: Row, now: datetime) -> Token:
    return Token(
        id=row["id"],
        family=row["family_id"],
        subscription=row["subscription_id"],
        customer=row["customer_id"],
        environment=row["environment"],
        name=row["name"],
        hint=row["hint"],
        status=_status(row, now),
        scopes=None if row["scopes"] is None else tuple(row["scopes"]),
        networks=tuple(str(network) for network in row["networks"]),
        not_before_at=row["not_before_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        disabled_at=row["disabled_at"],
        leaked_at=row["leaked_at"],
        last_used_at=row["last_used_at"],
        created_at=row["created_at"],
        revision=row["revision"],
    )


def _status(row: Row, now: datetime) -> str:
    for column, status in (("revoked_at", "revoked"), ("disabled_at", "disabled"), ("expires_at", "expired")):
        if row[column] is not None and row[column] <= now:
            return status
    return "not_yet_valid" if row["not_before_at"] is not None and row["not_before_at"] > now else "active"
