"""Tokens paused, changed, looked for, and revoked by the thousand."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from support.offers import offers
from support.office import NOW, Office, office
from support.servers import Database

from tallygate.admin.records import IssuedToken, Revocation, Subscription, as_json
from tallygate.admin.revocations import TokenFilter
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.tokens.format import Environment

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with the offers published, and customer `acme` on `pro`."""
    async with office(database) as opened:
        await opened.plans.apply(offers())
        await opened.customers.create("acme", None)
        await opened.subscriptions.create("acme", "pro")
        yield opened


async def issue(desk: Office, name: str = "") -> IssuedToken:
    """Issue a token to `acme`, a second later than the one before."""
    desk.clock.advance(1)
    return await desk.tokens.issue(customer="acme", environment=Environment.LIVE, name=name)


async def crowd(database: Database, family: str, number: int) -> None:
    """Put so many tokens into a family, by plain SQL."""
    owner = await asyncpg.connect(database.dsn)
    try:
        await owner.execute(
            """INSERT INTO tokens (id, family_id, digest, pepper_id, hint, created_at)
               SELECT 'tok_' || lpad(n::text, 26, '0'), $1, sha256(n::text::bytea), 'pepper', '0000', now()
               FROM generate_series(1, $2) n""",
            family,
            number,
        )
    finally:
        await owner.close()


async def test_a_disabled_token_is_refused_until_it_is_enabled(desk: Office) -> None:
    """The data plane reads it; twice is once; a disabled token is not rotated, which would get around it."""
    made = await issue(desk)
    disabled = await desk.tokens.disable(made.record.id, "looks odd")
    license_ = await desk.license_of(made.secret)
    assert license_ is not None
    assert (disabled.status, disabled.disabled_at, license_.disabled_at) == (
        "disabled",
        desk.clock.now(),
        desk.clock.now(),
    )
    standing = await desk.contents()
    assert await desk.tokens.disable(made.record.id) == disabled
    with pytest.raises(ConflictError, match="is disabled"):
        await desk.tokens.rotate(made.record.id)
    assert await desk.contents() == standing
    enabled = await desk.tokens.enable(made.record.id)
    assert (enabled.status, enabled.disabled_at, enabled.revision) == ("active", None, 3)
    license_ = await desk.license_of(made.secret)
    assert license_ is not None
    assert license_.disabled_at is None
    actions = [(entry.action, entry.reason) for entry in (await desk.audit())[-2:]]
    assert actions == [("token.disable", "looks odd"), ("token.enable", "")]


async def test_a_token_is_changed_where_it_is_told(desk: Office) -> None:
    """What is not named stays; None means all of the plan's scopes, and no expiry."""
    made = await issue(desk)
    narrow = await desk.tokens.update(made.record.id, scopes=("things.read",), networks=("192.0.2.0/24",))
    assert (narrow.scopes, narrow.networks, narrow.expires_at) == (("things.read",), ("192.0.2.0/24",), None)
    timed = await desk.tokens.update(made.record.id, expires_at=desk.clock.now() + DAY, reason="contractor")
    assert (timed.scopes, timed.expires_at, timed.revision) == (narrow.scopes, desk.clock.now() + DAY, 3)
    license_ = await desk.license_of(made.secret)
    assert license_ is not None
    assert (license_.scopes, license_.expires_at) == (frozenset({"things.read"}), timed.expires_at)
    wide = await desk.tokens.update(made.record.id, scopes=None, networks=(), expires_at=None)
    assert (wide.scopes, wide.networks, wide.expires_at) == (None, (), None)
    standing = await desk.contents()
    assert await desk.tokens.update(made.record.id, scopes=None) == wide
    for field, change in (
        ("scopes", desk.tokens.update(made.record.id, scopes=("things.delete",))),
        ("networks", desk.tokens.update(made.record.id, networks=("home",))),
        ("expires", desk.tokens.update(made.record.id, expires_at=NOW)),
        ("revision", desk.tokens.update(made.record.id, scopes=(), revision=1)),
        ("revision", desk.tokens.revoke(made.record.id, revision=1)),
        ("revision", desk.tokens.rotate(made.record.id, revision=1)),
    ):
        with pytest.raises(InputError) as wrong:
            await change
        assert wrong.value.field == field
    assert await desk.contents() == standing


