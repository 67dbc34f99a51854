"""Fields of usage buckets: what is written is read, and what could not be stored is refused."""

import pytest

from tallygate.limits import keys
from tallygate.limits.keys import Owner, usage_field
from tallygate.usage.entry import minute_at, parse_field, summed

MINUTE = 29_000_000
OWNER = Owner("sub_1", "pro@3", "fam_1")
GOOD = "sub_1|pro@3|fam_1|requests|allowed|||GET /v1/things"


@pytest.mark.parametrize(
    ("entry", "name"),
    [("", "counted"), ("refund", "refund"), ("settlement", "settlement"), ("report", "report"), ("degraded",) * 2],
)
def test_what_the_limiter_writes_is_read(entry: str, name: str) -> None:
    """Every part comes back, a route with a bar in it too, and the minute of its own."""
    field = usage_field(OWNER, "tokens", keys.OVERAGE, "GET /a|b", entry=entry, at=MINUTE - 5)
    read = parse_field("cus_1", MINUTE, field.encode(), b"-7")
    assert (read.customer, read.subscription, read.plan, read.family) == ("cus_1", *OWNER)
    assert (read.meter, read.outcome, read.entry, read.route) == ("tokens", "overage", name, "GET /a|b")
    assert (read.minute_at, read.quantity) == (minute_at(MINUTE - 5), -7)


def test_without_a_minute_it_is_the_buckets() -> None:
    """Units counted as requests came belong to the minute of the bucket."""
    assert parse_field("cus_1", MINUTE, GOOD.encode(), b"1").minute_at == minute_at(MINUTE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"sub_1|pro@3|fam_1|requests|allowed||GET", b"1"),
        (b"sub_1|pro@3|fam_1|requests|allowed|||\xff", b"1"),
        (b"sub_1|pro@3|fam_1|requests|allowed|||a\0b", b"1"),
        (b"sub_1|pro@3|fam_1|requests|refused|||GET", b"1"),
        (b"sub_1|pro@3|fam_1|requests|allowed|counted||GET", b"1"),
        (b"sub_1|pro@3|fam_1|requests|allowed|refund|soon|GET", b"1"),
        (b"sub_1|pro@3|fam_1|requests|allowed|refund|-1|GET", b"1"),
        (b"sub_1|pro@3|fam_1|requests|allowed|refund|99999999999|GET", b"1"),
        (GOOD.encode() + b"x" * 2000, b"1"),
        (GOOD.encode(), b"many"),
        (GOOD.encode(), b"9007199254740992"),
    ],
    ids=repr,
)
def test_what_the_ledger_could_not_store_is_refused(field: bytes, value: bytes) -> None:
    """One bad field is told from good ones before anything is stored."""
    with pytest.raises(ValueError, match=r"."):
        parse_field("cus_1", MINUTE, field, value)


def test_entries_that_say_the_same_become_one() -> None:
    """No two rows of a bucket differ in their quantity alone, and nothing is stored for nothing."""
    same = GOOD.replace("|||", f"||{MINUTE}|")
    one, other = (parse_field("cus_1", MINUTE, field.encode(), b"3") for field in (GOOD, same))
    none = parse_field("cus_1", MINUTE, GOOD.replace("GET", "PUT").encode(), b"0")
    (sum_,) = summed([one, other, none])
    assert sum_.quantity == 6
