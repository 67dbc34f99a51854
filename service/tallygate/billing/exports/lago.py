"""Lago: usage events in batches.

Owns the form of POST /api/v1/events/batch. Lago knows an event again by `transaction_id` and `timestamp`, both of which
are the entry's own.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus

from tallygate.billing.exports.batches import send_divided
from tallygate.billing.exports.cloudevents import dimensions
from tallygate.billing.exports.http import Poster, Reply
from tallygate.billing.exports.receiver import Answer, Event, Fate

PATH = "/api/v1/events/batch"
_JSON = {"content-type": "application/json"}
_KNOWN_AGAIN = b"value_already_exist"


class Lago:
    """Events of one Lago organization."""

    batch = 100

    def __init__(self, poster: Poster, *, remembers: timedelta | None = None) -> None:
        """Post to the organization's address for batches."""
        self._poster = poster
        self.remembers = remembers

    async def send(self, events: Sequence[Event]) -> list[Answer]:
        """Send them in batches that Lago takes."""
        return await send_divided(self._post, events)

    async def close(self) -> None:
        """Hang up."""
        await self._poster.close()

    async def _post(self, events: Sequence[Event]) -> Reply:
        body = json.dumps({"events": [_event(event) for event in events]}, ensure_ascii=False).encode()
        reply = await self._poster.post(body, _JSON)
        is_known = reply.status == HTTPStatus.UNPROCESSABLE_ENTITY and _KNOWN_AGAIN in reply.body
        # Of a whole batch it says nothing about the others: they are told apart by halving.
        return Reply(reply.status, Fate.REPEATED, "") if is_known and len(events) == 1 else reply


def _event(event: Event) -> dict[str, object]:
    return {
        "transaction_id": event.row.key,
        "external_subscription_id": event.subject,
        "code": event.name,
        "timestamp": int(event.row.minute_at.timestamp()),
        "properties": {"value": str(event.row.quantity), **dimensions(event)},
    }
