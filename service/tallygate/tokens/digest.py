"""Digests: the only form in which a token is stored, compared and cached.

HMAC-SHA-256 keyed with a pepper that lives outside the database, so a copy of the database alone
confirms no token. A token has 178 bits of its own, which is why a fast function is right here.
"""

import hashlib
import hmac
from dataclasses import dataclass

from tallygate.tokens.format import TokenText

_ID_BYTES = 4
MINIMUM_PEPPER_CHARS = 32


@dataclass(frozen=True, slots=True)
class TokenDigest:
    """What the database stores: 32 bytes, unique, and the id of the pepper that made them."""

    value: bytes
    pepper_id: str


class Pepper:
    """The key of token digests; its id is public, its value never leaves this object."""

    def __init__(self, secret: str) -> None:
        """Take the secret text, at least 32 characters."""
        if len(secret) < MINIMUM_PEPPER_CHARS:
            message = f"a pepper needs at least {MINIMUM_PEPPER_CHARS} characters"
            raise ValueError(message)
        self._key = secret.encode()
        self.id = hashlib.sha256(b"tallygate pepper id:" + self._key).hexdigest()[: _ID_BYTES * 2]

    def digest(self, token: TokenText) -> TokenDigest:
        """Return the digest of `token` under this pepper."""
        return TokenDigest(hmac.digest(self._key, token.text.encode("ascii"), "sha256"), self.id)

    def derive(self, purpose: bytes) -> bytes:
        """Return 32 bytes that only this pepper makes of `purpose`; no token's digest is ever among them."""
        return hmac.digest(self._key, b"tallygate derived:" + purpose, "sha256")


class Peppers:
    """The pepper new tokens get, and the previous one while a rotation is under way."""

    def __init__(self, current: Pepper, previous: Pepper | None = None) -> None:
        """Take the pepper in force and, while rotating, the one before."""
        self.current = current
        self._all = (current,) if previous is None else (current, previous)

    def named(self, pepper_id: str) -> Pepper | None:
        """Return the pepper with this id, while it is in use."""
        return next((pepper for pepper in self._all if pepper.id == pepper_id), None)

    def candidates(self, token: TokenText) -> tuple[bytes, ...]:
        """Return every digest this token may be stored under, the current pepper's first."""
        return tuple(pepper.digest(token).value for pepper in self._all)
