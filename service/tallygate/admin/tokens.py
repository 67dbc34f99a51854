"""Use cases of tokens: issue, look at, change, rotate, revoke.

The secret exists in `IssuedToken` only, on its way to whoever asked. A family is what is counted:
rotation adds a token to the family and ends the old one, so no counter moves. Many at once: `revocations`.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from tallygate.admin.desk import PAGE, Desk, check_name, check_reason, check_revision, need_customer
from tallygate.admin.dossier import need_subscription
from tallygate.admin.records import UNSET, IssuedToken, Token, Unset, as_json
from tallygate.admin.rows.tokens import TokenScope
from tallygate.admin.token_terms import check_expiry, check_scopes, contract_for, in_order, networks_of
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.core.ids import new_id
from tallygate.tokens.digest import Peppers
from tallygate.tokens.format import Environment, TokenFormat, TokenText
from tallygate.tokens.mint import mint

_HINT_CHARS = 4
_LONGEST_GRACE = timedelta(days=36_525)


class Tokens:
    """Issue, list, show, update, disable, rotate and revoke tokens."""

    def __init__(self, desk: Desk, token_format: TokenFormat, peppers: Peppers) -> None:
        """Work at `desk`; new tokens get the current pepper."""
        self._desk = desk
        self._format = token_format
        self._peppers = peppers

    async def issue(
        self,
        *,
        customer: str | None = None,
        subscription: str | None = None,
        environment: Environment | None = None,
        name: str = "",
        scopes: tuple[str, ...] | None = None,
        networks: tuple[str, ...] = (),
        not_before_at: datetime | None = None,
        expires_at: datetime | None = None,
        reason: str = "",
    ) -> IssuedToken:
        """Make a token in a new family of a subscription, or of a customer's only one.

        `scopes` None gives all of the plan's. Raises InputError naming what cannot be used.
        """
        check_reason(reason)
        check_name(name, 0)
        async with self._desk.transaction() as rows:
            check_expiry(not_before_at, expires_at, rows.now)
            contract = await contract_for(rows, customer, subscription, environment)
            await check_scopes(rows, contract, scopes)
            family = new_id("fam", rows.now)
            await rows.tokens.insert_family(family, contract.id, name)
            made = Token(
                id=new_id("tok", rows.now), family=family, subscription=contract.id, customer=contract.customer,
                environment=contract.environment, name=name, hint="", status="active",
                scopes=in_order(scopes), networks=networks_of(networks),
                not_before_at=not_before_at, expires_at=expires_at, revoked_at=None, disabled_at=None,
                leaked_at=None, last_used_at=None, created_at=rows.now, revision=1,
            )  # fmt: skip
            return await self._add(rows, made, reason)

    async def update(
        self,
        ref: str,
        *,
        scopes: tuple[str, ...] | Unset | None = UNSET,
        networks: tuple[str, ...] | Unset = UNSET,
        expires_at: datetime | Unset | None = UNSET,
        reason: str = "",
        revision: int | None = None,
    ) -> Token:
        """Change what a token may do, from where, and until when; what is not told stays.

        `scopes` None gives all of the plan's, `expires_at` None takes the expiry away.
        """
        check_reason(reason)
        async with self._desk.transaction() as rows:
            before = await self._need_alive(rows, ref, revision)
            after = before
            if scopes is not UNSET:
                await check_scopes(rows, await need_subscription(rows, before.subscription), scopes)
                after = replace(after, scopes=in_order(scopes))
            if networks is not UNSET:
                after = replace(after, networks=networks_of(networks))
            if expires_at is not UNSET:
                check_expiry(before.not_before_at, expires_at, rows.now)
                after = replace(after, expires_at=expires_at)
            if after == before:
                return before
            await rows.tokens.update(after)
            return await _changed(rows, before, "token.update", reason)

    async def disable(self, ref: str, reason: str = "", *, revision: int | None = None) -> Token:
        """Refuse a token until it is enabled again."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            before = await self._need_alive(rows, ref, revision)
            if before.disabled_at is not None:
                return before
            await rows.tokens.set_disabled(before.id, rows.now)
            return await _changed(rows, before, "token.disable", reason)

    async def enable(self, ref: str, reason: str = "", *, revision: int | None = None) -> Token:
        """Let a disabled token work again."""
        check_reason(reason)
        async with self._desk.transaction() as rows:
            before = await self._need_alive(rows, ref, revision)
            if before.disabled_at is None:
                return before
            await rows.tokens.set_disabled(before.id, None)
            return await _changed(rows, before, "token.enable", reason)

    async def rotate(
        self, ref: str, grace: timedelta = timedelta(0), reason: str = "", *, revision: int | None = None
    ) -> IssuedToken:
        """Add a token to the family of `ref` and revoke `ref` after `grace`. No counter is touched.

        The new token inherits scopes, networks and expiry. A leaked token that still works
        in its grace may be rotated too. Raises ConflictError for a token already revoked.
        """
        check_reason(reason)
        check_grace(grace)
        async with self._desk.transaction() as rows:
            old = await self._need(rows, ref, revision)
            is_leaked = old.leaked_at is not None and old.status != "revoked"
            if old.revoked_at is not None and not is_leaked:
                raise ConflictError("token", f"{old.id} is revoked or being rotated already", "issue a new token")
            if old.status == "disabled":
                raise ConflictError("token", f"{old.id} is disabled", "enable it first, or revoke it")
            if old.status == "expired":
                raise ConflictError("token", f"{old.id} has expired", "issue a new token")
            await rows.tokens.revoke([old.id], rows.now + grace)
            await _changed(rows, old, "token.rotate", reason)
            made = replace(
                old, id=new_id("tok", rows.now), status="active", created_at=rows.now, disabled_at=None,
                leaked_at=None, revoked_at=None, last_used_at=None, revision=1,
            )  # fmt: skip
            return await self._add(rows, made, f"rotation of {old.id}")

    async def revoke(self, ref: str, reason: str = "", *, revision: int | None = None) -> list[Token]:
        """Revoke a token (by id or by its secret), or the tokens of a small family, now; return them.

        One already revoked stays as it is and is returned all the same. Raises ConflictError for a family
        of more than a thousand: `revocations` takes any.
        """
        check_reason(reason)
        async with self._desk.transaction() as rows:
            if ref.startswith("fam_"):
                return await revoke_all(rows, await _family(rows, ref), "token.revoke", reason)
            found = await self._need(rows, ref, revision)
            return await revoke_all(rows, [found], "token.revoke", reason)

    async def show(self, ref: str) -> Token:
        """Return a token by id or by its secret; raise NotFoundError."""
        async with self._desk.transaction() as rows:
            return await self._found(rows, ref, await self._id(rows, ref))

    async def list(
        self,
        *,
        customer: str | None = None,
        subscription: str | None = None,
        family: str | None = None,
        hint: str | None = None,
        name: str | None = None,
        after: str = "",
        limit: int = PAGE,
    ) -> list[Token]:
        """Return tokens in order of creation: of one customer, subscription or family, of a name, or by their hint.

        Raises InputError for two of these at once.
        """
        if sum(each is not None for each in (customer, subscription, family, hint, name)) > 1:
            raise InputError("filter", "only one at a time", "leave all but the narrowest out")
        async with self._desk.transaction() as rows:
            customer_id = None if customer is None else (await need_customer(rows, customer)).id
            scope = TokenScope(family, subscription, customer_id, hint, name)
            return await rows.tokens.get(await rows.tokens.ids(scope, after, limit))

    async def _id(self, rows: Transaction, ref: str) -> str | None:
        text = self._format.parse(ref)
        if text is None:
            return ref
        return next(iter((await rows.tokens.by_digest(self._peppers.candidates(text))).values()), None)

    async def _found(self, rows: Transaction, ref: str, token_id: str | None) -> Token:
        token = None if token_id is None else await rows.tokens.find(token_id)
        if token is None:
            shown = repr(ref) if ref.startswith("tok_") else "like this"
            raise NotFoundError("token", f"there is no token {shown}", "see `tallygate tokens list`")
        return token

    async def _need(self, rows: Transaction, ref: str, revision: int | None) -> Token:
        """Return a token nobody else changes until the end."""
        token_id = await self._id(rows, ref)
        await rows.tokens.lock([] if token_id is None else [token_id])
        token = await self._found(rows, ref, token_id)
        check_revision(revision, token.revision)
        return token

    async def _need_alive(self, rows: Transaction, ref: str, revision: int | None) -> Token:
        token = await self._need(rows, ref, revision)
        if token.status == "revoked":
            raise ConflictError("token", f"{token.id} is revoked", "issue a new token")
        return token

    async def _add(self, rows: Transaction, made: Token, reason: str) -> IssuedToken:
        text: TokenText = mint(self._format, Environment(made.environment), self._desk.choose)
        digest = self._peppers.current.digest(text)
        await rows.tokens.insert(replace(made, hint=text.text[-_HINT_CHARS:]), digest.value, digest.pepper_id)
        (record,) = await rows.tokens.get([made.id])
        rows.changed(record.id)
        rows.audit("token.issue", record.id, None, as_json(record), reason)
        return IssuedToken(record, text.text)


