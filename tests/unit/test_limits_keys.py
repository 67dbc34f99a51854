"""Names of counters: what they hold, what they must not, and that one customer's lie in one slot."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from support.counting import ALICE, START_AT, asking, at_once, overage, prepaid, quota, rate

from tallygate.core.clock import ManualClock
from tallygate.core.periods import Calendar, PeriodUnit
from tallygate.limits.keys import (
    ALLOWED,
    EXPIRY_FIELD,
    OVERAGE,
    REFUND,
    SLOTS,
    Owner,
    counter_field,
    due_key,
    due_keys,
    due_member,
    first_use_key,
    holding_key,
    holds_key,
    idempotency_key,
    index_key,
    index_keys,
    index_member,
    places,
    receipt_key,
    record_key,
    report_key,
    sealed_bucket,
    slot_tag,
    usage_bucket,
    usage_field,
    usage_prefix,
)
from tallygate.limits.limit import CountedPer, CreditBucket, CreditRefill, FailPolicy, Limit, OnExceed
from tallygate.limits.limiter import Subject
from tallygate.limits.present import Present
from tallygate.limits.script import Form


def test_each_name_is_what_the_layout_says() -> None:
    """The layout `tg:v1:` is read by other programs and outlives this one: it never changes unnoticed."""
    assert [record_key(ALICE, per) for per in CountedPer] == [
        "tg:v1:{cus_1}:c",
        "tg:v1:{cus_1}:s:sub_1",
        "tg:v1:{cus_1}:f:fam_1",
    ]
    afresh = replace(ALICE, counters="chg_1")
    assert [record_key(afresh, per) for per in CountedPer] == [
        "tg:v1:{cus_1}:c",
        "tg:v1:{cus_1}:s:sub_1:chg_1",
        "tg:v1:{cus_1}:f:fam_1:chg_1",
    ]
    assert holds_key(ALICE, at_once(1)) == "tg:v1:{cus_1}:s:sub_1|h:uploads"
    assert first_use_key(ALICE) == "tg:v1:{cus_1}:first:sub_1"
    assert holding_key("cus_1", "7") == "tg:v1:{cus_1}:h:7"
    assert idempotency_key("cus_1", "7") == "tg:v1:{cus_1}:i:7"
    assert usage_bucket("cus_1", 29_000_000) == "tg:v1:{cus_1}:u:29000000"
    assert sealed_bucket("cus_1", 29_000_000, 7) == "tg:v1:{cus_1}:u:29000000:7"
    assert receipt_key("cus_1", "7") == "tg:v1:{cus_1}:r:7"
    assert report_key("cus_1", "7") == "tg:v1:{cus_1}:i:report:7"
    tag = slot_tag("cus_1")
    assert (index_key("cus_1"), due_key("cus_1")) == (f"tg:v1:{{{tag}}}:open", f"tg:v1:{{{tag}}}:due")
    assert [index_member("cus_1", 29_000_000), index_member("cus_1", 29_000_000, 7)] == [
        "cus_1:29000000",
        "cus_1:29000000:7",
    ]
    assert due_member("cus_1", "7") == "cus_1:7"
    owner = Owner("sub_1", "pro@3", "fam_1")
    route = "GET /v1/{id}|x"
    assert usage_field(owner, "requests", ALLOWED, route) == f"sub_1|pro@3|fam_1|requests|allowed|||{route}"
    late = usage_field(owner, "bytes", OVERAGE, route, entry=REFUND, at=29_000_000)
    assert late == f"sub_1|pro@3|fam_1|bytes|overage|refund|29000000|{route}"
    limits = [rate(1, 1), quota(1), quota(1, PeriodUnit.DAY), prepaid(1), rate(1, 1, is_shadow=True)]
    assert [counter_field(limit) for limit in limits] == [
        "r:burst",
        "q:monthly:month",
        "q:monthly:day",
        "c:prepaid",
        "shadow:r:burst",
    ]


def test_all_keys_of_a_customer_share_a_slot() -> None:
    """One script call touches one slot of a cluster, the bucket it names itself included."""
    limits = [quota(1, per=per) for per in CountedPer] + [at_once(1)]
    keys, _ = Form(asking(*limits)).call("acquire", "7", Present(ManualClock(START_AT)))
    assert len(keys) == 7
    others = [usage_bucket("cus_1", 29_000_000), first_use_key(ALICE), index_key("cus_1"), due_key("cus_1")]
    assert len({key_slot(key.encode()) for key in [*keys, *others]}) == 1


@given(st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_tag_is_in_the_slot_of_its_customer(customer: str) -> None:
    """What is shared by the customers of a slot is in that slot, whatever they are called, and has a short name."""
    tag = slot_tag(customer)
    assert key_slot(index_key(customer).encode()) == key_slot(usage_bucket(customer, 1).encode())
    assert len(tag) == 4


def test_each_slot_has_an_index_and_a_set_of_what_is_due() -> None:
    """Whoever goes through all of them finds every customer."""
    for keys in (index_keys(), due_keys()):
        assert {key_slot(key.encode()) for key in keys} == set(range(SLOTS))
        assert len(keys) == SLOTS
    assert index_key("cus_1") in index_keys()


def test_a_grant_is_found_wherever_the_subscription_goes() -> None:
    """A bucket's counter is named by limit and grant, and belongs to no set of counters begun afresh."""
    limit = prepaid(1, buckets=(CreditBucket("crd_1", 5, START_AT),))
    for subject in (ALICE, replace(ALICE, counters="chg_1")):
        ((own, bucket),) = places(asking(limit, subject=subject))
        assert own == (record_key(subject, CountedPer.SUBSCRIPTION), "c:prepaid")
        assert bucket == ("tg:v1:{cus_1}:s:sub_1", "c:prepaid:crd_1")


