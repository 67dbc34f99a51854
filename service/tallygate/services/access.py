"""Who may call the services: whoever shows the key, or a client certificate that was asked for.

Owns the check. Pure. Failure: NotAuthenticatedError, which never tells anything of the key.
"""

import hmac

from tallygate.core.errors import TallygateError

_SCHEME = "bearer "
_NOTHING_SET = (
    "nobody may call this: set TALLYGATE_SERVICES_KEY, or TALLYGATE_TLS_CLIENT_CA_FILE to take certificates of clients"
)


class NotAuthenticatedError(TallygateError):
    """The caller has not shown who it is."""


class Access:
    """Tells who may call. A service that is not `guarded` is open to everybody while no key is set."""

    def __init__(self, key: str | None, *, is_certified: bool) -> None:
        """Take the key, and whether every connection has shown a certificate of a client authority."""
        self._key = None if key is None else key.encode()
        self._is_certified = is_certified

    def require(self, authorization: str | None, *, is_guarded: bool) -> None:
        """Raise NotAuthenticatedError unless the caller may call, given its `authorization` metadata."""
        if self._is_certified:
            return
        if self._key is None:
            if is_guarded:
                raise NotAuthenticatedError(_NOTHING_SET)
            return
        if not hmac.compare_digest(_shown(authorization or ""), self._key):
            raise NotAuthenticatedError("send `authorization: Bearer …` with the key in TALLYGATE_SERVICES_KEY")


def _shown(authorization: str) -> bytes:
    is_bearer = authorization[: len(_SCHEME)].lower() == _SCHEME
    return authorization[len(_SCHEME) :].strip().encode() if is_bearer else b""
