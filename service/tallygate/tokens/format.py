"""The format of a token: `tg_<env>_<body><checksum>`.

The body is 30 base62 characters (178 bits). The checksum is the CRC-32 of the body in base62, padded to
six characters: it lets us refuse a mistyped or invented token before any look-up, and lets secret
scanners report few false positives. It is no proof of authenticity.
"""

import re
import zlib
from dataclasses import dataclass
from enum import StrEnum

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_LENGTH = 30
CHECKSUM_LENGTH = 6
DEFAULT_PREFIX = "tg"
_PREFIX = re.compile(r"[0-9A-Za-z]+")


class Environment(StrEnum):
    """Which world a token belongs to."""

    LIVE = "live"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token whose form and checksum are right; `text` is secret and must never be shown."""

    environment: Environment
    text: str

    def __repr__(self) -> str:
        """Say what it is without the secret."""
        return f"TokenText(environment={self.environment.value!r}, text='…')"


class TokenFormat:
    """The format under one prefix. Shape: `^<prefix>_(live|test)_[0-9A-Za-z]{36}$`, so all are of one `length`."""

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        """Take the prefix, letters and digits only; raise ValueError for anything else."""
        if not _PREFIX.fullmatch(prefix):
            message = f"{prefix!r} is not a prefix of letters and digits"
            raise ValueError(message)
        self.prefix = prefix
        self.pattern = rf"{prefix}_(live|test)_[0-9A-Za-z]{{{BODY_LENGTH + CHECKSUM_LENGTH}}}"
        self._match = re.compile(self.pattern).fullmatch
        self.length = len(f"{prefix}_live_") + BODY_LENGTH + CHECKSUM_LENGTH

    def parse(self, text: str) -> TokenText | None:
        """Return the token if its form and checksum are right, else None."""
        match = self._match(text)
        if match is None:
            return None
        secret = text[-(BODY_LENGTH + CHECKSUM_LENGTH) :]
        if checksum(secret[:BODY_LENGTH]) != secret[BODY_LENGTH:]:
            return None
        return TokenText(Environment(match[1]), text)

    def compose(self, environment: Environment, body: str) -> TokenText:
        """Return the token with this body of 30 base62 characters."""
        return TokenText(environment, f"{self.prefix}_{environment.value}_{body}{checksum(body)}")


def checksum(body: str) -> str:
    """Return the CRC-32 of `body` in base62 (`0-9A-Za-z`), left-padded with `0` to 6 characters."""
    number = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
