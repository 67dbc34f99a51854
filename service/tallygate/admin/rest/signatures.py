"""Whether a report of leaked tokens comes from who it says: two schemes over the bytes of the body.

- GitHub's secret-scanning partner programme: `Github-Public-Key-Identifier` names a key,
  `Github-Public-Key-Signature` is an ECDSA signature (P-256, SHA-256, DER, base64).
- Standard Webhooks, for anybody one shares a secret with: `webhook-id`, `webhook-timestamp` and
  `webhook-signature` (`v1,` and an HMAC-SHA256 of `id.timestamp.body`, base64; several by spaces).

The first says nothing of when it was signed: a report that is sent again does what it did before, which is
nothing. The second is refused when it is older or newer than `TOLERANCE_S`.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tallygate.core.clock import Clock
from tallygate.core.errors import InputError

TOLERANCE_S = 300
KEY_IDENTIFIER = "github-public-key-identifier"
KEY_SIGNATURE = "github-public-key-signature"
WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_SHORTEST_SECRET_BYTES = 16
_FIELD = "TALLYGATE_LEAK_KEYS"
_SHAPE = 'write {"public_keys": [{"key_identifier": …, "key": PEM}], "shared_secrets": [{"name": …, "secret": base64}]}'


@dataclass(frozen=True, slots=True)
class LeakKeys:
    """The keys of those who may report leaks, by their identifiers."""

    public_keys: Mapping[str, EllipticCurvePublicKey] = field(default_factory=dict)
    shared_secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def reporter(self, headers: Mapping[str, str], body: bytes, clock: Clock) -> str | None:
        """Return who signed `body`, None for nobody we know. Header names are in lower case."""
        identifier = headers.get(KEY_IDENTIFIER)
        if identifier is not None:
            return f"github:{identifier}" if self._signed(identifier, headers.get(KEY_SIGNATURE, ""), body) else None
        if WEBHOOK_SIGNATURE not in headers or not self._is_recent(headers.get(WEBHOOK_TIMESTAMP, ""), clock):
            return None
        stamp = f"{headers.get(WEBHOOK_ID, '')}.{headers[WEBHOOK_TIMESTAMP]}.".encode("latin-1", "replace")
        return self._sharer(stamp + body, headers[WEBHOOK_SIGNATURE])

    def _signed(self, identifier: str, signature: str, body: bytes) -> bool:
        key = self.public_keys.get(identifier)
        if key is None:
            return False
        try:
            key.verify(base64.b64decode(signature, validate=True), body, ECDSA(SHA256()))
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True

    def _is_recent(self, timestamp: str, clock: Clock) -> bool:
        is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12  # noqa: PLR2004 - seconds
        return is_number and abs(clock.now().timestamp() - int(timestamp)) <= TOLERANCE_S

    def _sharer(self, signed: bytes, signatures: str) -> str | None:
        given = [part.removeprefix("v1,").encode("latin-1", "replace") for part in signatures.split(" ")[:10]]
        for name, secret in self.shared_secrets.items():
            right = base64.b64encode(hmac.digest(secret, signed, "sha256"))
            if any([hmac.compare_digest(right, one) for one in given]):  # noqa: C419 - all, in constant time
                return f"webhook:{name}"
        return None


def read_leak_keys(text: str) -> LeakKeys:
    """Read the document GitHub publishes, with `shared_secrets` beside its `public_keys`; raise InputError."""
    try:
        document = json.loads(text)
        public = {str(item["key_identifier"]): _public_key(item["key"]) for item in document.get("public_keys", [])}
        shared = {str(item["name"]): _secret(item["secret"]) for item in document.get("shared_secrets", [])}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # Only the kind of the error: its text may quote a secret.
        raise InputError(_FIELD, f"cannot be used: {type(error).__name__}", _SHAPE) from None
    return LeakKeys(public, shared)


def _public_key(pem: str) -> EllipticCurvePublicKey:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise TypeError(key)
    return key


def _secret(text: Any) -> bytes:  # noqa: ANN401 - whatever the document holds
    secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    if len(secret) < _SHORTEST_SECRET_BYTES:
        raise ValueError(len(secret))
    return secret
