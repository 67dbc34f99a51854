"""Stripe: a meter event for each entry.

Owns the form of POST /v1/billing/meter_events and what its refusals mean. One event a call: the stream that takes a
hundred answers before it has looked at them. The `identifier` makes an event count once; an `Idempotency-Key` is not
sent, for Stripe repeats to it a failure too. Units that were given back are events below 0, which Stripe adds up.
Events of one call of `send` are under way at the same time: sums do not depend on their order.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlencode

from tallygate.billing.exports.batches import NOT_TRIED
from tallygate.billing.exports.http import Poster, Reply
from tallygate.billing.exports.receiver import Answer, Event, Fate

PATH = "/v1/billing/meter_events"
_FORM = {"content-type": "application/x-www-form-urlencoded"}
_AT_ONCE = 16
_KNOWN_AGAIN = (b"event already exists with identifier", b"duplicate_meter_event")


class Stripe:
    """Meter events of one Stripe account."""

    batch = 128
    remembers: timedelta | None = timedelta(hours=24)

    def __init__(self, poster: Poster) -> None:
        """Post to the account's address for meter events."""
        self._poster = poster

    async def send(self, events: Sequence[Event]) -> list[Answer]:
        """Send each; once one has no answer, those that were not begun are left for later."""
        free, is_over = asyncio.Semaphore(_AT_ONCE), asyncio.Event()

        async def send_one(event: Event) -> Answer:
            async with free:
                if is_over.is_set():
                    return NOT_TRIED
                answer = _answer(await self._poster.post(_form(event), _FORM))
                if not answer.fate.is_final:
                    is_over.set()
                return answer

        return list(await asyncio.gather(*map(send_one, events)))

    async def close(self) -> None:
        """Hang up."""
        await self._poster.close()


def _form(event: Event) -> bytes:
    return urlencode({
        "event_name": event.name,
        "identifier": event.row.key,
        "timestamp": int(event.row.minute_at.timestamp()),
        "payload[stripe_customer_id]": event.subject,
        "payload[value]": event.row.quantity,
    }).encode()  # fmt: skip


def _answer(reply: Reply) -> Answer:
    if reply.status == HTTPStatus.BAD_REQUEST and any(words in reply.body for words in _KNOWN_AGAIN):
        return Answer(Fate.REPEATED)
    if reply.status == HTTPStatus.CONFLICT:  # others write to that customer and meter just now
        return Answer(Fate.UNHEARD, reply.text)
    return reply.answer
