"""Admin keys, reports of leaked tokens, and requests that come twice."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256

import pytest
from support.offers import offers
from support.office import FORMAT, NOW, PEPPERS, Office, office
from support.servers import Database

from tallygate.admin.answers import Answers, StoredAnswer
from tallygate.admin.desk import Desk
from tallygate.admin.leaks import LeakItem, LeakPolicy
from tallygate.admin.operations import Operations
from tallygate.admin.records import IssuedToken, Role, as_json, key_as_json
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.tokens.digest import Pepper, Peppers
from tallygate.tokens.format import Environment
from tallygate.tokens.mint import mint

HOUR = timedelta(hours=1)
ASKED = sha256(b"POST /v1/tokens {}").digest()


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with the offers published, and customer `acme` on `pro`."""
    async with office(database) as opened:
        await opened.plans.apply(offers())
        await opened.customers.create("acme", None)
        await opened.subscriptions.create("acme", "pro")
        yield opened


async def test_an_admin_key_is_shown_once_and_recognised(desk: Office) -> None:
    """Its secret is nowhere but in the answer; a mistyped one is told without asking the database."""
    made = await desk.operations.keys.create(" ci ", Role.ISSUER, reason="pipeline")
    assert re.fullmatch(r"tga_[0-9A-Za-z]{36}", made.secret)
    assert (made.record.name, made.record.role, made.record.last_used_at) == ("ci", Role.ISSUER, None)
    everything = str(await desk.contents())
    assert made.secret[4:] not in everything + repr(made) + str(as_json(made.record))
    assert key_as_json(made)["key"] == made.secret
    found = await desk.operations.keys.authenticate(made.secret)
    assert found is not None
    assert found.id == made.record.id
    for wrong in (made.secret[:-1] + ("0" if made.secret[-1] != "0" else "1"), "tga_", "", "tga_" + "é" * 36):
        assert await desk.operations.keys.authenticate(wrong) is None
    assert await desk.operations.keys.authenticate("tga_" + "0" * 30 + "000000") is None
    entry = (await desk.audit())[-1]
    assert (entry.action, entry.object, entry.after) == ("admin_key.create", made.record.id, as_json(made.record))


async def test_a_revoked_admin_key_is_refused(desk: Office) -> None:
    """From that moment; it stays on the list, and revoking again changes nothing."""
    made = await desk.operations.keys.create("ci", Role.ADMIN)
    gone = await desk.operations.keys.revoke(made.record.id, "left the company")
    assert gone.revoked_at == NOW
    assert await desk.operations.keys.authenticate(made.secret) is None
    standing = await desk.contents()
    assert await desk.operations.keys.revoke(made.record.id) == gone
    assert await desk.contents() == standing
    assert await desk.operations.keys.list() == [gone]
    with pytest.raises(NotFoundError):
        await desk.operations.keys.revoke("key_nothing")
    with pytest.raises(InputError, match="name"):
        await desk.operations.keys.create("", Role.VIEWER)


async def test_the_use_of_an_admin_key_is_noted_hourly(desk: Office) -> None:
    """A busy key does not write with every request."""
    made = await desk.operations.keys.create("ci", Role.VIEWER)
    for minutes, seen in ((0, 0), (59, 0), (60, 60), (90, 60)):
        desk.clock.set(NOW + timedelta(minutes=minutes))
        await desk.operations.keys.authenticate(made.secret)
        assert (await desk.operations.keys.show(made.record.id)).last_used_at == NOW + timedelta(minutes=seen)


