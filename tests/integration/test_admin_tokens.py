"""Use cases of tokens on a real database: who gets one, what rotation keeps, what revoking ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network

import pytest
from support.office import FORMAT, NOW, Office, office
from support.servers import Database

from tallygate.admin.records import IssuedToken, as_json, issued_as_json
from tallygate.core.errors import ConflictError, InputError, NotFoundError
from tallygate.tokens.format import Environment
from tallygate.tokens.mint import mint

HOUR = timedelta(hours=1)


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with customer `acme` on `pro`."""
    async with office(database) as opened:
        await opened.open_account()
        yield opened


async def issue(desk: Office) -> IssuedToken:
    """Issue a token with something in every field, to `acme`."""
    return await desk.tokens.issue(
        customer="acme",
        name="ci",
        scopes=("things.write", "things.read", "things.read"),
        networks=("192.0.2.0/24", "2001:db8::/32"),
        not_before_at=NOW - HOUR,
        expires_at=NOW + 48 * HOUR,
    )


async def test_a_token_is_what_was_asked_for_and_the_data_plane_knows_it(desk: Office) -> None:
    """The record, the license read by its digest and the audit entry all say the same."""
    made = await issue(desk)
    record, license_ = made.record, await desk.license_of(made.secret)
    assert license_ is not None
    assert (record.status, record.environment, record.name, record.revoked_at) == ("active", "live", "ci", None)
    assert record.scopes == ("things.read", "things.write")
    assert record.networks == ("192.0.2.0/24", "2001:db8::/32")
    assert record.hint == made.secret[-4:]
    assert (license_.customer, license_.subscription, license_.family, license_.token) == (
        record.customer,
        record.subscription,
        record.family,
        record.id,
    )
    assert license_.scopes == frozenset({"things.read", "things.write"})
    assert license_.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert (license_.not_before_at, license_.expires_at) == (NOW - HOUR, NOW + 48 * HOUR)
    entry = (await desk.audit())[-1]
    assert (entry.action, entry.object, entry.before, entry.after) == ("token.issue", record.id, None, as_json(record))
    assert (await desk.changes())[-1] == record.id


async def test_the_secret_is_stored_nowhere(desk: Office) -> None:
    """No row of any table holds a token, and nothing prints one but the answer that shows it once."""
    made = await issue(desk)
    rotated = await desk.tokens.rotate(made.record.id)
    everything = str(await desk.contents())
    for issued in (made, rotated):
        assert issued.secret not in everything
        assert issued.secret[8:38] not in everything
        assert issued.secret not in repr(issued)
        assert issued_as_json(issued)["token"] == issued.secret
        assert issued.secret not in str(as_json(issued.record))


async def test_a_token_without_scopes_has_its_plans(desk: Office) -> None:
    """Leaving scopes out grants the plan's, now and later; an empty list grants none."""
    all_, none = await desk.tokens.issue(customer="acme"), await desk.tokens.issue(customer="acme", scopes=())
    licenses = [await desk.license_of(made.secret) for made in (all_, none)]
    assert [made.record.scopes for made in (all_, none)] == [None, ()]
    grants = [license_.terms.phase_at(NOW).grant if license_ else None for license_ in licenses]
    assert [
        sorted(license_.scopes_under(grant)) if license_ and grant else None
        for license_, grant in zip(licenses, grants, strict=True)
    ] == [["things.read", "things.write"], []]


async def test_every_token_is_a_family_of_its_own(desk: Office) -> None:
    """Two tokens of a subscription are counted apart where a limit is per token."""
    made = [(await desk.tokens.issue(customer="acme")).record for _ in range(2)]
    assert made[0].family != made[1].family
    assert made[0].subscription == made[1].subscription


async def test_whose_token_it_is_must_be_clear(desk: Office) -> None:
    """A customer with one fitting subscription needs to name none; any doubt is told with what to do."""
    with pytest.raises(InputError, match="--subscription, or --customer"):
        await desk.tokens.issue()
    with pytest.raises(NotFoundError):
        await desk.tokens.issue(customer="nobody")
    with pytest.raises(NotFoundError):
        await desk.tokens.issue(subscription="sub_nothing")
    await desk.customers.create("empty", None)
    with pytest.raises(InputError, match="empty has no subscription"):
        await desk.tokens.issue(customer="empty")
    trial = await desk.subscriptions.create("acme", "free", environment=Environment.TEST)
    with pytest.raises(InputError, match="acme has 2 subscriptions"):
        await desk.tokens.issue(customer="acme")
    chosen = await desk.tokens.issue(customer="acme", environment=Environment.TEST)
    assert (chosen.record.subscription, chosen.secret[:8]) == (trial.id, "tg_test_")
    with pytest.raises(InputError, match="is test"):
        await desk.tokens.issue(subscription=trial.id, environment=Environment.LIVE)
    await desk.subscriptions.cancel(trial.id)
    assert (await desk.tokens.issue(customer="acme")).record.environment == "live"


