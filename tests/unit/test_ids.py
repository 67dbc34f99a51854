"""What identifiers promise: their kind, their shape, and their order."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.core.ids import new_id

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
instants = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive


def zeros(length: int) -> bytes:
    """Return entropy without any."""
    return bytes(length)


def milliseconds(identifier: str) -> int:
    """Read back the time an id was made, ms since 1970."""
    number = 0
    for digit in identifier.partition("_")[2][:10]:
        number = number * 32 + CROCKFORD.index(digit)
    return number


def test_an_id_is_a_ulid_behind_its_prefix() -> None:
    """A known instant and known entropy give the ULID that the specification's encoding gives."""
    at = EPOCH + timedelta(milliseconds=1_469_918_176_385)
    assert new_id("cus", at, zeros) == "cus_01aryz6s410000000000000000"
    assert new_id("tok", at, lambda length: b"\xff" * length) == "tok_01aryz6s41zzzzzzzzzzzzzzzz"


@given(instants)
def test_the_millisecond_is_exact(at: datetime) -> None:
    """An id never claims the millisecond before the one it was made in."""
    assert milliseconds(new_id("cus", at, zeros)) == (at - EPOCH) // timedelta(milliseconds=1)


@given(instants, instants)
def test_ids_sort_by_the_time_they_were_made(one: datetime, other: datetime) -> None:
    """A list in order of ids is a list in order of creation."""
    earlier, later = sorted((one, other))
    assert new_id("sub", earlier, zeros) <= new_id("sub", later, zeros)


def test_the_same_instant_in_another_zone_is_the_same_id() -> None:
    """An id depends on the instant, not on how it is written."""
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert new_id("fam", at.astimezone(timezone(timedelta(hours=5, minutes=45))), zeros) == new_id("fam", at, zeros)


def test_ids_of_one_millisecond_differ() -> None:
    """80 random bits keep apart what the clock does not, in the shape the database checks."""
    at = datetime(2026, 5, 1, tzinfo=UTC)
    ids = {new_id("cus", at) for _ in range(500)}
    assert len(ids) == 500
    assert all(re.fullmatch("cus_[0-9a-z]{26}", identifier) for identifier in ids)


def test_a_time_without_zone_is_refused() -> None:
    """A naive instant would be read in the machine's zone: it is an error, not a guess."""
    with pytest.raises(TypeError):
        new_id("cus", datetime(2026, 5, 1))  # noqa: DTZ001 - the mistake under test