CHANGES = {
    "amount": 77,
    "burst": 77,
    "window_us": 77,
    "on_exceed": OnExceed.OVERAGE,
    "ceiling": 77,
    "fail": FailPolicy.OPEN,
    "meter": "bytes",
    "hold_s": 77,
    "refill": CreditRefill(77, Calendar(PeriodUnit.MONTH), START_AT),
    "buckets": (CreditBucket("crd_1", 77, START_AT),),
    "is_leased": True,
}


@pytest.mark.parametrize("limit", [rate(1, 1), quota(1), prepaid(1), at_once(1)], ids=lambda limit: limit.kind)
@pytest.mark.parametrize("change", CHANGES)
def test_a_name_knows_nothing_of_what_a_plan_may_change(limit: Limit, change: str) -> None:
    """Raising, lowering or re-pricing a limit finds the same counter again."""
    changed = replace(limit, **{change: CHANGES[change]})  # type: ignore[arg-type]
    assert counter_field(changed) == counter_field(limit)
    assert record_key(ALICE, changed.per) == record_key(ALICE, limit.per)


def test_every_field_of_a_limit_is_decided_upon() -> None:
    """A field added to `Limit` must be put either into its counter's name or among what may change."""
    named = {"name", "kind", "calendar", "per", "is_shadow"}
    assert {field.name for field in fields(Limit)} == named | set(CHANGES)


def test_no_limit_can_take_the_expiry_for_itself() -> None:
    """Whatever a limit is called, its field differs from the record's expiry."""
    assert all(counter_field(limit) != EXPIRY_FIELD for limit in (rate(1, 1, name="x"), prepaid(1, name="x")))
    assert ":" not in EXPIRY_FIELD


def test_subjects_do_not_meet() -> None:
    """A subscription and a family of the same id have records of their own."""
    twins = Subject("same", "same", "same")
    assert len({record_key(twins, per) for per in CountedPer}) == 3
    assert not record_key(twins, CountedPer.CUSTOMER).startswith(usage_prefix("same"))


def test_overage_counts_where_the_quota_did() -> None:
    """Turning a hard quota into pay-as-you-go in mid-period keeps what was used."""
    assert counter_field(overage(5)) == counter_field(quota(3))
