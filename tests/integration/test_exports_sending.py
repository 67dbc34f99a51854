"""Exports over a real ledger: whatever the receiver does, nothing is missing, and nothing counts twice by its key."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from support.exporting import NOW, Books, address_of, exporter_of, open_books, table_of
from support.receiver_servers import BEARER, SERVERS, Fault, ReceiverServer
from support.servers import Database

from tallygate.billing.exports.postgres import ExportRows
from tallygate.billing.exports.round import Round
from tallygate.billing.exports.sender import Sender

KINDS = sorted(SERVERS)
QUANTITIES = [5, 7, -2, 11, 1, 3, 9]
DAY = timedelta(days=1)


@pytest.fixture
async def books(database: Database) -> AsyncIterator[Books]:
    """The ledger of a customer who used something."""
    async with open_books(database) as opened:
        await opened.use(QUANTITIES)
        yield opened


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of receiver in turn."""
    return str(request.param)


@pytest.fixture
async def server(kind: str) -> AsyncIterator[ReceiverServer]:
    """A receiver of that kind."""
    async with SERVERS[kind]().running() as running:
        yield running


@pytest.fixture
def sender(books: Books, kind: str, server: ReceiverServer, tmp_path: Path) -> Sender:
    """What tells it of the ledger."""
    return sender_of(books, kind, server, tmp_path)


def sender_of(books: Books, kind: str, server: ReceiverServer, directory: Path, *lines: str) -> Sender:
    """Return a sender, as a process that has just started has it."""
    made = exporter_of(books, directory, table_of(kind, address_of(kind, server), *lines))
    assert isinstance(made, Sender)
    return made


async def round_of(sender: Sender) -> Round:
    """Send now."""
    done = await sender.round(is_forced=True)
    assert done is not None
    return done


def counted(server: ReceiverServer, kind: str) -> Sequence[int]:
    """Return what a receiver counted; Stripe takes events at the same time, so their order says nothing."""
    return sorted(server.values()) if kind == "stripe" else server.values()


def wanted(kind: str, quantities: Sequence[int] = QUANTITIES) -> Sequence[int]:
    """Return what it should have counted."""
    return sorted(quantities) if kind == "stripe" else list(quantities)


async def test_everything_is_told_once_and_in_order(
    books: Books, kind: str, server: ReceiverServer, sender: Sender
) -> None:
    """What was given back is told too, below 0; when all is told, a round sends nothing."""
    done = await round_of(sender)
    assert (done.sent, done.problem, done.oldest_at) == (len(QUANTITIES), "", None)
    assert counted(server, kind) == wanted(kind)
    calls = len(server.calls)
    assert (await round_of(sender)).sent == 0
    assert (len(server.calls), server.repeats) == (calls, 0)
    assert (await books.cursor(kind)).last_id == len(QUANTITIES)


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
async def test_a_receiver_that_fails_has_everything_once_in_the_end(
    books: Books, kind: str, server: ReceiverServer, tmp_path: Path, fault: Fault
) -> None:
    """Above all one that dies after it has taken: the same keys come again, and nothing counts twice."""
    server.faults.append(fault)
    waits = ["deadline_s = 0.3"] if fault is Fault.SILENT else []
    first = await round_of(sender_of(books, kind, server, tmp_path, *waits))
    sender = sender_of(books, kind, server, tmp_path)
    if fault is not Fault.ANSWERS_TWICE:
        assert first.problem
        assert kind == "cloudevents" or BEARER not in first.problem
        assert (await books.cursor(kind)).last_error == first.problem
        assert first.oldest_at is not None
    second = await round_of(sender)
    assert second.problem == ""
    assert counted(server, kind) == wanted(kind)
    assert (await books.cursor(kind)).last_error == ""
    assert await books.asides(kind) == []