async def test_what_cannot_be_issued_is_refused_by_field(desk: Office) -> None:
    """Each wrong value is named, and none of them leaves a family behind."""
    wrong_by_field: list[tuple[str, dict[str, object]]] = [
        ("scopes", {"scopes": ("things.delete",)}),
        ("scopes", {"scopes": ("",)}),
        ("networks", {"networks": ("192.0.2.1/24",)}),
        ("networks", {"networks": ("home",)}),
        ("networks", {"networks": ("",)}),
        ("expires", {"expires_at": NOW}),
        ("expires", {"expires_at": NOW + HOUR, "not_before_at": NOW + HOUR}),
        ("name", {"name": "x" * 201}),
        ("name", {"name": "two\nlines"}),
    ]
    standing = await desk.contents()
    for field, values in wrong_by_field:
        with pytest.raises(InputError) as wrong:
            await desk.tokens.issue(customer="acme", **values)  # type: ignore[arg-type]  # that is the case
        assert wrong.value.field == field, values
    assert await desk.contents() == standing


async def test_a_single_address_is_a_network(desk: Office) -> None:
    """People write one address where a network is asked for; it is kept in full."""
    made = await desk.tokens.issue(customer="acme", networks=("192.0.2.7", "2001:DB8::7"))
    assert made.record.networks == ("192.0.2.7/32", "2001:db8::7/128")
    assert await desk.tokens.show(made.record.id) == made.record


async def test_a_token_is_shown_by_its_id_and_by_itself(desk: Office) -> None:
    """Whoever holds a token can ask what it is; one that does not exist is not repeated in the answer."""
    made = await issue(desk)
    assert await desk.tokens.show(made.secret) == await desk.tokens.show(made.record.id) == made.record
    invented = mint(FORMAT, Environment.LIVE).text
    for ref in (invented, invented[:-1], "a-secret-of-something-else"):
        with pytest.raises(NotFoundError) as wrong:
            await desk.tokens.show(ref)
        assert ref not in str(wrong.value)


async def test_the_status_follows_the_clock(desk: Office) -> None:
    """Not yet valid, active, expired, revoked: told by the instants, whoever looks whenever."""
    made = await desk.tokens.issue(customer="acme", not_before_at=NOW + HOUR, expires_at=NOW + 2 * HOUR)
    told = []
    for _ in range(3):
        told.append((await desk.tokens.show(made.record.id)).status)
        desk.clock.advance(3600)
    await desk.tokens.revoke(made.record.id)
    told.append((await desk.tokens.show(made.record.id)).status)
    assert told == ["not_yet_valid", "active", "expired", "revoked"]


async def test_rotation_keeps_the_family_and_everything_of_the_token(desk: Office) -> None:
    """The new token counts where the old one did and may do the same; only id, secret and hint are new."""
    old = await issue(desk)
    desk.clock.advance(60)
    new = await desk.tokens.rotate(old.record.id, reason="it is the first")
    kept = ("family", "subscription", "customer", "environment", "name", "scopes", "networks", "expires_at")
    assert [getattr(new.record, name) for name in kept] == [getattr(old.record, name) for name in kept]
    assert new.record.id != old.record.id
    assert new.record.created_at == NOW + timedelta(minutes=1)
    licenses = [await desk.license_of(made.secret) for made in (old, new)]
    assert [license_ and license_.revoked_at for license_ in licenses] == [NOW + timedelta(minutes=1), None]
    assert [license_ and license_.family for license_ in licenses] == [old.record.family] * 2
    rotated, issued = (await desk.audit())[-2:]
    assert (rotated.action, rotated.object, rotated.reason) == ("token.rotate", old.record.id, "it is the first")
    assert (rotated.before["revoked_at"], rotated.after["status"]) == (None, "revoked")
    assert (issued.action, issued.object, issued.reason) == (
        "token.issue",
        new.record.id,
        f"rotation of {old.record.id}",
    )
    assert (await desk.changes())[-2:] == [old.record.id, new.record.id]


