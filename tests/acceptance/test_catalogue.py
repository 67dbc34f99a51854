"""The example catalogue as it is sold: every commercial need of the product, met through a real Envoy as time passes.

Each test is a customer's story. Time is the test's: all of it moves together, to the microsecond, and only
forward; a story begins wherever the one before has left it. What happens at an instant agreed upon beforehand is
in `test_catalogue_dates.py`.
"""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from support.movable import ALLOWANCE, CATALOGUE, THINGS, Buyer, Shop

from tallygate.insights.redis import RedisShadowLedger
from tallygate.plans.parse import parse
from tallygate.plans.rollout import is_in_rollout

SECOND, DAY, MOMENT = timedelta(seconds=1), timedelta(days=1), timedelta(microseconds=1)
PAYG = (
    "{name: monthly, quota: 100, period: billing, on_exceed: overage, allow_until: 1_000_000 units}\n"
    '    overage:\n      requests: {model: per_unit, unit: "0.002"}'
)
STRICT = "{name: monthly, quota: 5, period: billing}"
COMPLETIONS, SEARCH, REPORT = "/v1/completions", "/v1/search", "/v1/reports/7"


async def published(shop: Shop, key: str, before: str, after: str) -> str:
    """Publish the catalogue with one place of a plan changed; return the new version of that plan."""
    assert CATALOGUE.count(before) == 1
    applied = await shop.control.plans.apply(parse(CATALOGUE.replace(before, after), "catalogue.yaml"))
    (change,) = [change for change in applied.plans if change.plan.startswith(f"{key}@")]
    assert change.action == "published"
    return change.plan


async def noon(shop: Shop) -> None:
    """Let time pass until the next noon in UTC."""
    await shop.move_to(datetime.combine(shop.now.date() + DAY, time(12), UTC))


# Free, and what it does not include.


async def test_free_has_its_rate_and_its_day(shop: Shop) -> None:
    """Five a second and a hundred a day are served, not one more; the refusal says where there is more."""
    await noon(shop)
    ann = await shop.buyer("free@1")
    assert await ann.spend(6) == {"200 ok": 5, "429 rate_limited": 1}
    for _ in range(19):
        await shop.advance(SECOND)
        assert await ann.spend(5) == {"200 ok": 5}
    await shop.advance(SECOND)
    refused = await ann.ask()
    assert (refused.status_code, refused.json()["reason"]) == (429, "quota_exceeded")
    assert refused.json()["upgrade_url"] == "https://example.com/pricing"
    assert int(refused.headers["retry-after"]) == 12 * 3600 - 20
    await shop.move_to(datetime.combine(shop.now.date() + DAY, time(), UTC) - MOMENT)
    assert await ann.seen() == "429 quota_exceeded"
    await shop.advance(MOMENT)
    assert await ann.seen() == "200 ok"


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("free@1", ["200 ok", "403 scope_missing", "403 scope_missing", "403 feature_missing", "403 scope_missing"]),
        ("payg@1", ["200 ok", "200 ok", "200 ok", "403 feature_missing", "403 scope_missing"]),
        ("prepaid@1", ["200 ok", "403 scope_missing", "403 scope_missing", "403 feature_missing", "200 ok"]),
        ("enterprise@1", ["200 ok", "200 ok", "200 ok", "200 ok", "200 ok"]),
    ],
)
async def test_a_plan_opens_what_it_sells(shop: Shop, plan: str, expected: list[str]) -> None:
    """Scopes and features of the plan open its routes, and nobody has what no rule prices."""
    buyer = await shop.buyer(plan)
    asked = [("GET", THINGS), ("POST", THINGS), ("GET", REPORT), ("GET", SEARCH), ("POST", COMPLETIONS)]
    assert [await buyer.seen(path, method) for method, path in asked] == expected
    assert await buyer.seen("/v2/things") == "403 route_denied"


async def test_the_upstream_reads_what_the_plan_includes(shop: Shop) -> None:
    """The API behind Envoy learns the plan, its scopes and its features, so that it need not ask."""
    answer = await (await shop.buyer("enterprise@1")).ask()
    told = {name: value for name, value in answer.json()["headers"].items() if name.startswith("x-tallygate-")}
    assert told["x-tallygate-plan"] == "enterprise@1"
    assert told["x-tallygate-scopes"] == "completions.write reports.read things.read things.write"
    features = 'beta_search, max_projects=1000, reports, single_sign_on, support="phone"'
    assert told["x-tallygate-features"] == features


# Pay as you go.