async def test_what_is_revoked_stays_as_it_is(desk: Office) -> None:
    """Nothing brings a revoked token back."""
    made = await issue(desk)
    await desk.tokens.revoke(made.record.id)
    standing = await desk.contents()
    for change in (
        desk.tokens.enable(made.record.id),
        desk.tokens.disable(made.record.id),
        desk.tokens.update(made.record.id, expires_at=None),
    ):
        with pytest.raises(ConflictError, match="is revoked"):
            await change
    assert await desk.contents() == standing


async def test_scopes_an_override_grants_can_be_issued(desk: Office) -> None:
    """What a token may have follows the contract as compiled, not the plan alone; a scope taken away is refused."""
    subscription = (await desk.subscriptions.list("acme"))[0]
    await desk.contracts.override(subscription.id, {"scopes": {"add": ["sla"], "remove": ["things.write"]}})
    assert (await desk.tokens.issue(customer="acme", scopes=("sla",))).record.scopes == ("sla",)
    with pytest.raises(InputError, match=r"things\.write"):
        await desk.tokens.issue(customer="acme", scopes=("things.write",))


async def test_tokens_are_found_by_their_hint_and_name(desk: Office) -> None:
    """Four characters of a log line are enough to find whose token it was."""
    made = [await issue(desk, name) for name in ("ci", "ci", "web")]
    assert await desk.tokens.list(hint=made[1].secret[-4:]) == [made[1].record]
    assert await desk.tokens.list(name="ci") == [made[0].record, made[1].record]
    assert await desk.tokens.list(name="ci", after=made[0].record.id) == [made[1].record]
    assert await desk.tokens.list(name="") == []
    with pytest.raises(InputError, match="one at a time"):
        await desk.tokens.list(name="ci", hint="abcd")


async def test_the_last_use_moves_forward_once_an_hour(desk: Office, database: Database) -> None:
    """The data plane's function notes it, ignores what is no token, and writes at most hourly."""
    first, second = [(await issue(desk)).record for _ in range(2)]
    data_plane = await asyncpg.connect(database.data_plane_dsn)
    try:
        for at, seen in ((NOW, NOW), (NOW - HOUR, NOW), (NOW + HOUR / 2, NOW), (NOW + HOUR, NOW + HOUR)):
            await data_plane.execute("SELECT note_tokens_used_v1($1, $2)", [first.id, "tok_nothing", first.id], at)
            assert (await desk.tokens.show(first.id)).last_used_at == seen
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await data_plane.execute("SELECT * FROM token_last_used")
    finally:
        await data_plane.close()
    assert (await desk.tokens.show(second.id)).last_used_at is None
    assert await desk.tokens.show(second.id) == second


async def test_a_customers_tokens_are_revoked_by_one_notice(desk: Office) -> None:
    """Each has its audit entry; one change of the customer tells every cache; others stay."""
    mine = [(await issue(desk)).record.id for _ in range(3)]
    await desk.tokens.revoke(mine[0])
    await desk.customers.create("other", None)
    other = await desk.subscriptions.create("other", "pro")
    theirs = (await desk.tokens.issue(subscription=other.id)).record
    earlier, customer = len(await desk.changes()), (await desk.customers.show("acme")).id
    told = await desk.operations.revocations.revoke(TokenFilter(customer="acme"), is_dry_run=True)
    assert (told.matched, told.revoked, told.is_dry_run, told.next_cursor) == (3, 2, True, None)
    assert len(await desk.changes()) == earlier
    done = await desk.operations.revocations.revoke(TokenFilter(customer="acme"), reason="they left")
    assert (done.matched, done.revoked, done.is_dry_run) == (3, 2, False)
    assert (await desk.changes())[earlier:] == [customer]
    assert {token.status for token in await desk.tokens.list(customer="acme")} == {"revoked"}
    assert await desk.tokens.show(theirs.id) == theirs
    entries = (await desk.audit())[-2:]
    assert {entry.object for entry in entries} == set(mine[1:])
    assert {(entry.action, entry.reason) for entry in entries} == {("token.revoke", "they left")}
    again = await desk.operations.revocations.revoke(TokenFilter(customer="acme"))
    assert (again.matched, again.revoked) == (3, 0)