async def revoke_all(
    rows: Transaction,
    tokens: Iterable[Token],
    action: str,
    reason: str,
    *,
    at: datetime | None = None,
    subject: str | None = None,
) -> list[Token]:
    """Revoke tokens now, or `at`, each with its audit entry; return all of them as they are then.

    Those that are revoked by then stay as they are. Each is a change of its own, unless all are the change
    of one `subject`. They must be locked.
    """
    before = {token.id: token for token in tokens}
    end = at or rows.now
    going = [token.id for token in before.values() if token.revoked_at is None or token.revoked_at > end]
    await rows.tokens.revoke(going, end)
    after = await rows.tokens.get(list(before))
    changed = set(going)
    for token in after:
        if token.id in changed:
            rows.changed(subject or token.id)
            rows.audit(action, token.id, as_json(before[token.id]), as_json(token), reason)
    return after


def check_grace(grace: timedelta) -> None:
    """Raise InputError for a time that no token can be given."""
    if not timedelta(0) <= grace <= _LONGEST_GRACE:
        raise InputError("grace", "is negative or longer than a century", "write 0s or more, such as 24h")


async def _changed(rows: Transaction, before: Token, action: str, reason: str) -> Token:
    (after,) = await rows.tokens.get([before.id])
    rows.changed(before.id)
    rows.audit(action, before.id, as_json(before), as_json(after), reason)
    return after


async def _family(rows: Transaction, family: str) -> list[Token]:
    ids = await rows.tokens.ids(TokenScope(family=family), "", PAGE + 1)
    if not ids:
        raise NotFoundError("token", f"there is no family {family!r}", "see `tallygate tokens list`")
    if len(ids) > PAGE:
        raise ConflictError("family", f"{family} has more than {PAGE} tokens", "revoke them as a filter")
    await rows.tokens.lock(ids)
    return await rows.tokens.get(ids)
