"""The memory of keys that were good a moment ago: for how long, how many, and what it holds."""

from datetime import UTC, datetime

from tallygate.admin.rest.familiar import FamiliarKeys
from tallygate.core.clock import ManualClock


def test_a_key_is_familiar_for_a_while_after_its_last_use() -> None:
    """Each use begins the time anew; when it is over, or the key is forgotten, it is a stranger's again."""
    clock = ManualClock(datetime(2027, 1, 1, tzinfo=UTC))
    keys = FamiliarKeys(clock.monotonic, lasts_s=60)
    assert not keys.knows("one")
    for _ in range(2):
        keys.remember("one")
        clock.advance(59)
        assert keys.knows("one")
    clock.advance(1)
    assert not keys.knows("one")
    keys.remember("two")
    keys.forget("two")
    assert not keys.knows("two")


def test_only_so_many_are_kept() -> None:
    """Beyond its bound the one used longest ago is forgotten."""
    keys = FamiliarKeys(lambda: 0.0, most=2)
    for secret in ("one", "two", "one", "three"):
        keys.remember(secret)
    assert [keys.knows(secret) for secret in ("one", "two", "three")] == [True, False, True]


def test_no_key_is_held() -> None:
    """What the memory holds is neither a key nor a digest another process could compute."""
    one, other = FamiliarKeys(lambda: 0.0), FamiliarKeys(lambda: 0.0)
    for keys in (one, other):
        keys.remember("a secret")
    assert one._until_s.keys() != other._until_s.keys()
    assert b"a secret" not in b"".join(one._until_s)