def test_a_role_may_what_the_ones_below_may() -> None:
    """Viewer, issuer, admin, in this order."""
    assert [[have.may(needed) for needed in Role] for have in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def found(secret: str, url: str = "https://example.com/repo") -> LeakItem:
    """Return a report of a secret."""
    return LeakItem(secret, "tallygate_token", url, "content")


async def test_a_leaked_token_is_revoked_and_the_report_kept_without_it(desk: Office) -> None:
    """Each item is answered in order; what is none of ours is a false positive; no secret is stored anywhere."""
    made = await desk.tokens.issue(customer="acme")
    invented = mint(FORMAT, Environment.LIVE).text
    answers = await desk.operations.leaks.report(
        [found(invented), found(made.secret, f"https://x/?key={made.secret}"), found("rubbish\0"), found(made.secret)]
    )
    assert [(each.label, each.action, each.token) for each in answers] == [
        ("false_positive", "none", None),
        ("true_positive", "revoked", made.record.id),
        ("false_positive", "none", None),
        ("true_positive", "revoked", made.record.id),
    ]
    license_ = await desk.license_of(made.secret)
    assert license_ is not None
    assert license_.revoked_at == NOW
    after = await desk.tokens.show(made.record.id)
    assert (after.status, after.leaked_at) == ("revoked", NOW)
    contents = await desk.contents()
    assert len(contents["leak_reports"]) == 4
    for secret in (made.secret, invented):
        assert secret[8:38] not in str(contents)
    (again,) = await desk.operations.leaks.report([found(made.secret)])
    assert (again.label, again.action) == ("true_positive", "none")
    entries = [entry for entry in await desk.audit() if entry.action == "token.leaked"]
    assert [(entry.object, entry.reason) for entry in entries] == [(made.record.id, "found in public")]


async def test_a_token_that_leaks_after_its_end_is_marked_on_record(desk: Office) -> None:
    """Nothing is left to revoke; that it is flagged is an act all the same, with an entry of its own, once."""
    made = await desk.tokens.issue(customer="acme")
    await desk.tokens.revoke(made.record.id)
    for _ in range(2):
        (answer,) = await desk.operations.leaks.report([found(made.secret)])
        assert (answer.label, answer.action) == ("true_positive", "none")
    (entry,) = [entry for entry in await desk.audit() if entry.action == "token.leaked"]
    assert (entry.object, entry.before["leaked_at"]) == (made.record.id, None)
    assert entry.after == entry.before | {"leaked_at": entry.after["leaked_at"]}
    assert entry.after["leaked_at"] is not None


async def test_a_leaked_token_may_be_given_time_to_be_rotated(desk: Office) -> None:
    """It is flagged at once and ends after the grace, though nobody does anything."""
    made = await desk.tokens.issue(customer="acme")
    (answer,) = await desk.operations.leaks.report([found(made.secret)], policy=LeakPolicy.ROTATE, grace=2 * HOUR)
    assert (answer.action, answer.label) == ("rotated", "true_positive")
    after = await desk.tokens.show(made.record.id)
    assert (after.status, after.revoked_at, after.leaked_at) == ("active", NOW + 2 * HOUR, NOW)
    (again,) = await desk.operations.leaks.report([found(made.secret)], policy=LeakPolicy.ROTATE, grace=3 * HOUR)
    assert again.action == "none"
    (now,) = await desk.operations.leaks.report([found(made.secret)])
    assert now.action == "revoked"
    with pytest.raises(InputError, match="items"):
        await desk.operations.leaks.report([found("x")] * 1001)


async def test_a_leaked_token_in_its_grace_is_rotated_within_its_family(desk: Office) -> None:
    """The owner gets a new token of the same family: what is counted per token goes on, and the leak still ends."""
    made = await desk.tokens.issue(customer="acme")
    await desk.operations.leaks.report([found(made.secret)], policy=LeakPolicy.ROTATE, grace=2 * HOUR)
    fresh = await desk.tokens.rotate(made.record.id, 24 * HOUR)
    assert (fresh.record.family, fresh.record.revoked_at, fresh.record.leaked_at) == (made.record.family, None, None)
    assert (await desk.tokens.show(made.record.id)).revoked_at == NOW + 2 * HOUR


async def test_the_pattern_finds_tokens_and_nothing_longer(desk: Office) -> None:
    """What partners search for matches a token in a text, and not a piece of something else."""
    made = await desk.tokens.issue(customer="acme")
    pattern = re.compile(desk.operations.leaks.pattern())
    match = pattern.search(f'key = "{made.secret}"')
    assert match is not None
    assert match[0] == made.secret
    assert pattern.search(made.secret + "x") is None
    assert pattern.search("x" + made.secret) is None


async def issue_once(operations: Operations, key: str, asked: bytes = ASKED) -> tuple[bytes, IssuedToken | None]:
    """Issue a token as the API would: once under `key`; return the answer's body, and the token if it was made now."""
    async with operations.answers.once(key, asked) as once:
        if once.stored is not None:
            assert (once.stored.status, once.stored.headers) == (201, {"location": "/x"})
            return once.stored.body, None
        made = await operations.tokens.issue(customer="acme")
        body = f'{{"id": "{made.record.id}", "token": "{made.secret}"}}'.encode()
        await once.finish(201, {"location": "/x"}, body, secret=made.secret)
        return body, made


async def test_the_same_request_gets_the_same_answer(desk: Office) -> None:
    """Byte for byte, secret included, though the secret is stored nowhere; and the token works."""
    body, made = await issue_once(desk.operations, "one")
    assert made is not None
    standing = await desk.contents()
    assert made.secret[8:] not in str(standing)
    assert made.secret[8:38].encode().hex() not in str(standing)
    for _ in range(2):
        assert await issue_once(desk.operations, "one") == (body, None)
    assert await desk.contents() == standing
    assert (await desk.tokens.show(made.secret)).id == made.record.id
    other, _ = await issue_once(desk.operations, "two")
    assert other != body
    another, _ = await issue_once(desk.control.acting("key:somebody"), "one")
    assert another not in (body, other)


async def test_another_request_under_the_same_key_is_refused(desk: Office) -> None:
    """Nothing of it is done."""
    await issue_once(desk.operations, "one")
    standing = await desk.contents()
    with pytest.raises(InputError) as wrong:
        await issue_once(desk.operations, "one", sha256(b"other").digest())
    assert wrong.value.field == "Idempotency-Key"
    assert not isinstance(wrong.value, ConflictError)
    for key in ("", "x" * 256, "two words", "ü", "tab\t"):
        with pytest.raises(InputError, match="Idempotency-Key"):
            await issue_once(desk.operations, key)
    assert await desk.contents() == standing


async def test_of_many_at_once_one_acts_and_all_get_its_answer(desk: Office) -> None:
    """A client that does not wait makes one token, not eight."""
    clients = [desk.control.acting("key:one") for _ in range(8)]
    answers = await asyncio.gather(*(issue_once(client, "one") for client in clients))
    assert len({body for body, _ in answers}) == 1
    assert len([made for _, made in answers if made is not None]) == 1
    assert len(await desk.tokens.list()) == 1


async def test_a_crash_in_between_leaves_the_key_free(desk: Office) -> None:
    """Neither the change nor the answer is there, and the next one may try again."""
    standing = await desk.contents()

    async def crash(failure: BaseException) -> None:
        async with desk.operations.answers.once("one", ASKED):
            await desk.tokens.issue(customer="acme")
            raise failure

    for failure in (RuntimeError("crash"), asyncio.CancelledError()):
        with pytest.raises(type(failure)):
            await crash(failure)
        assert await desk.contents() == standing
    assert (await issue_once(desk.operations, "one"))[1] is not None


async def test_a_refusal_is_an_answer_too(desk: Office) -> None:
    """What was refused inside is undone, and the refusal stays the answer, even once it would be granted."""

    async def create(operations: Operations) -> StoredAnswer | None:
        async with operations.answers.once("one", ASKED) as once:
            if once.stored is None:
                try:
                    await operations.subscriptions.create("acme", "pro")
                except ConflictError:
                    await once.finish(409, {}, b"conflict")
            return once.stored

    assert await create(desk.operations) is None
    await desk.subscriptions.cancel((await desk.subscriptions.list("acme"))[0].id)
    assert await create(desk.operations) == StoredAnswer(409, {}, b"conflict")
    assert len(await desk.subscriptions.list("acme")) == 1
    assert "subscription.create" not in [entry.action for entry in (await desk.audit())[-1:]]


async def test_several_acts_within_one_answer_are_one_transaction(desk: Office) -> None:
    """The second sees what the first has done; if it fails for good, neither remains."""
    standing = await desk.contents()

    async def act() -> None:
        async with desk.operations.answers.once("one", ASKED):
            made = await desk.customers.create("fresh", None)
            subscription = await desk.subscriptions.create(made.id, "pro")
            await desk.contracts.override(subscription.id, {"features": {"seats": 7}})
            await desk.subscriptions.create("nobody", "pro")

    with pytest.raises(NotFoundError):
        await act()
    assert await desk.contents() == standing


async def test_an_answer_is_kept_for_a_day(desk: Office) -> None:
    """After it the same key makes another token, and expired answers are forgotten in passing."""
    body, _ = await issue_once(desk.operations, "one")
    await issue_once(desk.operations, "two")
    desk.clock.advance(24 * 3600)
    again, made = await issue_once(desk.operations, "one")
    assert made is not None
    assert again != body
    assert len((await desk.contents())["idempotency_keys"]) == 1


async def test_an_answer_outlives_a_change_of_the_pepper(desk: Office) -> None:
    """While the previous pepper is in use the secret can be given again; after it, it cannot, and is not made up."""
    body, _ = await issue_once(desk.operations, "one")
    operations_desk = desk.operations.answers._desk
    assert isinstance(operations_desk, Desk)
    fresh = Pepper("another pepper of tests, long enough too")
    kept = Answers(operations_desk, Peppers(fresh, PEPPERS.current))
    async with kept.once("one", ASKED) as once:
        assert once.stored is not None
        assert once.stored.body == body
    lost = Answers(operations_desk, Peppers(fresh))
    with pytest.raises(InputError, match="pepper"):
        async with lost.once("one", ASKED):
            raise AssertionError
