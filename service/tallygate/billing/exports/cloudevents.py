"""CloudEvents 1.0 in batches of JSON, for OpenMeter and whoever else takes them.

Owns the form of the events and the signature. Receivers know an event again by `source` and `id`. `sequence` rises from
entry to entry. A shared secret signs each call as Standard Webhooks has it: HMAC-SHA-256 over id, time and body.
"""

import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256

from tallygate.billing.exports.batches import send_divided
from tallygate.billing.exports.http import Poster, Reply
from tallygate.billing.exports.receiver import Answer, Event
from tallygate.core.clock import Clock

_TYPE = "application/cloudevents-batch+json"
_SEQUENCE_DIGITS = 19
SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with


class CloudEvents:
    """A receiver of CloudEvents."""

    batch = 100

    def __init__(
        self, poster: Poster, clock: Clock, *, source: str, secret: bytes = b"", remembers: timedelta | None = None
    ) -> None:
        """Post as `source`; calls are signed with `secret` if there is one."""
        self._poster = poster
        self._clock = clock
        self._source = source
        self._secret = secret
        self.remembers = remembers

    async def send(self, events: Sequence[Event]) -> list[Answer]:
        """Send them in batches that the receiver takes."""
        return await send_divided(self._post, events)

    async def close(self) -> None:
        """Hang up."""
        await self._poster.close()

    async def _post(self, events: Sequence[Event]) -> Reply:
        body = json.dumps([self._event(event) for event in events], ensure_ascii=False, separators=(",", ":")).encode()
        return await self._poster.post(body, {"content-type": _TYPE, **self._signature(events, body)})

    def _event(self, event: Event) -> dict[str, object]:
        row = event.row
        return {
            "specversion": "1.0",
            "id": row.key,
            "source": self._source,
            "type": event.name,
            "subject": event.subject,
            "time": _instant(event),
            "sequence": f"{row.id:0{_SEQUENCE_DIGITS}}",
            "datacontenttype": "application/json",
            "data": {"value": row.quantity, **dimensions(event)},
        }

    def _signature(self, events: Sequence[Event], body: bytes) -> Mapping[str, str]:
        if not self._secret:
            return {}
        call = "msg_" + sha256("".join(event.row.key for event in events).encode()).hexdigest()[:32]
        at = str(int(self._clock.now().timestamp()))
        return {"webhook-id": call, "webhook-timestamp": at, "webhook-signature": signed(self._secret, call, at, body)}


def signed(secret: bytes, call: str, at: str, body: bytes) -> str:
    """Return the signature of a call, as Standard Webhooks has it."""
    digest = hmac.digest(secret, f"{call}.{at}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def secret_bytes(text: str) -> bytes:
    """Return the key that `whsec_…` stands for; raise ValueError for what is none, or is shorter than 24 bytes."""
    key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    if not text.startswith(SECRET_PREFIX) or len(key) < 24:  # noqa: PLR2004 - Standard Webhooks' own bound
        raise ValueError("not whsec_ and 24 bytes or more in base64")
    return key


def dimensions(event: Event) -> dict[str, object]:
    """Return what receivers may group by."""
    row = event.row
    return {
        "customer": row.customer,
        "subscription": row.subscription,
        "family": row.family,
        "plan": row.plan,
        "meter": row.meter,
        "route": row.route,
        "outcome": row.outcome,
        "entry": row.entry,
    }


def _instant(event: Event) -> str:
    return event.row.minute_at.isoformat().replace("+00:00", "Z")
