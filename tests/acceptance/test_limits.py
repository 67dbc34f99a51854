"""Limits through the real Envoy: all or nothing, for the right subject, told to the caller in standard fields."""

import asyncio
import re
from collections import Counter

from support.world import World, told


async def test_a_rate_refuses_with_when_to_come_back_and_touches_nobody_else(world: World) -> None:
    """The fourth request of three is 429 with Retry-After and the RateLimit fields; other customers go on."""
    account, other = await world.account("rated"), await world.account("rated")
    allowed = [await world.get(account.secret) for _ in range(3)]
    assert [answer.status_code for answer in allowed] == [200] * 3
    assert [re.sub(r";t=\d+", "", answer.headers["ratelimit"]) for answer in allowed] == [
        '"hourly";r=2',
        '"hourly";r=1',
        '"hourly";r=0',
    ]
    refused = await world.get(account.secret)
    assert told(refused) == "429 rate_limited"
    assert refused.json()["violated-policies"] == ["hourly"]
    assert 0 < int(refused.headers["retry-after"]) <= 20 * 60
    assert refused.json()["retry_after_s"] == int(refused.headers["retry-after"])
    assert refused.headers["ratelimit"].startswith('"hourly";r=0;t=')
    assert refused.headers["ratelimit-policy"].startswith('"hourly";q=3;w=3600')
    assert await world.seen(other.secret) == "200"


async def test_limits_of_a_customer_are_shared_by_its_tokens(world: World) -> None:
    """A second token of the same subscription brings no second quota."""
    account = await world.account("few")
    second = await world.system.control.tokens.issue(subscription=account.subscription.id)
    seen = [await world.seen(secret) for secret in [account.secret, second.secret] * 3]
    assert Counter(seen) == {"200": 4, "429 quota_exceeded": 2}


async def test_one_full_limit_leaves_the_others_untouched(world: World) -> None:
    """Fifty requests that the small limit refuses take nothing from the wide one, nor from the token's own."""
    account = await world.account("both")
    await asyncio.gather(*(world.get(account.secret) for _ in range(3)))
    before = await world.left(account.secret)
    refused = await asyncio.gather(*(world.get(account.secret) for _ in range(50)))
    assert {told(answer) for answer in refused} == {"429 quota_exceeded"}
    assert {tuple(answer.json()["violated-policies"]) for answer in refused} == {("small",)}
    assert await world.left(account.secret) == before == {"small": 0, "wide": 997, "per-token": 997}


async def test_an_expensive_route_costs_all_or_nothing(world: World) -> None:
    """A bulk request costs three: of seven credits two of them and one other request can be had, and no part of one."""
    account = await world.account("prepaid")
    seen = [await world.seen(account.secret, path) for path in ("/v1/bulk", "/v1/bulk", "/v1/bulk", "/v1/a", "/v1/b")]
    assert seen == ["200", "200", "402 credits_exhausted", "200", "402 credits_exhausted"]


async def test_used_up_credits_are_a_matter_of_payment(world: World) -> None:
    """Waiting does not help when credits are gone: 402, and no Retry-After."""
    account = await world.account("prepaid")
    answers = [await world.get(account.secret) for _ in range(8)]
    assert [told(answer) for answer in answers] == ["200"] * 7 + ["402 credits_exhausted"]
    assert "retry-after" not in answers[-1].headers
    assert answers[-1].headers["ratelimit"].startswith('"prepaid";r=0')


async def test_overage_is_allowed_up_to_its_ceiling(world: World) -> None:
    """What is sold beyond the quota passes, and the hard ceiling does not move."""
    account = await world.account("overage")
    assert [await world.seen(account.secret) for _ in range(5)] == ["200"] * 4 + ["429 quota_exceeded"]


async def test_a_shadow_limit_refuses_nobody_and_is_reported(world: World) -> None:
    """A limit in shadow changes no answer; metrics and REST tell what it would have refused, and to whom."""
    account = await world.account("shadow")
    names = ['tallygate_checks_total{decision="allow",plan="shadow",reason="shadow"}'] + [
        f'tallygate_shadow_decisions_total{{plan="shadow",reason="{reason}",shadow="shadow@1:trial"}}'
        for reason in ("ok", "credits_exhausted")
    ]
    before = await world.metrics()
    answers = [await world.get(account.secret) for _ in range(4)]
    assert [told(answer) for answer in answers] == ["200"] * 4
    assert not [answer for answer in answers if "ratelimit" in answer.headers]
    after = await world.metrics()
    assert [after[name] - before.get(name, 0) for name in names] == [3, 1, 3]
    address = f"{world.system.admin_url}/v1/plans/shadow/shadow"
    bearer = {"authorization": f"Bearer {world.system.environment['ADMIN_KEY']}"}

    async def refused() -> str:
        answer = await world.http.get(address, headers=bearer)
        seen = answer.raise_for_status().json()
        assert (seen["plan"], seen["shadow"], seen["requests"]) == ("shadow@1", None, 0)
        (limit,) = seen["limits"]
        return f"{limit['name']} {limit['subscriptions'].get(account.subscription.id)}"

    await world.until("trial 3", refused)


async def test_rotating_a_token_keeps_what_was_used(world: World) -> None:
    """Ten rotations in a period leave the quota as it was; with grace old and new count together."""
    account = await world.account("few")
    control = world.system.control
    secret, token = account.secret, account.issued.record.id
    assert await world.seen(secret) == "200"
    for _ in range(10):
        rotated = await control.tokens.rotate(token)
        secret, token = rotated.secret, rotated.record.id
    assert await world.left(secret) == {"monthly": 3}
    assert [await world.seen(secret) for _ in range(4)] == ["200"] * 3 + ["429 quota_exceeded"]


async def test_per_token_limits_survive_rotation_too(world: World) -> None:
    """A limit counted per token counts the family, so a new secret brings no fresh start."""
    account = await world.account("both")
    assert await world.seen(account.secret) == "200"
    rotated = await world.system.control.tokens.rotate(account.issued.record.id)
    assert await world.seen(rotated.secret) == "200"
    assert (await world.left(rotated.secret))["per-token"] == 998
