"""Keys that were good a moment ago: whoever sends one is no stranger, whatever is tried from their address.

Owns a memory and nothing more: a familiar key is still looked up for every request, so that a revoked one
works nowhere. Bounded, in time and number; of a key it holds a digest under a secret of this process, which is
worth nothing elsewhere. For one event loop.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable


class FamiliarKeys:
    """Remembers good keys for `lasts_s` after their last use. `monotonic` is its time, in seconds."""

    def __init__(self, monotonic: Callable[[], float], *, lasts_s: float = 3600.0, most: int = 1000) -> None:
        """Begin knowing none; beyond `most` the one used longest ago is forgotten."""
        self._monotonic = monotonic
        self._lasts_s = lasts_s
        self._most = most
        self._salt = os.urandom(32)
        self._until_s: OrderedDict[bytes, float] = OrderedDict()

    def knows(self, secret: str) -> bool:
        """Tell whether this key was good a moment ago."""
        return self._until_s.get(self._digest(secret), 0.0) > self._monotonic()

    def remember(self, secret: str) -> None:
        """Note that a key is good."""
        digest = self._digest(secret)
        self._until_s[digest] = self._monotonic() + self._lasts_s
        self._until_s.move_to_end(digest)
        if len(self._until_s) > self._most:
            self._until_s.popitem(last=False)

    def forget(self, secret: str) -> None:
        """Note that a key is good no more."""
        self._until_s.pop(self._digest(secret), None)

    def _digest(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode("utf-8", "replace"), key=self._salt, digest_size=32).digest()
