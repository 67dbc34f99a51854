"""Changes by an operator reach every request in under a second, without a restart."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from support.world import World, plans

from tallygate.tokens.format import Environment

SECOND = 1.0


async def takes_effect(world: World, secret: str, expected: str, path: str = "/v1/things") -> None:
    """Ask until the answer is as expected, which has to be within a second of the change."""
    assert await world.until(expected, lambda: world.seen(secret, path)) < SECOND


async def test_revoking_a_token(world: World) -> None:
    """A leaked token is refused at once, and stays refused."""
    account = await world.account("open")
    assert await world.seen(account.secret) == "200"
    await world.system.control.tokens.revoke(account.secret, "leaked")
    await takes_effect(world, account.secret, "401 token_unknown")
    assert {await world.seen(account.secret) for _ in range(50)} == {"401 token_unknown"}


async def test_revoking_a_family(world: World) -> None:
    """Every token of a rotation group is gone together."""
    account = await world.account("open")
    control = world.system.control
    rotated = await control.tokens.rotate(account.issued.record.id, timedelta(hours=1))
    assert [await world.seen(secret) for secret in (account.secret, rotated.secret)] == ["200", "200"]
    await control.tokens.revoke(account.issued.record.family)
    for secret in (account.secret, rotated.secret):
        await takes_effect(world, secret, "401 token_unknown")


async def test_rotating_with_and_without_grace(world: World) -> None:
    """With grace both tokens work; without, the old one is refused at once and the new one works at once."""
    account = await world.account("open")
    control = world.system.control
    with_grace = await control.tokens.rotate(account.issued.record.id, timedelta(hours=1))
    assert [await world.seen(secret) for secret in (with_grace.secret, account.secret)] == ["200", "200"]
    at_once = await control.tokens.rotate(with_grace.record.id)
    assert await world.seen(at_once.secret) == "200"
    await takes_effect(world, with_grace.secret, "401 token_unknown")
    assert await world.seen(account.secret) == "200"


async def test_suspending_and_resuming_a_customer(world: World) -> None:
    """Whoever does not pay is refused on every token, and served again as soon as resumed."""
    account = await world.account("open")
    other = await world.system.control.tokens.issue(subscription=account.subscription.id)
    assert [await world.seen(secret) for secret in (account.secret, other.secret)] == ["200", "200"]
    for status, expected in (("suspended", "403 customer_suspended"), ("active", "200")):
        await world.system.control.customers.set_status(account.customer.id, status)
        for secret in (account.secret, other.secret):
            await takes_effect(world, secret, expected)


async def test_canceling_a_subscription(world: World) -> None:
    """Its tokens are refused; another subscription of the customer is not touched."""
    account = await world.account("open")
    control = world.system.control
    second = await control.subscriptions.create(account.customer.id, "plain", environment=Environment.TEST)
    kept = await control.tokens.issue(subscription=second.id)
    assert [await world.seen(secret) for secret in (account.secret, kept.secret)] == ["200", "200"]
    await control.subscriptions.cancel(account.subscription.id)
    await takes_effect(world, account.secret, "403 subscription_ended")
    assert await world.seen(kept.secret) == "200"


@pytest.fixture
async def routes_put_back(world: World) -> AsyncIterator[None]:
    """Leave the route rules as the other tests expect them."""
    yield
    await world.system.control.plans.apply(plans())
    account = await world.account("open")
    await world.until("200", lambda: world.seen(account.secret, "/v1/things"))


@pytest.mark.usefixtures("routes_put_back")
async def test_applying_new_routes(world: World) -> None:
    """A scope asked for by a new rule is asked for from the next request on."""
    account = await world.account("open", scopes=("things.read",))
    assert await world.seen(account.secret) == "200"
    await world.system.control.plans.apply(plans(extra_route='  - {match: "GET /v1/things", scope: things.delete}\n'))
    await takes_effect(world, account.secret, "403 scope_missing")
    assert await world.seen(account.secret, "/v1/other") == "200"


async def test_publishing_a_plan_moves_nobody(world: World) -> None:
    """A new version takes effect for new subscriptions, and for nobody else."""
    old = await world.account("plain")
    await world.system.control.plans.apply(plans(renamed="plain"))
    new = await world.account("plain")
    upstream = [(await world.get(account.secret)).json()["headers"] for account in (old, new)]
    assert [headers["x-tallygate-plan"] for headers in upstream] == ["plain@1", "plain@2"]
