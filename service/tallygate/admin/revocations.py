"""Use cases of revoking many tokens: all of a customer, a subscription or a family, or whatever a filter finds.

Done in batches, each a transaction of its own with an audit entry for every token, so that a million tokens
neither hold a lock nor wait for a deadline; run again, it finishes what was broken off. Where a filter
names a customer, a subscription or a family, that is the subject of the change notice: a hundred thousand
tokens are announced by a few numbers.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from tallygate.admin.desk import Desk, check_reason, need_customer
from tallygate.admin.dossier import need_subscription
from tallygate.admin.records import Revocation, Token
from tallygate.admin.rows.tokens import TokenScope
from tallygate.admin.tokens import revoke_all
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import InputError, NotFoundError

_BATCH = 500


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which tokens are meant: those for which all that is set holds; at least one must be.

    `not_used_since` also finds tokens made before that instant and never used.
    """

    customer: str | None = None
    subscription: str | None = None
    family: str | None = None
    name: str | None = None
    created_before: datetime | None = None
    not_used_since: datetime | None = None

    def fits(self, token: Token) -> bool:
        """Tell whether a token has this name, age and last use; whose it is has been seen to."""
        return (
            (self.name is None or token.name == self.name)
            and (self.created_before is None or token.created_at < self.created_before)
            and (self.not_used_since is None or (token.last_used_at or token.created_at) < self.not_used_since)
        )


class Revocations:
    """Revoke tokens by what they have in common."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def revoke(
        self, chosen: TokenFilter, *, is_dry_run: bool = False, limit: int = 10_000, after: str = "", reason: str = ""
    ) -> Revocation:
        """Revoke the tokens that `chosen` describes, now; a dry run only counts.

        Looks at up to `limit` tokens after the id `after`; repeat with `next_cursor` until it is None.
        Raises InputError for a filter that describes every token there is, NotFoundError for one of nobody.
        """
        check_reason(reason)
        if chosen == TokenFilter():
            raise InputError("filter", "describes every token there is", "name a customer, or another condition")
        scope = await self._scope(chosen)
        done, looked_at = Revocation(0, 0, is_dry_run, after or None), 0
        while looked_at < limit:
            size = min(_BATCH, limit - looked_at)
            async with self._desk.transaction() as rows:
                ids = await rows.tokens.ids(scope, done.next_cursor or "", size)
                matched, revoked = await _batch(rows, ids, chosen, scope, reason, is_dry_run=is_dry_run)
            looked_at += len(ids)
            done = replace(done, matched=done.matched + matched, revoked=done.revoked + revoked)
            if len(ids) < size:
                return replace(done, next_cursor=None)
            done = replace(done, next_cursor=ids[-1])
        return done

    async def _scope(self, chosen: TokenFilter) -> TokenScope:
        """Return whose tokens to go through; family, subscription and customer must be of one another."""
        async with self._desk.transaction() as rows:
            customer = None if chosen.customer is None else (await need_customer(rows, chosen.customer)).id
            subscription = chosen.subscription
            if subscription is not None:
                owner = (await need_subscription(rows, subscription)).customer
                if customer not in (None, owner):
                    raise NotFoundError("subscription", f"{subscription} is not of that customer", "leave one out")
            if chosen.family is not None:
                await _check_family(rows, chosen.family, subscription, customer)
        if chosen.family is not None:
            return TokenScope(family=chosen.family)
        if subscription is not None:
            return TokenScope(subscription=subscription)
        return TokenScope(customer=customer) if customer is not None else TokenScope(name=chosen.name)


async def _batch(
    rows: Transaction, ids: list[str], chosen: TokenFilter, scope: TokenScope, reason: str, *, is_dry_run: bool
) -> tuple[int, int]:
    """Revoke those of `ids` that fit; return how many fit, and how many were revoked by this."""
    if not is_dry_run:
        await rows.tokens.lock(ids)
    found = [token for token in await rows.tokens.get(ids) if chosen.fits(token)]
    alive = [token for token in found if token.status != "revoked"]
    if not is_dry_run:
        subject = scope.family or scope.subscription or scope.customer
        await revoke_all(rows, alive, "token.revoke", reason, subject=subject)
    return len(found), len(alive)


async def _check_family(rows: Transaction, family: str, subscription: str | None, customer: str | None) -> None:
    ids = await rows.tokens.ids(TokenScope(family=family), "", 1)
    token = next(iter(await rows.tokens.get(ids)), None)
    if token is None:
        raise NotFoundError("token", f"there is no family {family!r}", "see `tallygate tokens list`")
    if subscription not in (None, token.subscription) or customer not in (None, token.customer):
        raise NotFoundError("family", f"{family} is not of that subscription or customer", "leave one out")
