"""The shelf of a cache: licenses by digest, bounded by number and by bytes, least recently used out first.

Bytes are an estimate made from CPython's sizes (tests hold it within a quarter of what tracemalloc sees).
Terms are shared by the tokens of a subscription, grants and what is in them by all that have the same (see
`codec`): each is counted once, while any that has it is here.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from tallygate.licenses.license import Grant, License, Terms

_ENTRY_BYTES = 850
_TERMS_BYTES = 120
_PHASE_BYTES = 130
_GRANT_BYTES = 200
_SET_BYTES = 200
_SCOPE_BYTES = 100
_NETWORK_BYTES = 210
_FEATURE_BYTES = 130
_LIMIT_BYTES = 380


@dataclass(slots=True)
class Entry:
    """A license that was read, and how long it may be used; instants are monotonic seconds.

    `as_of` is the generation the read had seen, `read_at` when it began. From `refresh_at` on it should
    be read again, from `fresh_until` on it must. `floors_version` is when it was last compared with the floors.
    """

    license: License
    as_of: int
    read_at: float
    refresh_at: float
    fresh_until: float
    floors_version: int
    is_stale: bool = False


class Shelf:
    """A bounded, ordered map of entries."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        """Hold at most this many entries, and at most this many bytes by our estimate."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._holders: dict[int, int] = {}
        self.size_bytes = 0
        self.get = self._entries.get
        self.touch = self._entries.move_to_end

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, digest: bytes, entry: Entry) -> None:
        """Store `entry` as the most recently used, and make room for it."""
        self.drop(digest)
        self._entries[digest] = entry
        self._count(entry.license, 1)
        while self._entries and (len(self._entries) > self._max_entries or self.size_bytes > self._max_bytes):
            _, evicted = self._entries.popitem(last=False)
            self._count(evicted.license, -1)

    def drop(self, digest: bytes) -> None:
        """Take out the entry of `digest` if there is one."""
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._count(entry.license, -1)

    def clear(self) -> None:
        """Take out everything."""
        self._entries.clear()
        self._holders.clear()
        self.size_bytes = 0

    def _count(self, entry: License, sign: int) -> None:
        terms, size_bytes = entry.terms, own_bytes(entry)
        if self._is_edge(terms, sign):
            size_bytes += _TERMS_BYTES + _PHASE_BYTES * len(terms.every_phase)
            for grant in _grants(terms):
                if self._is_edge(grant, sign):
                    size_bytes += _GRANT_BYTES
                    size_bytes += sum(part_bytes for part, part_bytes in _parts(grant) if self._is_edge(part, sign))
        self.size_bytes += sign * size_bytes

    def _is_edge(self, shared: object, sign: int) -> bool:
        """Count one holder more or less; say whether it is the first, or was the last."""
        before = self._holders.pop(id(shared), 0)
        if before + sign:
            self._holders[id(shared)] = before + sign
        return not before or not before + sign


def own_bytes(entry: License) -> int:
    """Estimate what an entry takes without its terms."""
    return _ENTRY_BYTES + _SCOPE_BYTES * len(entry.scopes or ()) + _NETWORK_BYTES * len(entry.networks)


def _grants(terms: Terms) -> Iterator[Grant]:
    return (grant for phase in terms.every_phase for grant in (phase.grant, phase.shadow) if grant is not None)


def _parts(grant: Grant) -> Iterator[tuple[object, int]]:
    """Yield what grants share, with its bytes."""
    yield grant.scopes, _SET_BYTES + _SCOPE_BYTES * len(grant.scopes)
    text = sum(len(value) for value in grant.features.values() if isinstance(value, str))
    yield grant.features, _SET_BYTES + text + _FEATURE_BYTES * len(grant.features)
    yield from ((limit, _LIMIT_BYTES) for limit in grant.limits)
