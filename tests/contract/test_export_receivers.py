"""Receivers of usage, each by its own protocol: what they say became of every event, whatever the other side does."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from support.receiver_servers import BEARER, SECRET, SERVERS, Fault, ReceiverServer

from tallygate.billing.exports import lago, stripe
from tallygate.billing.exports.cloudevents import CloudEvents, secret_bytes
from tallygate.billing.exports.http import Poster
from tallygate.billing.exports.receiver import Event, Fate, Receiver
from tallygate.billing.exports.row import LedgerRow
from tallygate.core.clock import ManualClock

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
UNANSWERED = {
    Fault.DIES_AFTER: Fate.UNKNOWN,
    Fault.DIES_BEFORE: Fate.UNKNOWN,
    Fault.SILENT: Fate.UNKNOWN,
    Fault.FAILS_AFTER: Fate.UNKNOWN,
    Fault.FAILS: Fate.UNKNOWN,
    Fault.THROTTLES: Fate.UNHEARD,
    Fault.LOCKS_OUT: Fate.UNHEARD,
}


def event(number: int) -> Event:
    """Return an event of `number` units."""
    row = LedgerRow(
        number, NOW, number, "cus_1", "sub_1", "fam_1", "pro@1", "requests", "GET /v1/ä|b", "allowed", "counted",
        NOW + timedelta(minutes=number), number,
    )  # fmt: skip
    return Event("requests", "acme", row)


@pytest.fixture(params=sorted(SERVERS))
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ReceiverServer]:
    """Each kind of receiver in turn."""
    async with SERVERS[request.param]().running() as running:
        yield running


def receiver_of(server: ReceiverServer, *, deadline_s: float = 10) -> Receiver:
    """Return what talks to a server."""
    poster = Poster(server.url + server.path, key=BEARER, deadline_s=deadline_s)
    match type(server).__name__:
        case "StripeServer":
            return stripe.Stripe(poster)
        case "LagoServer":
            return lago.Lago(poster)
        case "OpenMeterServer":
            return CloudEvents(poster, ManualClock(NOW), source="tallygate")
    return CloudEvents(poster, ManualClock(NOW), source="tests", secret=secret_bytes(SECRET))


@pytest.fixture
async def receiver(server: ReceiverServer) -> AsyncIterator[Receiver]:
    """What talks to it."""
    made = receiver_of(server)
    yield made
    await made.close()


async def test_events_arrive_as_they_are(server: ReceiverServer, receiver: Receiver) -> None:
    """Key, name, subject, units and minute, below 0 too."""
    sent = [event(number) for number in (-5, 3)]
    assert [answer.fate for answer in await receiver.send(sent)] == [Fate.SENT, Fate.SENT]
    for each in sent:
        taken = server.taken[each.row.key]
        assert (taken.name, taken.subject, taken.value) == ("requests", "acme", each.row.quantity)
        assert taken.at in {str(int(each.row.minute_at.timestamp())), f"{each.row.minute_at:%Y-%m-%dT%H:%M:%SZ}"}


async def test_a_batch_is_told_whole(server: ReceiverServer, receiver: Receiver) -> None:
    """As many events as the receiver says it takes."""
    answers = await receiver.send([event(number) for number in range(receiver.batch)])
    assert {answer.fate for answer in answers} == {Fate.SENT}
    assert sorted(server.values()) == list(range(receiver.batch))


async def test_what_is_known_counts_once(server: ReceiverServer, receiver: Receiver) -> None:
    """Sent again, alone or among others: the answer is final, whether the receiver says that it knew it or not."""
    await receiver.send([event(1), event(2)])
    answers = await receiver.send([event(number) for number in (2, 3, 1)])
    assert {answer.fate for answer in answers} <= {Fate.SENT, Fate.REPEATED}
    assert sorted(server.values()) == [1, 2, 3]


async def test_only_bad_events_are_refused(server: ReceiverServer, receiver: Receiver) -> None:
    """In the receiver's words; those around them are taken, in their order."""
    server.refuses = lambda taken: taken.value in {0, 5, 6}
    answers = await receiver.send([event(number) for number in range(9)])
    refused = [number for number, answer in enumerate(answers) if answer.fate is Fate.REFUSED]
    assert refused == [0, 5, 6]
    assert all(answers[number].text.startswith("4") for number in refused)
    good = [1, 2, 3, 4, 7, 8]
    assert (sorted(server.values()) if isinstance(receiver, stripe.Stripe) else server.values()) == good


@pytest.mark.parametrize("fault", list(UNANSWERED), ids=lambda fault: fault.name.lower())
async def test_no_answer_is_no_answer(server: ReceiverServer, fault: Fault) -> None:
    """It is told apart whether the receiver may have the event; never is it taken for sent."""
    receiver = receiver_of(server, deadline_s=0.3 if fault is Fault.SILENT else 10)
    server.faults.append(fault)
    (answer,) = await receiver.send([event(1)])
    assert answer.fate is UNANSWERED[fault]
    assert answer.retry_after_s == (70 if answer.text[:3] in {"503", "429", "401"} else 0)
    await receiver.close()


async def test_nobody_there_has_certainly_not_heard(server: ReceiverServer) -> None:
    """A connection that is refused is not a call that may have been counted."""
    server.url = "http://127.0.0.1:1"
    receiver = receiver_of(server)
    answers = await receiver.send([event(1), event(2)])
    assert [answer.fate for answer in answers] == [Fate.UNHEARD, Fate.UNHEARD]
    await receiver.close()


async def test_a_redirect_is_not_followed(server: ReceiverServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would carry the key to wherever the answer says."""
    monkeypatch.setattr(server, "take", lambda *_: (307, b"elsewhere"))
    receiver = receiver_of(server)
    (answer,) = await receiver.send([event(1)])
    assert (answer.fate, len(server.calls)) == (Fate.UNHEARD, 1)
    await receiver.close()