async def test_pay_as_you_go_goes_into_overage_up_to_a_hard_end(shop: Shop) -> None:
    """What is not included is served and said to be overage; the end that was agreed upon is an end."""
    ben = await shop.buyer("payg@1")
    await shop.done(shop.control.contracts.override(ben.subscription, {"limits": {"monthly": {"ceiling": 103}}}))
    names = [f'tallygate_units_total{{meter="requests",outcome="{one}",plan="payg"}}' for one in ("allowed", "overage")]
    before = [await shop.metric(name) for name in names]
    assert await ben.spend(40) == {"200 ok": 40}
    await shop.advance(2 * SECOND)
    assert await ben.seen(REPORT) == "200 ok"
    assert await ben.spend(35) == {"200 ok": 35}
    await shop.advance(2 * SECOND)
    assert await ben.spend(25) == {"200 ok": 20, "200 overage": 3, "429 quota_exceeded": 2}
    assert await ben.left() == {"per-second": (17, 20), "monthly": (0, 100)}
    assert [await shop.metric(name) - was for name, was in zip(names, before, strict=True)] == [100, 3]


async def test_payment_that_fails_starts_the_grace(shop: Shop) -> None:
    """Past due, everything is served in full for three days; then paying helps, and at once."""
    cleo = await shop.buyer("payg@1")
    await shop.done(shop.control.customers.set_status(cleo.customer.id, "past_due"))
    assert await cleo.left() == {"per-second": (40, 20), "monthly": (100, 100)}
    await shop.advance(3 * DAY - MOMENT)
    assert await cleo.seen() == "200 ok"
    await shop.advance(MOMENT)
    assert await cleo.seen() == "402 payment_required"
    await shop.done(shop.control.customers.set_status(cleo.customer.id, "active"))
    assert await cleo.seen() == "200 ok"


# Pro: trial, grace with reduced limits, concurrency.


async def test_a_trial_begins_with_the_first_request_and_ends_on_the_instant(shop: Shop) -> None:
    """Unused, it does not run down; two weeks after the first request the customer is on the free plan."""
    dora = await shop.buyer("pro@1")
    await shop.advance(30 * DAY)
    assert await dora.seen("/v2/things") == "403 route_denied"  # no use: it was refused
    await shop.advance(30 * DAY)
    assert await dora.seen() == "200 ok"
    await shop.advance(14 * DAY - MOMENT)
    assert await dora.plan() == "pro@1"
    assert await dora.seen("/v1/completions", "POST") == "200 ok"
    await shop.advance(MOMENT)
    assert await dora.plan() == "free@1"
    assert await dora.seen("/v1/completions", "POST") == "403 scope_missing"


async def test_people_see_when_a_trial_began_and_what_it_became(shop: Shop) -> None:
    """Seconds after the first request it is on record, though nobody has changed anything; then its end is seen."""
    dan, show = await shop.buyer("pro@1"), shop.control.subscriptions.show
    began_at = shop.now
    assert await dan.seen() == "200 ok"
    while (running := await show(dan.subscription)).first_used_at is None:
        assert await dan.seen(ALLOWANCE) == "200 ok"
    assert (running.first_used_at, running.trial_ends_at) == (began_at, began_at + 14 * DAY)
    await shop.advance(14 * DAY)
    over = await show(dan.subscription)
    assert (over.status, over.plan, over.phases, over.revision) == ("active", "free@1", (), 1)
    assert await dan.plan() == "free@1"


async def test_who_buys_during_the_trial_stays(shop: Shop) -> None:
    """Buying ends the trial: what would have come after it never comes."""
    ed = await shop.buyer("pro@1")
    assert await ed.seen() == "200 ok"
    await shop.advance(3 * DAY)
    await shop.done(shop.control.contracts.change(ed.subscription, "pro@1", reason="bought"))
    await shop.advance(60 * DAY)
    assert await ed.plan() == "pro@1"


async def test_grace_may_leave_a_tenth(shop: Shop) -> None:
    """Past due on pro, a tenth of every limit is left for a week; paid again, all of it."""
    fay = await shop.bought("pro@1")
    await shop.done(shop.control.customers.set_status(fay.customer.id, "past_due"))
    assert {name: amount for name, (_, amount) in (await fay.left()).items()} == {
        "per-second": 5,
        "per-token": 2,
        "in-flight": 2,
        "monthly": 100_000,
    }
    assert await fay.spend(3) == {"200 ok": 2, "429 rate_limited": 1}
    await shop.advance(7 * DAY)
    assert await fay.plan() == "402 payment_required"
    await shop.done(shop.control.customers.set_status(fay.customer.id, "active"))
    assert (await fay.left())["monthly"] == (1_000_000 - 2, 1_000_000)