async def test_both_tokens_work_during_the_grace(desk: Office) -> None:
    """The old token is active until the grace is over, and revoked from then on without anybody's help."""
    old = await issue(desk)
    new = await desk.tokens.rotate(old.secret, grace=HOUR)
    assert [(await desk.tokens.show(made.record.id)).status for made in (old, new)] == ["active", "active"]
    license_ = await desk.license_of(old.secret)
    assert license_ is not None
    assert license_.revoked_at == NOW + HOUR
    desk.clock.advance(3600)
    assert [(await desk.tokens.show(made.record.id)).status for made in (old, new)] == ["revoked", "active"]


async def test_what_has_ended_is_not_rotated(desk: Office) -> None:
    """A revoked, expired or already rotated token begets no new one, and wrong graces are refused."""
    revoked, expired, rotated = [await issue(desk) for _ in range(3)]
    await desk.tokens.revoke(revoked.record.id)
    await desk.tokens.rotate(rotated.record.id, grace=100 * HOUR)
    desk.clock.advance(48 * 3600)
    usable = await desk.tokens.issue(customer="acme")
    standing = await desk.contents()
    for made in (revoked, expired, rotated):
        with pytest.raises(ConflictError):
            await desk.tokens.rotate(made.record.id)
    for grace in (timedelta(seconds=-1), timedelta(days=999_999_999)):
        with pytest.raises(InputError) as wrong:
            await desk.tokens.rotate(usable.record.id, grace)
        assert wrong.value.field == "grace"
    with pytest.raises(NotFoundError):
        await desk.tokens.rotate("tok_nothing")
    assert await desk.contents() == standing


async def test_a_token_rotated_by_two_at_once_has_one_heir(desk: Office) -> None:
    """Two people who rotate the same token do not leave three that work."""
    old = await issue(desk)
    results = await asyncio.gather(*(desk.tokens.rotate(old.record.id) for _ in range(3)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError", "ConflictError", "IssuedToken"]
    alive = [token for token in await desk.tokens.list() if token.status == "active"]
    assert len(alive) == 1


async def test_revoking_ends_a_token_now_and_once(desk: Office) -> None:
    """By id or by itself; revoking again is no error, no change, and moves no instant."""
    made = await issue(desk)
    (gone,) = await desk.tokens.revoke(made.secret, "leaked")
    license_ = await desk.license_of(made.secret)
    assert license_ is not None
    assert (gone.status, gone.revoked_at, license_.revoked_at) == ("revoked", NOW, NOW)
    entry = (await desk.audit())[-1]
    assert (entry.action, entry.object, entry.reason) == ("token.revoke", made.record.id, "leaked")
    assert (entry.before["status"], entry.after["status"]) == ("active", "revoked")
    assert (await desk.changes())[-1] == made.record.id
    standing = await desk.contents()
    desk.clock.advance(60)
    assert await desk.tokens.revoke(made.record.id) == [gone]
    assert await desk.contents() == standing


async def test_revoking_during_a_grace_ends_it(desk: Office) -> None:
    """A leaked token that was rotated with grace does not live until its end."""
    old = await issue(desk)
    await desk.tokens.rotate(old.record.id, grace=HOUR)
    (gone,) = await desk.tokens.revoke(old.record.id)
    assert (gone.status, gone.revoked_at) == ("revoked", NOW)


async def test_revoking_a_family_ends_every_token_of_it(desk: Office) -> None:
    """All of a family go in one transaction; others stay; a family that does not exist is told."""
    old, other = await issue(desk), await issue(desk)
    desk.clock.advance(1)
    new = await desk.tokens.rotate(old.record.id, grace=HOUR)
    gone = await desk.tokens.revoke(old.record.family)
    assert {token.id for token in gone} == {old.record.id, new.record.id}
    assert {token.status for token in gone} == {"revoked"}
    assert (await desk.tokens.show(other.record.id)).status == "active"
    with pytest.raises(NotFoundError, match="no family"):
        await desk.tokens.revoke("fam_nothing")


async def test_tokens_are_listed_in_order_and_narrowed(desk: Office) -> None:
    """By customer, subscription and family, page by page; of nobody is not found."""
    made = []
    for _ in range(3):
        made.append((await desk.tokens.issue(customer="acme")).record)
        desk.clock.advance(1)
    other = (await desk.tokens.issue(subscription=(await desk.open_account("other")).id)).record
    assert await desk.tokens.list() == [*made, other]
    assert await desk.tokens.list(customer="acme") == made
    assert await desk.tokens.list(subscription=other.subscription) == [other]
    assert await desk.tokens.list(family=made[1].family) == [made[1]]
    assert await desk.tokens.list(after=made[0].id, limit=1) == [made[1]]
    assert await desk.tokens.list(family="fam_nothing") == []
    with pytest.raises(NotFoundError):
        await desk.tokens.list(customer="nobody")
