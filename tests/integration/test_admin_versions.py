"""Versions of a plan over their life: who is on which, moving cohorts, taking one out of sale, shadows."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest
from support.offers import offers
from support.office import NOW, Office, office
from support.servers import Database

from tallygate.admin import versions
from tallygate.admin.records import LimitInShadow, Subscription
from tallygate.admin.versions import is_in_cohort
from tallygate.core.errors import ConflictError, DependencyError, InputError, NotFoundError
from tallygate.insights.memory import MemoryShadowLedger
from tallygate.plans.contract import Carry
from tallygate.plans.parse import parse

DAY = timedelta(days=1)
COUNTS = MemoryShadowLedger()


@pytest.fixture
async def desk(database: Database) -> AsyncIterator[Office]:
    """An office with `pro@1`, and then `pro@2` published."""
    async with office(database) as opened:
        await opened.plans.apply(offers())
        await opened.plans.apply(offers("Professional"))
        yield opened


async def sell(desk: Office, plan: str, number: int) -> list[Subscription]:
    """Put so many new customers on a plan version."""
    made = []
    for _ in range(number):
        desk.clock.advance(1)
        customer = await desk.customers.create(f"c{desk.clock.now():%d%H%M%S}", None)
        made.append(await desk.subscriptions.create(customer.id, plan))
    return made


async def plans_of(desk: Office, subscriptions: list[Subscription]) -> list[str]:
    """Return the version each of these is on now."""
    return [(await desk.subscriptions.show(each.id)).plan for each in subscriptions]


async def test_a_deprecated_version_takes_no_new_subscriptions(desk: Office) -> None:
    """Nothing changes for those who are on it; `pro` then means the newest that is offered; it can be taken back."""
    (old,) = await sell(desk, "pro@2", 1)
    before = await desk.contents()
    gone = await desk.operations.versions.deprecate("pro@2", reason="too cheap")
    after = await desk.contents()
    assert (gone.status, gone.deprecated_at, gone.revision) == ("deprecated", desk.clock.now(), 2)
    assert all(after[table] == before[table] for table in ("subscriptions", "licenses", "license_changes"))
    assert await plans_of(desk, await sell(desk, "pro", 1)) == ["pro@1"]
    with pytest.raises(ConflictError, match="pro@2 is deprecated"):
        await sell(desk, "pro@2", 1)
    assert await plans_of(desk, [old]) == ["pro@2"]
    standing = await desk.contents()
    assert await desk.operations.versions.deprecate("pro@2") == gone
    assert await desk.contents() == standing
    assert (await desk.operations.versions.reinstate("pro@2")).status == "published"
    assert await plans_of(desk, await sell(desk, "pro", 1)) == ["pro@2"]
    actions = [entry.action for entry in await desk.audit() if entry.object == "pro@2"]
    assert actions == ["plan.publish", "plan.deprecate", "plan.reinstate"]
    assert "document" not in (await desk.audit())[-4].after


async def test_a_version_is_retired_only_when_nobody_is_or_will_be_on_it(desk: Office) -> None:
    """Present, scheduled and trial's ends all pin; an ended contract does not; nothing cascades; it is for good."""
    versions_ = desk.operations.versions
    (now,) = await sell(desk, "pro@1", 1)
    (later,) = await sell(desk, "free", 1)
    scheduled = await desk.contracts.change(later.id, "pro@1", at=NOW + 9 * DAY)
    with pytest.raises(ConflictError, match="deprecate it first"):
        await versions_.retire("pro@1")
    await versions_.deprecate("pro@1")
    with pytest.raises(ConflictError, match="2 subscriptions"):
        await versions_.retire("pro@1")
    await desk.subscriptions.cancel(now.id)
    with pytest.raises(ConflictError, match="1 subscriptions"):
        await versions_.retire("pro@1")
    await desk.contracts.cancel_change(scheduled.changes[0].id)
    retired = await versions_.retire("pro@1", reason="nobody left")
    assert (retired.status, retired.retired_at) == ("retired", desk.clock.now())
    assert await versions_.retire("pro@1") == retired
    for attempt in (
        versions_.reinstate("pro@1"),
        versions_.deprecate("pro@1"),
        desk.contracts.change(later.id, "pro@1"),
    ):
        with pytest.raises(ConflictError, match="retired"):
            await attempt
    assert (await desk.plans.show("pro@1")).document["name"] == "Pro"


