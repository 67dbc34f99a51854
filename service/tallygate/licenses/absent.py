"""What is known not to exist: digests of no token, remembered for seconds in bounded memory.

Kept apart from licenses, so that a flood of invented tokens can push out nothing but its own kind.
"""


class Absent:
    """Two halves of at most `max_entries / 2` digests; the older is dropped whole when the recent is full."""

    def __init__(self, ttl_s: float, max_entries: int) -> None:
        """Remember a digest for `ttl_s` seconds."""
        self._ttl_s = ttl_s
        self._half = max(1, max_entries // 2)
        self.clear()

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def clear(self) -> None:
        """Forget everything: a token has been made."""
        self._recent: dict[bytes, float] = {}
        self._older: dict[bytes, float] = {}

    def add(self, digest: bytes, read_at: float) -> None:
        """Note that a read begun at `read_at` (monotonic seconds) found no such token."""
        if len(self._recent) >= self._half:
            self._recent, self._older = {}, self._recent
        self._recent[digest] = read_at + self._ttl_s

    def holds(self, digest: bytes, now: float) -> bool:
        """Say whether `digest` is known to be of no token."""
        return now < (self._recent.get(digest) or self._older.get(digest, 0.0))
