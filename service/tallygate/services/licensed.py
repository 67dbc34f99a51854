"""The license of a token, as Check finds it: form and checksum first, then the cache.

Owns nothing but that order. Failure: as the cache, StoreUnavailableError and OverloadedError.
"""

from tallygate.decision.pipeline import LicenseSource
from tallygate.licenses.license import License
from tallygate.tokens.digest import Peppers
from tallygate.tokens.format import TokenFormat


class Tokens:
    """Finds licenses by token."""

    def __init__(self, token_format: TokenFormat, peppers: Peppers, licenses: LicenseSource) -> None:
        """Take what tokens look like, what they are stored under, and where licenses are."""
        self._format = token_format
        self._peppers = peppers
        self._licenses = licenses

    async def license(self, token: str) -> License | None:
        """Return the license of the token, None for what is malformed or not known."""
        parsed = self._format.parse(token)
        if parsed is None:
            return None
        digests = self._peppers.candidates(parsed)
        return self._licenses.at_hand(digests) or await self._licenses.get(digests)