async def test_a_sender_that_is_cut_off_after_the_answer_sends_it_again(
    books: Books, kind: str, server: ReceiverServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between the receiver's answer and its own note of it; the next one sends under the same keys."""
    died = asyncio.Event()

    async def never(*_: object) -> bool:
        died.set()
        return await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr("tallygate.billing.exports.postgres.ExportRows.move_on", _after_the_start(never))
        task = asyncio.create_task(round_of(sender_of(books, kind, server, tmp_path)))
        await died.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(server.taken) == len(QUANTITIES)
    done = await round_of(sender_of(books, kind, server, tmp_path))
    assert done.problem == ""
    assert server.repeats > 0
    assert counted(server, kind) == wanted(kind)


def _after_the_start(never: object) -> object:
    """Return `move_on` as it is for the cursor's beginning, and `never` afterwards."""
    real = ExportRows.move_on

    async def move_on(self: ExportRows, cursor: object, *values: object) -> object:
        if cursor.last_id is None:  # type: ignore[attr-defined]
            return await real(self, cursor, *values)  # type: ignore[arg-type]
        return await never()  # type: ignore[operator]

    return move_on


class Died(BaseException):
    """The process is gone: no handler of errors sees it."""


async def test_whatever_dies_nothing_is_missing_and_nothing_counts_twice(
    books: Books, kind: str, server: ReceiverServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty rounds in which the receiver misbehaves, the process dies before or after any step, and usage goes on."""
    chance = random.Random(kind)  # noqa: S311 - an example
    used = list(QUANTITIES)
    for name in ("move_on", "note_tried", "after", "cursor"):
        monkeypatch.setattr(ExportRows, name, _deadly(getattr(ExportRows, name), chance))
    faults = [fault for fault in Fault if fault is not Fault.SILENT]
    for number in range(40):
        server.faults.extend(chance.choices([*faults, None], k=chance.randrange(3)))
        more = [chance.randrange(-5, 100) or 1 for _ in range(chance.randrange(4))]
        await books.use(more, at=NOW + (number + 1) * DAY)
        used += more
        with suppress(Died):
            await round_of(sender_of(books, kind, server, tmp_path))
    monkeypatch.undo()
    server.faults.clear()
    assert (await round_of(sender_of(books, kind, server, tmp_path))).problem == ""
    assert sorted(server.values()) == sorted(used)
    assert server.repeats > 0
    if kind != "stripe":
        assert server.values() == used


def _deadly(real: Callable[..., Awaitable[object]], chance: random.Random) -> Callable[..., Awaitable[object]]:
    """Return a step that now and then is the last, before or after it is done."""

    async def step(*values: object) -> object:
        if chance.random() < 0.05:
            raise Died
        done = await real(*values)
        if chance.random() < 0.05:
            raise Died
        return done

    return step


async def test_what_a_receiver_refuses_is_put_aside_and_sent_when_asked_for(
    books: Books, kind: str, server: ReceiverServer, sender: Sender
) -> None:
    """One bad entry keeps back no other; once its cause is mended it is sent again, under the same key."""
    server.refuses = lambda taken: taken.value == 11
    done = await round_of(sender)
    assert (done.sent, done.aside, done.problem) == (len(QUANTITIES) - 1, 1, "")
    ((aside),) = await books.asides(kind)
    assert (aside.entry_id, aside.is_uncertain, aside.is_due) == (4, False, False)
    assert aside.reason.startswith("4")
    assert (await round_of(sender)).asides == 1
    server.refuses = lambda _: False
    assert await books.control.acting("test").exports.send_aside_again(kind, is_forced=False) == 1
    assert (await round_of(sender)).sent == 1
    assert sorted(server.values()) == sorted(QUANTITIES)
    assert await books.asides(kind) == []


async def test_a_failing_receiver_is_left_alone_for_a_while(
    books: Books, server: ReceiverServer, sender: Sender
) -> None:
    """For as long as it asks, here 70 s, and the pause of a failure at least; then all is told."""
    server.faults.append(Fault.THROTTLES)
    assert (await round_of(sender)).problem.startswith("429")
    calls = len(server.calls)
    books.clock.advance(69)
    assert await sender.round() is None
    assert len(server.calls) == calls
    books.clock.advance(2)
    done = await sender.round()
    assert done is not None
    assert (done.sent + done.repeated, len(server.taken)) == (len(QUANTITIES), len(QUANTITIES))


@pytest.mark.parametrize("kind", ["lago"])
async def test_two_processes_do_not_send_at_once(
    books: Books, kind: str, server: ReceiverServer, sender: Sender, tmp_path: Path
) -> None:
    """The second is told that it is another's turn, and takes it when that one is gone."""
    async with sender._exports.turn(kind):
        assert (await round_of(sender_of(books, kind, server, tmp_path))).is_others_turn
    assert (await round_of(sender)).sent == len(QUANTITIES)


@pytest.mark.parametrize("kind", ["lago"])
async def test_a_paused_export_sends_nothing_and_goes_on_where_it_was(
    books: Books, kind: str, server: ReceiverServer, sender: Sender
) -> None:
    """What is counted meanwhile waits in the ledger."""
    exports = books.control.acting("test").exports
    await round_of(sender)
    await exports.hold(kind, is_paused=True)
    await books.use([100], at=NOW + DAY)
    done = await round_of(sender)
    assert (done.is_paused, done.sent) == (True, 0)
    assert done.oldest_at == NOW + DAY
    await exports.hold(kind, is_paused=False)
    assert (await round_of(sender)).sent == 1
    assert server.values()[-1] == 100


async def test_a_replay_sends_everything_under_the_same_keys(
    books: Books, kind: str, server: ReceiverServer, sender: Sender
) -> None:
    """The receiver knows every event again: its sums stay as they were."""
    await round_of(sender)
    before = list(server.taken.values())
    await books.control.acting("test").exports.rewind(kind, from_id=3)
    done = await round_of(sender)
    assert done.sent + done.repeated == len(QUANTITIES) - 2
    assert server.repeats >= len(QUANTITIES) - 2
    assert list(server.taken.values()) == before


async def test_only_what_is_asked_for_is_told(books: Books, kind: str, server: ReceiverServer, tmp_path: Path) -> None:
    """Meters by the receiver's names, overage only, of live subscriptions, from an instant on."""
    late = NOW + DAY
    await books.use([21], at=late, outcome="overage")
    await books.use([22], at=late, outcome="overage", meter="bytes")
    await books.use([23], at=late, outcome="overage", meter="tokens")
    await books.use([24], at=late, outcome="overage", subscription=books.test_subscription, meter="byte")
    await books.use([25], at=NOW + timedelta(hours=1), outcome="overage")
    await books.use([26], at=late, meter="requests")
    terms = (
        'outcomes = "overage"', "from = 2026-06-16T00:00:00Z",
        'meters = {requests = "api_requests", bytes = "transfer", byte = "x"}',
    )  # fmt: skip
    done = await round_of(sender_of(books, kind, server, tmp_path, *terms))
    assert {(taken.name, taken.value) for taken in server.taken.values()} == {("api_requests", 21), ("transfer", 22)}
    assert (done.sent, done.skipped) == (2, 4)


@pytest.mark.parametrize("kind", ["stripe"])
async def test_whose_name_is_not_known_is_put_aside_until_it_is(
    books: Books, server: ReceiverServer, sender: Sender
) -> None:
    """The reason says which command mends it."""
    operations = books.control.acting("test")
    await operations.references.remove("acme", "stripe")
    done = await round_of(sender)
    assert (done.sent, done.aside) == (0, len(QUANTITIES))
    assert "tallygate customers refer acme stripe" in (await books.asides("stripe"))[0].reason
    await operations.references.put("acme", "stripe", "cus_1")
    await operations.exports.send_aside_again("stripe", is_forced=False)
    assert (await round_of(sender)).sent == len(QUANTITIES)
    assert {taken.subject for taken in server.taken.values()} == {"cus_1"}


@pytest.mark.parametrize("kind", ["stripe"])
async def test_what_got_no_answer_is_not_sent_once_the_receiver_may_have_forgotten_it(
    books: Books, server: ReceiverServer, sender: Sender
) -> None:
    """A day later nobody can say whether it would count twice: a person looks, the rest goes on."""
    server.faults.append(Fault.FAILS_AFTER)
    assert (await round_of(sender)).problem
    taken = list(server.taken)
    books.clock.advance(DAY.total_seconds())
    await books.use([100], at=NOW + DAY)
    done = await round_of(sender)
    assert (done.sent, done.aside) == (1, len(QUANTITIES))
    assert [aside.is_uncertain for aside in await books.asides("stripe")] == [True] * len(QUANTITIES)
    assert list(server.taken)[:-1] == taken
    exports = books.control.acting("test").exports
    assert await exports.send_aside_again("stripe", is_forced=False) == 0
    assert await exports.send_aside_again("stripe", is_forced=True) == len(QUANTITIES)
    await round_of(sender)
    assert sorted(server.values()) == sorted([*QUANTITIES, 100])


@pytest.mark.parametrize("kind", ["stripe"])
@pytest.mark.parametrize("fault", [Fault.LOCKS_OUT, Fault.THROTTLES], ids=lambda fault: fault.name.lower())
async def test_what_was_never_heard_is_sent_however_late(
    books: Books, server: ReceiverServer, sender: Sender, fault: Fault
) -> None:
    """A key that was wrong for two days costs nothing but the delay."""
    server.faults.extend([fault] * 100)
    await round_of(sender)
    books.clock.advance(2 * DAY.total_seconds())
    server.faults.clear()
    assert (await round_of(sender)).sent == len(QUANTITIES)
    assert await books.asides("stripe") == []


@pytest.mark.parametrize("kind", ["stripe"])
async def test_an_old_replay_has_to_be_forced(books: Books, sender: Sender) -> None:
    """Stripe would count again what it forgot."""
    await round_of(sender)
    books.clock.advance(2 * DAY.total_seconds())
    exports = books.control.acting("test").exports
    with pytest.raises(Exception, match="count twice"):
        await exports.rewind("stripe", from_at=NOW, forgets_after=DAY)
    assert (await exports.rewind("stripe", from_at=NOW, forgets_after=DAY, is_forced=True)).last_id == 0


@pytest.mark.parametrize("kind", ["lago"])
async def test_an_export_that_only_puts_aside_stops(books: Books, server: ReceiverServer, sender: Sender) -> None:
    """Where everything is refused, the cause is not in the entries."""
    server.refuses = lambda _: True
    sender._most_aside = 7
    await books.use([100], at=NOW + DAY)
    await round_of(sender)
    await books.use([101], at=NOW + 2 * DAY)
    calls = len(server.calls)
    assert "put aside" in (await round_of(sender)).problem
    assert len(server.calls) == calls


@pytest.mark.parametrize("kind", ["lago"])
async def test_thousands_are_told_in_batches_the_receiver_takes(
    books: Books, server: ReceiverServer, sender: Sender
) -> None:
    """More than one page of the ledger, in the order of its numbers."""
    many = list(range(1, 2200))
    await books.pool.execute(
        "INSERT INTO usage_entries (recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route,"
        " outcome, entry, minute_at, quantity) SELECT $1, n, $2, $3, 'fam_1', 'pro@1', 'requests', '', 'allowed',"
        " 'counted', $1, n FROM generate_series(1, $4::int) AS n",
        NOW, books.customer, books.subscription, many[-1],
    )  # fmt: skip
    assert (await round_of(sender)).sent == len(many) + len(QUANTITIES)
    assert server.values() == [*QUANTITIES, *many]
