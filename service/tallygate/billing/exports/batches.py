"""Batches that a receiver takes or refuses as a whole: those it refuses are halved until a bad event is alone."""

from collections.abc import Awaitable, Callable, Sequence

from tallygate.billing.exports.http import Reply
from tallygate.billing.exports.receiver import Answer, Event, Fate

Post = Callable[[Sequence[Event]], Awaitable[Reply]]
NOT_TRIED = Answer(Fate.UNHEARD, "not tried: one before it has no answer")


async def send_divided(post: Post, events: Sequence[Event]) -> list[Answer]:
    """Send events in order; return what became of each. What a part was refused for is said of that part alone."""
    reply = await post(events)
    if reply.fate is not Fate.REFUSED or len(events) == 1:
        return [reply.answer] * len(events)
    half = len(events) // 2
    first = await send_divided(post, events[:half])
    if not first[-1].fate.is_final:
        return first + [NOT_TRIED] * (len(events) - half)
    return first + await send_divided(post, events[half:])
