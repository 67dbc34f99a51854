"""Who signed a report of leaked tokens: both schemes, and everything that is almost a signature."""

import base64
import hmac
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from support.leak_reports import GithubSigner, webhook_headers

from tallygate.admin.rest.signatures import LeakKeys, read_leak_keys
from tallygate.core.clock import ManualClock
from tallygate.core.errors import InputError

BODY = b'[{"token":"tg_live_x"}]'
NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECRET = b"0123456789abcdef0123456789abcdef"


def test_github_is_known_by_its_key() -> None:
    """A body that GitHub's key has signed is GitHub's, under the key's identifier."""
    signer = GithubSigner("key-1")
    keys = read_leak_keys(json.dumps({"public_keys": [signer.public_key()]}))
    assert keys.reporter(signer.headers(BODY), BODY, ManualClock(NOW)) == "github:key-1"


def test_almost_a_signature_is_none() -> None:
    """Another body, key, identifier, curve or encoding is nobody's."""
    signer, stranger = GithubSigner("key-1"), GithubSigner("key-1")
    keys = read_leak_keys(json.dumps({"public_keys": [signer.public_key()]}))
    right = signer.headers(BODY)
    wrong = [
        {},
        stranger.headers(BODY),
        signer.headers(BODY + b" "),
        right | {"github-public-key-identifier": "key-2"},
        right | {"github-public-key-identifier": ""},
        right | {"github-public-key-signature": ""},
        right | {"github-public-key-signature": right["github-public-key-signature"][:-4]},
        right | {"github-public-key-signature": "no base64!"},
        right | {"github-public-key-signature": "é"},
        {"github-public-key-identifier": "key-1"},
        {"github-public-key-signature": right["github-public-key-signature"]},
    ]
    for headers in wrong:
        assert keys.reporter(headers, BODY, ManualClock(NOW)) is None, headers
    assert LeakKeys().reporter(right, BODY, ManualClock(NOW)) is None


def test_a_sharer_of_a_secret_is_known_by_it() -> None:
    """Standard Webhooks: id, timestamp and body are signed; one right signature of several is enough."""
    keys = LeakKeys(shared_secrets={"scanner": SECRET, "other": b"f" * 32})
    right = webhook_headers(SECRET, BODY, NOW)
    assert keys.reporter(right, BODY, ManualClock(NOW)) == "webhook:scanner"
    several = right | {"webhook-signature": "v1,AAAA v2,xyz " + right["webhook-signature"]}
    assert keys.reporter(several, BODY, ManualClock(NOW)) == "webhook:scanner"
    wrong = [
        right | {"webhook-id": "other"},
        right | {"webhook-timestamp": str(int(NOW.timestamp()) + 1)},
        right | {"webhook-signature": "v1," + "A" * 44},
        right | {"webhook-signature": "é"},
        webhook_headers(b"x" * 32, BODY, NOW),
        webhook_headers(SECRET, BODY + b" ", NOW),
    ]
    for headers in wrong:
        assert keys.reporter(headers, BODY, ManualClock(NOW)) is None, headers


def test_an_old_report_is_refused() -> None:
    """What was signed more than five minutes ago, or for later, or at no time, is a replay."""
    keys = LeakKeys(shared_secrets={"scanner": SECRET})
    right = webhook_headers(SECRET, BODY, NOW)
    for after_s, expected in ((-301, None), (-300, "webhook:scanner"), (300, "webhook:scanner"), (301, None)):
        clock = ManualClock(NOW)
        clock.advance(after_s)
        assert keys.reporter(right, BODY, clock) == expected
    for timestamp in ("", "now", "1e9", "-1", "9" * 40, "٣"):
        signed = f"msg_1.{timestamp}.".encode() + BODY
        signature = "v1," + base64.b64encode(hmac.digest(SECRET, signed, "sha256")).decode()
        headers = {"webhook-id": "msg_1", "webhook-timestamp": timestamp, "webhook-signature": signature}
        assert keys.reporter(headers, BODY, ManualClock(NOW)) is None


def test_keys_that_cannot_be_used_are_refused_without_showing_them() -> None:
    """A wrong document stops the start, and the message quotes none of it."""
    other_curve = ec.generate_private_key(ec.SECP384R1())
    secret = base64.b64encode(b"short").decode()
    for text in (
        "not json hush",
        "[]",
        '{"public_keys": [{"key_identifier": "hush"}]}',
        '{"public_keys": [{"key_identifier": "1", "key": "hush"}]}',
        json.dumps({"public_keys": [GithubSigner("1", other_curve).public_key()]}),
        json.dumps({"shared_secrets": [{"name": "hush", "secret": secret}]}),
        '{"shared_secrets": [{"name": "1", "secret": "hush!"}]}',
    ):
        with pytest.raises(InputError) as wrong:
            read_leak_keys(text)
        assert "hush" not in str(wrong.value)
        assert secret not in str(wrong.value)
        assert wrong.value.field == "TALLYGATE_LEAK_KEYS"


def test_keys_do_not_show_themselves() -> None:
    """A shared secret is in no repr, and so in no log."""
    assert "0123456789abcdef" not in repr(LeakKeys(shared_secrets={"scanner": SECRET}))
