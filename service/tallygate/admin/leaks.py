"""Use cases of leaks: tokens that a secret-scanning partner found in public.

Owns what becomes of such a token, and the pattern to register with partners. Does not own who may report:
a partner's signature is checked where the report arrives. A reported secret is looked up by its digest and
then forgotten; a text that merely looks like a token, or contains one in its address, is not kept either.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from tallygate.admin.desk import Desk
from tallygate.admin.records import LeakAnswer, Token, as_json
from tallygate.admin.tokens import check_grace, revoke_all
from tallygate.admin.transaction import Transaction
from tallygate.core.errors import InputError
from tallygate.core.ids import new_id
from tallygate.tokens.digest import Peppers
from tallygate.tokens.format import TokenFormat

MOST_ITEMS = 1000
_TEXT_CHARS = 2000
_REASON = "found in public"


class LeakPolicy(StrEnum):
    """What becomes of a leaked token: revoked at once, or to be rotated, with some time for it.

    Nobody can be shown a new secret here: under `rotate` the token ends after the grace, is flagged as
    leaked, and whoever owns it issues or rotates one in time.
    """

    REVOKE = "revoke"
    ROTATE = "rotate"


@dataclass(frozen=True, slots=True)
class LeakItem:
    """One secret as a partner reports it: what it is taken for, where it was found, and in what kind of place."""

    token: str = field(repr=False)
    type: str
    url: str
    source: str


def pattern_of(token_format: TokenFormat) -> str:
    """Return the regular expression of a token, and nothing longer around it."""
    return rf"\b{token_format.pattern}\b"


class Leaks:
    """Take reports of leaked tokens."""

    def __init__(self, desk: Desk, token_format: TokenFormat, peppers: Peppers) -> None:
        """Work at `desk`; tokens are recognised by their format and digests."""
        self._desk = desk
        self._format = token_format
        self._peppers = peppers

    def pattern(self) -> str:
        """Return the regular expression to register with partners: a token, and nothing longer around it."""
        return pattern_of(self._format)

    async def report(
        self,
        items: Sequence[LeakItem],
        *,
        policy: LeakPolicy = LeakPolicy.REVOKE,
        grace: timedelta = timedelta(hours=1),
    ) -> list[LeakAnswer]:
        """End every reported token that is ours by `policy`, in one transaction; answer in the order of `items`.

        One that has ended already is a true positive without an action. Raises InputError for too many items.
        """
        check_grace(grace)
        if len(items) > MOST_ITEMS:
            raise InputError("items", f"are {len(items)}", f"send at most {MOST_ITEMS} at once")
        async with self._desk.transaction() as rows:
            known = await self._find(rows, items)
            ids = sorted({token_id for token_id in known if token_id is not None})
            await rows.tokens.lock(ids)
            before = {token.id: token for token in await rows.tokens.get(ids)}
            end = rows.now if policy is LeakPolicy.REVOKE else rows.now + grace
            await rows.tokens.mark_leaked(ids)
            for token in await revoke_all(rows, before.values(), "token.leaked", _REASON, at=end):
                old = before[token.id]
                if token.revoked_at == old.revoked_at and token.leaked_at != old.leaked_at:  # it is only marked
                    rows.audit("token.leaked", token.id, as_json(old), as_json(token), _REASON)
            answers = [
                self._answer(item, None if token_id is None else before[token_id], policy, end)
                for item, token_id in zip(items, known, strict=True)
            ]
            for item, answer in zip(items, answers, strict=True):
                await rows.tokens.insert_leak(new_id("lek", rows.now), answer, self._redacted(item.source))
        return answers

    async def _find(self, rows: Transaction, items: Sequence[LeakItem]) -> list[str | None]:
        """Return the id of each item's token, None for what is none of ours."""
        texts = [self._format.parse(item.token) for item in items]
        digests = [() if text is None else self._peppers.candidates(text) for text in texts]
        ids = await rows.tokens.by_digest([digest for each in digests for digest in each])
        return [next((ids[digest] for digest in each if digest in ids), None) for each in digests]

    def _answer(self, item: LeakItem, token: Token | None, policy: LeakPolicy, end: datetime) -> LeakAnswer:
        type_, url = self._redacted(item.type), self._redacted(item.url)
        if token is None:
            return LeakAnswer(type_, url, "false_positive", "none", None)
        ends_anyway = token.revoked_at is not None and token.revoked_at <= end
        done = "revoked" if policy is LeakPolicy.REVOKE else "rotated"
        return LeakAnswer(type_, url, "true_positive", "none" if ends_anyway else done, token.id)

    def _redacted(self, text: str) -> str:
        """Return a text to keep: short, printable, and without anything that looks like a token."""
        plain = "".join(char for char in text[:_TEXT_CHARS] if char.isprintable())
        return re.sub(self._format.pattern, f"{self._format.prefix}_…", plain)