async def test_retiring_and_selling_at_once_never_both_succeed(desk: Office) -> None:
    """Whoever comes second sees what the first has done."""
    await desk.customers.create("acme", None)
    for version in ("pro@1", "pro@2"):
        deprecated = desk.operations.versions.deprecate(version)
        sold = desk.subscriptions.create("acme", version)
        results = await asyncio.gather(deprecated, sold, return_exceptions=True)
        pins = (await desk.plans.pins("pro")).get(int(version[-1]), 0)
        assert pins == (0 if isinstance(results[1], ConflictError) else 1)
        if pins:
            with pytest.raises(ConflictError):
                await desk.operations.versions.retire(version)


async def test_the_database_lets_only_the_lifecycle_of_a_version_change(desk: Office, database: Database) -> None:
    """Not even the owner changes what was published, nor anything of a retired version."""
    await desk.operations.versions.deprecate("pro@1")
    await desk.operations.versions.retire("pro@1")
    owner = await asyncpg.connect(database.dsn)
    try:
        await owner.execute("UPDATE plan_versions SET deprecated_at = now() WHERE version = 2")
        for change in (
            "document = '{}' WHERE version = 2",
            "deprecated_at = NULL, name = 'Cheaper' WHERE version = 2",
            "published_at = now() WHERE version = 2",
            "version = 7 WHERE version = 2",
            "created_at = now(), revision = 9 WHERE version = 2",
            "retired_at = NULL WHERE version = 1 AND plan_key = 'pro'",
            "revision = 9 WHERE version = 1 AND plan_key = 'pro'",
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await owner.execute(f"UPDATE plan_versions SET {change}")  # noqa: S608 - the cases above
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute("UPDATE plan_versions SET retired_at = now() WHERE plan_key = 'free'")
    finally:
        await owner.close()


async def test_pins_count_who_is_and_will_be_where(desk: Office) -> None:
    """By version: present ones, changes to come, the end of a trial; not who has moved on or left."""
    first, second, third = await sell(desk, "pro@1", 3)
    await sell(desk, "pro@2", 2)
    (trial,) = await sell(desk, "trial", 1)
    await desk.contracts.change(first.id, "pro@2")
    await desk.contracts.change(second.id, "pro@2", at=desk.clock.now() + DAY)
    await desk.subscriptions.cancel(third.id)
    assert await desk.plans.pins("pro") == {1: 1, 2: 4}
    assert (await desk.plans.pins("free"), await desk.plans.pins("trial")) == ({1: 1}, {1: 1})
    await desk.contracts.change(trial.id, "pro@2")
    assert (await desk.plans.pins("free"), await desk.plans.pins("nothing")) == ({}, {})
    desk.clock.advance(DAY.total_seconds())
    assert await desk.plans.pins("pro") == {2: 5}


async def test_a_cohort_is_the_same_every_time_and_grows(desk: Office) -> None:
    """Ten percent are the same ten percent on every run; fifty include them; going back brings back who went."""
    sold = await sell(desk, "pro@1", 30)
    migrate = desk.operations.versions.migrate
    tenth = {each.id for each in sold if is_in_cohort(each.id, Decimal(10))}
    half = {each.id for each in sold if is_in_cohort(each.id, Decimal(50))}
    assert tenth <= half
    done = await migrate("pro@1", "pro@2", percent=Decimal(10), is_dry_run=True)
    assert (done.eligible, done.moved, done.is_dry_run) == (30, len(tenth), True)
    assert set(await plans_of(desk, sold)) == {"pro@1"}
    for percent, cohort in ((10, tenth), (10, tenth), (50, half)):
        await migrate("pro@1", "pro@2", percent=Decimal(percent), reason="try it")
        assert {
            each.id for each, plan in zip(sold, await plans_of(desk, sold), strict=True) if plan == "pro@2"
        } == cohort
    back = await migrate("pro@2", "pro@1", percent=Decimal(50))
    assert (back.eligible, back.moved) == (len(half), len(half))
    assert set(await plans_of(desk, sold)) == {"pro@1"}
    assert (await migrate("pro@1", "pro@2", percent=Decimal(0))).moved == 0
    moves = [entry.object for entry in await desk.audit() if entry.action == "subscription.migrate"]
    assert sorted(moves) == sorted([*half, *half])


async def test_moving_goes_in_batches_and_misses_nobody(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the batches, all move: those pinned at the start, those who came by a change, none twice."""
    monkeypatch.setattr(versions, "BATCH", 3)
    pinned = await sell(desk, "pro@1", 7)
    came = await sell(desk, "free", 4)
    for each in came:
        await desk.contracts.change(each.id, "pro@1")
    (left,) = await sell(desk, "pro@1", 1)
    await desk.contracts.change(left.id, "free")
    done = await desk.operations.versions.migrate("pro@1", "pro@2", carry=Carry.RESET)
    assert (done.eligible, done.moved, done.trialing) == (11, 11, 0)
    assert await plans_of(desk, [*pinned, *came, left]) == ["pro@2"] * 11 + ["free@1"]
    assert await desk.plans.pins("pro") == {2: 11}
    assert {each.changes[-1].carry for each in await desk.subscriptions.list(plan="pro@1")} == {"reset", "carry"}


async def test_a_trial_is_left_to_end_before_it_is_moved(desk: Office) -> None:
    """Moving would end it: it is counted, and goes with the next run after its end."""
    await desk.plans.apply(offers("Third"))
    (trial,) = await sell(desk, "trial", 1)
    waiting = await desk.operations.versions.migrate("trial@1", "pro@3")
    assert (waiting.eligible, waiting.moved, waiting.trialing) == (1, 0, 1)
    assert (await desk.subscriptions.show(trial.id)).status == "trialing"
    desk.clock.advance((14 * DAY).total_seconds())
    assert (await desk.operations.versions.migrate("trial@1", "pro@3")).eligible == 0
    assert (await desk.operations.versions.migrate("free@1", "pro@3")).moved == 1
    assert await plans_of(desk, [trial]) == ["pro@3"]


async def test_a_move_at_an_instant_is_scheduled_once(desk: Office) -> None:
    """Running the same command again schedules nothing twice; before the instant all is as it was."""
    sold = await sell(desk, "pro@1", 2)
    at = desk.clock.now() + DAY
    for moved in (2, 0):
        assert (await desk.operations.versions.migrate("pro@1", "pro@2", at=at)).moved == moved
    assert await plans_of(desk, sold) == ["pro@1"] * 2
    desk.clock.advance(DAY.total_seconds())
    assert await plans_of(desk, sold) == ["pro@2"] * 2


async def test_a_move_that_makes_no_sense_is_refused(desk: Office) -> None:
    """To the same version, to one that is not offered, by half a hundredth, into the past."""
    migrate = desk.operations.versions.migrate
    await desk.operations.versions.deprecate("pro@2")
    with pytest.raises(InputError, match="where they are"):
        await migrate("pro@1", "pro@1")
    with pytest.raises(ConflictError, match="deprecated"):
        await migrate("pro@1", "pro@2")
    with pytest.raises(NotFoundError):
        await migrate("pro@1", "pro@7")
    with pytest.raises(InputError, match="past"):
        await migrate("pro@2", "pro@1", at=NOW - DAY)
    for percent in ("-1", "100.01", "0.001", "NaN", "Infinity"):
        with pytest.raises(InputError, match="percent"):
            await migrate("pro@2", "pro@1", percent=Decimal(percent))
    with pytest.raises(InputError, match="names no version"):
        await migrate("pro", "pro@1")


async def test_a_shadow_is_compiled_into_every_license_of_its_version(desk: Office) -> None:
    """Starting, moving, selling and stopping: whoever is on the version has the shadow, nobody else has."""
    old = await sell(desk, "pro@1", 2)
    (other,) = await sell(desk, "pro@2", 1)
    started = await desk.operations.shadows.start("pro@1", "pro@2", counts=COUNTS, reason="is it too tight?")
    assert (started.plan, started.shadow, started.stopped_at, started.subscriptions) == ("pro@1", "pro@2", None, 2)
    sold = await sell(desk, "pro@1", 1)
    shadows = [(await desk.subscriptions.show(each.id)).shadow for each in [*old, *sold, other]]
    assert shadows == ["pro@2", "pro@2", "pro@2", None]
    assert (await desk.plans.show("pro@1")).shadow == "pro@2"
    moved = await desk.contracts.change(old[0].id, "pro@2")
    assert moved.shadow is None
    assert (await desk.operations.shadows.start("pro@1", "pro@2", counts=COUNTS)).id == started.id
    with pytest.raises(ConflictError, match="stop it first"):
        await desk.operations.shadows.start("pro@1", "free@1", counts=COUNTS)
    with pytest.raises(InputError):
        await desk.operations.shadows.start("pro@1", "pro@1", counts=COUNTS)
    stopped = await desk.operations.shadows.stop("pro@1")
    assert (stopped.id, stopped.stopped_at, stopped.subscriptions) == (started.id, desk.clock.now(), 2)
    assert {(await desk.subscriptions.show(each.id)).shadow for each in [*old, *sold]} == {None}
    for attempt in (desk.operations.shadows.stop("pro@1"), desk.operations.shadows.show("pro@1", counts=COUNTS)):
        with pytest.raises(NotFoundError):
            await attempt
    assert [each.id for each in await desk.operations.shadows.list()] == [started.id]


async def test_a_shadow_started_again_is_reported_from_its_start(desk: Office) -> None:
    """Its report holds nothing of an earlier trial, all of a running one; without a store for it nothing starts."""
    shadows, counts = desk.operations.shadows, MemoryShadowLedger()

    async def seen(plan: str) -> int:
        return (await shadows.show(plan, counts=counts)).requests

    await counts.add("pro@1", "pro@2", Counter({("", "ok"): 5}))
    await shadows.start("pro@1", "pro@2", counts=counts)
    assert await seen("pro@1") == 0
    await counts.add("pro@1", "pro@2", Counter({("", "ok"): 7}))
    await shadows.start("pro@1", "pro@2", counts=counts)
    await counts.add("free@1", "pro@2", Counter({("", "ok"): 9}))
    await shadows.start("free@1", "pro@2", counts=counts)
    assert (await seen("pro@1"), await seen("free")) == (7, 0), "each trial has a report of its own"
    assert (await shadows.show("free", counts=counts)).plan == "free@1"
    await shadows.stop("pro@1")
    await shadows.stop("free@1")

    class Away(MemoryShadowLedger):
        async def forget(self, beside: str, shadow: str) -> None:
            raise DependencyError(beside + shadow)

    with pytest.raises(DependencyError):
        await shadows.start("pro@1", "pro@2", counts=Away())
    with pytest.raises(NotFoundError):
        await shadows.show("pro", counts=counts)


async def test_a_limit_in_shadow_is_reported_without_a_version_tried(desk: Office) -> None:
    """A version has a report of each of its limits in shadow; of a plan, a version that is tried is told first."""
    shadows, counts = desk.operations.shadows, MemoryShadowLedger()
    watched = "{name: %s, credits: 5, mode: shadow}"
    plan = "plans:\n  - {key: free, name: Free, limits: [{name: all, credits: 100}, %s]}"
    for names in (("first",), ("first", "second")):
        await desk.plans.apply(parse(plan % ", ".join(watched % name for name in names), "test.yaml"))
    await counts.add("free@3", "free@3:first", Counter({("", "ok"): 2, ("", "credits_exhausted"): 1}))
    await counts.add("free@2", "free@2:first", Counter({("", "credits_exhausted"): 8}))
    seen = await shadows.show("free", counts=counts)
    assert (seen.plan, seen.id, seen.shadow, seen.started_at, seen.requests) == ("free@3", None, None, None, 0)
    assert seen.limits == (
        LimitInShadow("first", 3, {"credits_exhausted": 1}, {}),
        LimitInShadow("second", 0, {}, {}),
    )
    older = await shadows.show("free@2", counts=counts)
    assert [(limit.name, limit.requests) for limit in older.limits] == [("first", 8)]
    await shadows.start("free@1", "free@3", counts=counts)
    tried = await shadows.show("free", counts=counts)
    assert (tried.plan, tried.shadow, tried.limits) == ("free@1", "free@3", ())
    await shadows.start("free@2", "free@3", counts=counts)
    both = await shadows.show("free", counts=counts)
    assert (both.plan, both.shadow, both.limits[0].requests) == ("free@2", "free@3", 8)


async def test_a_shadow_is_in_what_the_data_plane_reads(desk: Office) -> None:
    """It counts in places of its own, and the enforced limits are as they were."""
    (sold,) = await sell(desk, "pro@1", 1)
    secret = (await desk.tokens.issue(subscription=sold.id)).secret
    before = await desk.license_of(secret)
    await desk.operations.shadows.start("pro@1", "free@1", counts=COUNTS)
    after = await desk.license_of(secret)
    assert before is not None
    assert after is not None
    assert [replace(phase, shadow=None) for phase in after.terms.phases] == list(before.terms.phases)
    phase = after.terms.phase_at(desk.clock.now())
    assert phase.shadow is not None
    assert {limit.is_shadow for limit in phase.shadow.limits} == {True}


async def test_a_shadow_waits_for_those_who_will_come_to_its_version(desk: Office) -> None:
    """A scheduled change brings the shadow of its version with it, whichever was first; stopping takes it away."""
    shadows = desk.operations.shadows
    (early,) = await sell(desk, "free", 1)
    await desk.contracts.change(early.id, "pro@1", at=NOW + DAY)
    assert (await shadows.start("pro@1", "pro@2", counts=COUNTS)).subscriptions == 1
    (late,) = await sell(desk, "free", 1)
    await desk.contracts.change(late.id, "pro@1", at=NOW + DAY)
    secrets = [(await desk.tokens.issue(subscription=each.id)).secret for each in (early, late)]

    async def tried(at: datetime) -> list[str | None]:
        licenses = [await desk.license_of(secret) for secret in secrets]
        phases = [license_.terms.phase_at(at) for license_ in licenses if license_ is not None]
        return [None if phase.shadow is None else phase.shadow.plan for phase in phases]

    assert [await tried(at) for at in (NOW + DAY / 2, NOW + DAY)] == [[None] * 2, ["pro@2"] * 2]
    assert (await shadows.stop("pro@1")).subscriptions == 2
    assert await tried(NOW + DAY) == [None] * 2


async def test_versions_are_listed_by_the_page(desk: Office) -> None:
    """By key, newest first; of one plan or of all; a page begins after the one it is told."""
    listed = [each.ref for each in await desk.plans.list()]
    assert listed == ["free@1", "pro@2", "pro@1", "trial@1"]
    assert [each.ref for each in await desk.plans.list("pro@2", 1)] == ["pro@1"]
    assert [each.ref for each in await desk.plans.list(key="pro")] == ["pro@2", "pro@1"]
    assert [each.ref for each in await desk.plans.list("pro@2", key="pro")] == ["pro@1"]
    with pytest.raises(InputError):
        await desk.plans.list("pro")
    assert [each.plan for each in await desk.subscriptions.list(plan="pro@1")] == []
