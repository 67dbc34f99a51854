"""The chain of the audit log: each entry carries a hash of itself and of all before it.

Pure. Owns what is hashed, and what is wrong with a row of entries; the database says the same in
`audit_hash` (storage/migrations/0002), where entries are written. The two are kept apart on purpose: a
verifier that asked the database would believe whoever changed it.

What it can show: an entry that was altered, removed or put in between by somebody who did not mend the rest.
Somebody with all rights in the database could recompute every later hash and the head; against that, note
the head (`number:hash`) elsewhere from time to time and verify from it (`anchor`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tallygate.admin.records import AuditProblem

GENESIS = bytes(32)
"""What the first entry has for a previous hash."""


@dataclass(frozen=True, slots=True)
class ChainedEntry:
    """An entry as it is hashed: `texts` are actor, action, object, before, after, reason and request id.

    `before` and `after` are JSON as Postgres prints jsonb.
    """

    id: int
    at: datetime
    texts: tuple[str | None, ...]
    previous_hash: bytes
    hash: bytes

    def computed(self) -> bytes:
        """Return the hash that this entry should have."""
        at = self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        parts = b"".join(_netstring(text) for text in (str(self.id), at, *self.texts))
        return hashlib.sha256(self.previous_hash + parts).digest()


class Chain:
    """Walks entries in order and collects what is wrong; at most `most` problems are kept."""

    def __init__(self, most: int = 100) -> None:
        """Begin before the first entry."""
        self.entries = 0
        self.last_id = 0
        self._last_hash = GENESIS
        self._most = most
        self.problems: list[AuditProblem] = []

    def walk(self, entries: Sequence[ChainedEntry]) -> None:
        """Go on with the next entries."""
        for entry in entries:
            if entry.previous_hash != self._last_hash:
                self._wrong(entry.id, f"does not follow entry {self.last_id}: one between was removed or put in")
            if entry.computed() != entry.hash:
                self._wrong(entry.id, "was altered")
            self.entries += 1
            self.last_id, self._last_hash = entry.id, entry.hash

    def end(self, head_id: int, head_hash: bytes) -> None:
        """Compare the last entry with the head."""
        if (head_id, head_hash) == (self.last_id, self._last_hash):
            return
        if head_id == self.last_id:
            self._wrong(head_id, "is the newest, and its hash is not the one in the head")
        elif head_id > self.last_id:
            self._wrong(head_id, f"and all after {self.last_id} were removed: the head still names it")
        else:
            self._wrong(self.last_id, f"was put in after the end: the head names {head_id} as the newest")

    def end_without_head(self) -> None:
        """Tell that there is no head to compare the last entry with."""
        self._wrong(self.last_id, "is the newest that is left, and the head, which would name the newest, was removed")

    def check_anchor(self, entry: ChainedEntry | None, number: int, noted: str) -> None:
        """Compare the entry with an anchor's number with the hash that was noted elsewhere."""
        if entry is None:
            self._wrong(number, "was noted as an anchor and is gone")
        elif entry.hash.hex() != noted:
            self._wrong(number, "has another hash than the anchor that was noted: the log was written anew")

    def _wrong(self, entry: int, problem: str) -> None:
        if len(self.problems) < self._most:
            self.problems.append(AuditProblem(entry, problem))


def _netstring(text: str | None) -> bytes:
    if text is None:
        return b"-,"
    content = text.encode()
    return b"%d:%s," % (len(content), content)