async def test_a_trial_that_is_over_is_not_given_back_by_a_failed_payment(shop: Shop) -> None:
    """Who has fallen back to the free plan has no grace on pro: the free plan has none, so it is suspended."""
    gil = await shop.buyer("pro@1")
    assert await gil.seen() == "200 ok"
    await shop.advance(20 * DAY)
    assert await gil.plan() == "free@1"
    await shop.done(shop.control.customers.set_status(gil.customer.id, "past_due"))
    assert await gil.plan() == "402 payment_required"


async def test_requests_in_flight_are_bounded(shop: Shop) -> None:
    """Twenty at once and no more; one that nobody ends counts for half a minute."""
    hal = await shop.bought("pro@1")
    assert await hal.spend(20) == {"200 ok": 20}
    await shop.advance(SECOND)
    assert await hal.seen() == "429 concurrency_exceeded"
    await shop.advance(29 * SECOND - MOMENT)
    assert await hal.seen() == "429 concurrency_exceeded"
    await shop.advance(MOMENT)
    assert await hal.seen() == "200 ok"


# Enterprise.


async def test_an_enterprise_contract_is_raised_in_the_middle_of_its_year(shop: Shop) -> None:
    """What was signed takes effect at once and keeps what was used; lowered again, it is used up, not forgotten."""
    ira = await shop.buyer("enterprise@1")
    for amount, expected in (
        (8, {"200 ok": 8, "429 quota_exceeded": 2}),
        (12, {"200 ok": 4, "429 quota_exceeded": 6}),
        (10, {"429 quota_exceeded": 10}),
    ):
        signed = {"limits": {"yearly": {"amount": amount, "on_exceed": "deny"}}, "features": {"support": "on site"}}
        await shop.done(shop.control.contracts.override(ira.subscription, signed, reason="contract 4711"))
        assert await ira.spend(10) == expected
        await shop.advance(30 * DAY)
    assert await ira.left() == {"per-second": (5000, 1000), "in-flight": (500, 500), "yearly": (0, 10)}
    assert 'support="on site"' in (await ira.ask(ALLOWANCE)).json()["headers"]["x-tallygate-features"]
    await shop.move_to(
        (await shop.control.subscriptions.show(ira.subscription)).anchor_at.replace(year=shop.now.year + 1)
    )
    assert await ira.spend(11) == {"200 ok": 10, "429 quota_exceeded": 1}


# Prepaid.


async def test_prepaid_credits_are_spent_topped_up_and_expire(shop: Shop) -> None:
    """Gone is gone: 402. What is bought is there at once until it ends; with the next month comes the present."""
    start = await shop.next_date(3, 1)
    jo = await shop.buyer("prepaid@1")
    own = {"limits": {"balance": {"amount": 400}}}
    await shop.done(shop.control.contracts.override(jo.subscription, own))
    assert await jo.spend(12, COMPLETIONS, "POST") == {"200 ok": 10, "402 credits_exhausted": 2}
    refused = await jo.ask(COMPLETIONS, "POST")
    assert refused.json()["upgrade_url"] == "https://example.com/top-up"
    grant = shop.control.contracts.grant_credits
    await shop.done(grant(jo.subscription, "balance", 200, expires_at=shop.now + 10 * DAY, reason="invoice 12"))
    assert await jo.spend(3, COMPLETIONS, "POST") == {"200 ok": 3}
    await shop.advance(10 * DAY - MOMENT)
    assert (await jo.left(COMPLETIONS, "POST"))["balance"] == (40, 400)
    await shop.advance(MOMENT)
    assert await jo.seen(COMPLETIONS, "POST") == "402 credits_exhausted", "the rest of the grant has ended"
    await shop.move_to(start.replace(month=4, day=1, hour=0, minute=0) - MOMENT)
    assert await jo.seen(COMPLETIONS, "POST") == "402 credits_exhausted"
    await shop.advance(MOMENT)
    assert (await jo.left(COMPLETIONS, "POST"))["balance"] == (4_000 - 40, 400)


async def test_who_comes_to_prepaid_later_gets_the_presents_from_then_on(shop: Shop) -> None:
    """A year on another plan is not a year of refills."""
    kim = await shop.buyer("payg@1")
    await shop.advance(400 * DAY)
    await shop.done(shop.control.contracts.change(kim.subscription, "prepaid@1"))
    assert (await kim.left(COMPLETIONS, "POST"))["balance"] == (40_000 - 40, 40_000)


# A beta, a new price, a version in shadow.