async def test_a_filter_finds_what_it_describes(desk: Office) -> None:
    """By name, by age, by last use, alone and together; a token that was just rotated with grace ends too."""
    old, ci, new = await issue(desk, "old"), await issue(desk, "ci"), await issue(desk, "ci")
    rotated = await desk.tokens.rotate(old.record.id, grace=DAY)
    since = desk.clock.now()
    count = desk.operations.revocations.revoke
    subscription = old.record.subscription
    expected: list[tuple[TokenFilter, int]] = [
        (TokenFilter(name="ci"), 2),
        (TokenFilter(customer="acme", name="ci"), 2),
        (TokenFilter(created_before=ci.record.created_at), 1),
        (TokenFilter(name="ci", created_before=new.record.created_at), 1),
        (TokenFilter(not_used_since=since + DAY), 4),
        (TokenFilter(not_used_since=since), 2),
        (TokenFilter(subscription=subscription), 4),
        (TokenFilter(family=old.record.family), 2),
        (TokenFilter(customer="acme", subscription=subscription, family=old.record.family, name="old"), 2),
        (TokenFilter(family=old.record.family, name="ci"), 0),
    ]
    for chosen, matched in expected:
        assert (await count(chosen, is_dry_run=True)).matched == matched, chosen
    assert (await count(TokenFilter(name="old"))).revoked == 2
    assert {(await desk.tokens.show(made.record.id)).revoked_at for made in (old, rotated)} == {desk.clock.now()}


async def test_a_filter_of_everything_or_nobody_is_refused(desk: Office) -> None:
    """Nobody revokes all tokens there are by leaving an option out, nor another customer's by a mistyped id."""
    made = (await issue(desk)).record
    other = await desk.customers.create("other", None)
    revoke = desk.operations.revocations.revoke
    with pytest.raises(InputError, match="every token there is"):
        await revoke(TokenFilter())
    for chosen in (
        TokenFilter(customer="nobody"),
        TokenFilter(subscription="sub_nothing"),
        TokenFilter(family="fam_nothing"),
        TokenFilter(customer=other.id, subscription=made.subscription),
        TokenFilter(customer=other.id, family=made.family),
    ):
        with pytest.raises(NotFoundError):
            await revoke(chosen)
    assert (await desk.tokens.show(made.id)).status == "active"


async def test_a_family_of_thousands_is_revoked_in_steps(desk: Office, database: Database) -> None:
    """No deadline is in the way: each step says where to go on, and running again finishes what is left."""
    made = (await issue(desk)).record
    await crowd(database, made.family, 2600)
    with pytest.raises(ConflictError, match="more than 1000"):
        await desk.tokens.revoke(made.family)
    chosen, cursor = TokenFilter(family=made.family), ""
    steps: list[Revocation] = []
    while not steps or steps[-1].next_cursor is not None:
        steps.append(await desk.operations.revocations.revoke(chosen, limit=1200, after=cursor))
        cursor = steps[-1].next_cursor or ""
    assert [step.revoked for step in steps] == [1200, 1200, 201]
    assert {token.status for token in await desk.tokens.list(family=made.family)} == {"revoked"}
    report = await desk.operations.audit.verify()
    assert (report.is_intact, report.entries >= 2601) == (True, True)


async def test_many_who_revoke_at_once_neither_block_nor_repeat(desk: Office) -> None:
    """Customer, family, single tokens, all at the same time: every token is revoked by exactly one of them."""
    made = [(await issue(desk)).record for _ in range(12)]
    revoke = desk.operations.revocations.revoke
    await asyncio.gather(
        revoke(TokenFilter(customer="acme")),
        revoke(TokenFilter(subscription=made[0].subscription)),
        *(desk.tokens.revoke(token.id) for token in made),
        *(desk.tokens.revoke(token.family) for token in reversed(made)),
        desk.customers.set_status("acme", "past_due"),
    )
    entries = [entry.object for entry in await desk.audit() if entry.action == "token.revoke"]
    assert sorted(entries) == sorted(token.id for token in made)


async def test_issuing_under_a_contract_that_changes_is_no_deadlock(desk: Office) -> None:
    """Everything the control plane does at once on one contract comes to an end, each step whole."""
    subscription = (await desk.subscriptions.list("acme"))[0]
    results = await asyncio.gather(
        *(desk.tokens.issue(subscription=subscription.id) for _ in range(8)),
        *(desk.contracts.change(subscription.id, plan) for plan in ("free", "pro", "free", "pro")),
        *(desk.customers.set_status("acme", status) for status in ("past_due", "active", "past_due")),
        desk.plans.apply(offers("Another")),
        return_exceptions=True,
    )
    assert [result for result in results if isinstance(result, BaseException)] == []
    after = await desk.subscriptions.show(subscription.id)
    assert isinstance(after, Subscription)
    assert len(after.changes) == 4
    last = [entry for entry in await desk.audit() if entry.object == subscription.id][-1]
    assert last.after["revision"] == after.revision
    assert as_json(after)["changes"] == last.after["changes"]
