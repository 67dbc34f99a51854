"""Entries cut into calls: what is told, put aside unsent or left out; and what answers mean for them. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tallygate.billing.exports.cursor import Aside
from tallygate.billing.exports.receiver import Answer, Event, Fate
from tallygate.billing.exports.row import LedgerRow
from tallygate.billing.exports.terms import Terms

_NEVER_GOT = frozenset({Fate.UNHEARD, Fate.REFUSED})


@dataclass(slots=True)
class Part:
    """Entries one after the other, up to `last_id`: the events of a call, and those between them that are not sent."""

    last_id: int
    events: list[Event] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: nothing is left to do up to the number `reached`; `asides` are to be put aside.

    `failure` is the first answer that is none. `is_unheard` says that the receiver has nothing of what is left.
    """

    reached: int
    asides: list[Aside]
    sent: int
    repeated: int
    skipped: int
    failure: Answer | None
    is_unheard: bool


def parts(read: Sequence[LedgerRow], terms: Terms, batch: int) -> Iterator[Part]:
    """Return entries in parts of at most `batch` events."""
    part = Part(0)
    for row in read:
        part.last_id = row.id
        if not terms.takes(row):
            part.skipped += 1
        elif subject := terms.subject_of(row):
            part.events.append(Event(terms.name_of(row), subject, row))
        else:
            part.asides.append(Aside(row.id, terms.missing_subject(row)))
        if len(part.events) == batch:
            yield part
            part = Part(0)
    if part.last_id:
        yield part


def outcome(part: Part, answers: Sequence[Answer]) -> Outcome:
    """Return what the answers to a part's events come to; what follows the first without an answer is left."""
    told = list(zip(part.events, answers, strict=True))
    stop = next((number for number, (_, answer) in enumerate(told) if not answer.fate.is_final), len(told))
    is_whole = stop == len(told)
    reached = part.last_id if is_whole else part.events[stop].row.id - 1
    fates = [answer.fate for _, answer in told[:stop]]
    refused = [
        Aside(event.row.id, answer.text or "refused") for event, answer in told[:stop] if answer.fate is Fate.REFUSED
    ]
    return Outcome(
        reached=reached,
        asides=[aside for aside in part.asides if aside.entry_id <= reached] + refused,
        sent=fates.count(Fate.SENT),
        repeated=fates.count(Fate.REPEATED),
        skipped=part.skipped if is_whole else 0,
        failure=None if is_whole else told[stop][1],
        is_unheard=all(answer.fate in _NEVER_GOT for _, answer in told[stop:]),
    )