async def test_a_beta_is_rolled_out_to_more_and_taken_from_nobody(shop: Shop) -> None:
    """A tenth of the customers has the feature; raised to a quarter, those have it still, and others too."""
    create = shop.control.customers.create
    wanted = {"first": 2, "second": 2, "later": 2}
    beta: dict[str, list[Buyer]] = {group: [] for group in wanted}
    for number in range(2000):
        if all(len(beta[group]) == many for group, many in wanted.items()):
            break
        customer = await create(f"beta-{number}", None)
        shares = [is_in_rollout(customer.id, "beta_search", Decimal(percent)) for percent in (10, 25)]
        group = "first" if shares[0] else "second" if shares[1] else "later"
        if len(beta[group]) < wanted[group]:
            beta[group].append(await shop.buyer("pro@1", customer))

    async def search(group: str) -> set[str]:
        return {await buyer.seen(SEARCH) for buyer in beta[group]}

    refused, served = {"403 feature_missing"}, {"200 ok"}
    assert [await search(group) for group in beta] == [served, refused, refused]
    more = await published(shop, "pro", "beta_search: {rollout: 10}", "beta_search: {rollout: 25}")
    for buyers in beta.values():
        for buyer in buyers:
            await shop.control.contracts.change(buyer.subscription, more)
    await shop.heard()
    assert [await search(group) for group in beta] == [served, served, refused]


async def test_a_new_price_touches_nobody_until_they_are_moved(shop: Shop) -> None:
    """Old customers stay pinned to what they bought; moving takes them with what they have used, and back again."""
    old = await shop.buyer("payg@1")
    assert await old.spend(7) == {"200 ok": 7}
    dearer = await published(shop, "payg", "quota: 100, period: billing", "quota: 50, period: billing")
    new = await shop.buyer("payg")
    assert [await old.plan(), await new.plan()] == ["payg@1", dearer]
    versions = shop.control.versions
    for moved_from, moved_to, left in (("payg@1", dearer, (43, 50)), (dearer, "payg@1", (93, 100))):
        moved = await shop.done(versions.migrate(moved_from, moved_to, percent=Decimal(100)))
        assert moved.moved >= 1
        assert await old.plan() == moved_to
        assert (await old.left())["monthly"] == left


async def test_a_version_in_shadow_refuses_nobody_and_is_reported(shop: Shop) -> None:
    """What it would have refused is in the metadata, in the metrics and in the report, and nothing else changes."""
    strict = await published(shop, "payg", PAYG, STRICT)
    lea = await shop.buyer("payg@1")
    ledger = RedisShadowLedger(shop.redis)
    await shop.done(shop.control.shadows.start("payg@1", strict, counts=ledger))
    assert [await lea.seen() for _ in range(7)] == ["200 ok"] * 5 + ["200 shadow"] * 2
    assert (await lea.ask()).headers["x-seen-would_refuse"] == "quota_exceeded"
    assert await lea.left() == {"per-second": (32, 20), "monthly": (92, 100)}
    labels = f'{{plan="payg",reason="quota_exceeded",shadow="{strict}"}}'
    assert await shop.metric(f"tallygate_shadow_decisions_total{labels}") == 3
    while (report := await shop.control.shadows.show("payg@1", counts=ledger)).requests < 9:
        await lea.ask(ALLOWANCE)
    assert report.refused["quota_exceeded"] >= 3
    assert report.subscriptions.keys() == {lea.subscription}
    await shop.done(shop.control.shadows.stop("payg@1"))
    assert await lea.seen() == "200 ok"


async def test_a_limit_in_shadow_is_told_apart_from_a_version_in_shadow(shop: Shop) -> None:
    """Each has metrics and a report of its own, the metadata tell of either, and nobody is refused by them."""
    watched = await published(
        shop, "payg", PAYG, f"{{name: watched, quota: 2, period: billing, mode: shadow}}\n      - {PAYG}"
    )
    strict = await published(shop, "payg", PAYG, STRICT)
    mia, ledger = await shop.buyer(watched), RedisShadowLedger(shop.redis)
    await shop.done(shop.control.shadows.start(watched, strict, counts=ledger))
    assert [await mia.seen() for _ in range(6)] == ["200 ok"] * 2 + ["200 shadow"] * 4
    assert (await mia.ask()).headers["x-seen-would_refuse"] == "quota_exceeded"
    assert await mia.left() == {"per-second": (33, 20), "monthly": (93, 100)}
    await shop.done(shop.control.shadows.stop(watched))
    assert await mia.seen() == "200 shadow"

    async def told_of(shadow: str) -> float:
        labels = f'{{plan="payg",reason="quota_exceeded",shadow="{shadow}"}}'
        return await shop.metric(f"tallygate_shadow_decisions_total{labels}")

    assert (await told_of(f"{watched}:watched"), await told_of(strict)) == (6, 2)
    while (seen := await shop.control.shadows.show(watched, counts=ledger)).limits[0].requests < 9:
        await mia.ask(ALLOWANCE)
    (limit,) = seen.limits
    assert (seen.shadow, limit.name, list(limit.subscriptions)) == (None, "watched", [mia.subscription])
    assert (await ledger.report(watched, strict)).refused == {"quota_exceeded": 2}
