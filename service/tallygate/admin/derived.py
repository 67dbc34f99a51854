"""Characters that follow from a seed, and cannot be told from random ones without it."""

import hmac
from collections.abc import Iterator

_BYTE = 256


class DerivedChoice:
    """Picks characters as `secrets.choice` does, the same ones for the same seed.

    HMAC-SHA-256 of a counter under the seed, byte by byte; bytes that would favour some characters are skipped.
    """

    def __init__(self, seed: bytes) -> None:
        """Begin with `seed`, 32 secret bytes."""
        self._seed = seed
        self._bytes = self._stream()

    def __call__(self, alphabet: str) -> str:
        """Return the next character of `alphabet` (at most 256 of them)."""
        bound = _BYTE - _BYTE % len(alphabet)
        return alphabet[next(byte for byte in self._bytes if byte < bound) % len(alphabet)]

    def _stream(self) -> Iterator[int]:
        counter = 0
        while True:
            yield from hmac.digest(self._seed, counter.to_bytes(8), "sha256")
            counter += 1
