"""Reports of leaked tokens as partners sign them."""

import base64
import hmac
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class GithubSigner:
    """Signs as GitHub's secret scanning does."""

    def __init__(self, identifier: str, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        """Sign under `identifier`, with a key of its own unless one is given."""
        self.identifier = identifier
        self._key = key or ec.generate_private_key(ec.SECP256R1())

    def public_key(self) -> dict[str, object]:
        """Return the entry of GitHub's `public_keys` document."""
        pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return {"key_identifier": self.identifier, "key": pem, "is_current": True}

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers that sign a body."""
        signature = base64.b64encode(self._key.sign(body, ec.ECDSA(SHA256()))).decode()
        return {"github-public-key-identifier": self.identifier, "github-public-key-signature": signature}


def webhook_headers(secret: bytes, body: bytes, at: datetime, name: str = "msg_1") -> dict[str, str]:
    """Return the headers that sign a body as Standard Webhooks has it."""
    timestamp = str(int(at.timestamp()))
    signature = base64.b64encode(hmac.digest(secret, f"{name}.{timestamp}.".encode() + body, "sha256")).decode()
    return {"webhook-id": name, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}
