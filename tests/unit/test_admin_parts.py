"""The pure parts of the control plane: cohorts, derived secrets, the chain of the audit log."""

import hashlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallygate.admin.audit_chain import GENESIS, Chain, ChainedEntry
from tallygate.admin.derived import DerivedChoice
from tallygate.admin.versions import is_in_cohort
from tallygate.tokens.format import ALPHABET

SHARES = st.integers(0, 10_000).map(lambda hundredths: Decimal(hundredths) / 100)
NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


@given(st.text(), SHARES, SHARES)
def test_a_larger_share_takes_nobody_out(subscription: str, one: Decimal, other: Decimal) -> None:
    """Raising the percentage adds to the cohort; nobody is in none of it, everybody in all of it."""
    assert is_in_cohort(subscription, min(one, other)) <= is_in_cohort(subscription, max(one, other))
    assert not is_in_cohort(subscription, Decimal(0))
    assert is_in_cohort(subscription, Decimal(100))


def test_a_cohort_is_about_as_large_as_it_says() -> None:
    """And it is this one for ever: another hash would move those who had been left."""
    chosen = [number for number in range(10_000) if is_in_cohort(f"sub_{number}", Decimal(10))]
    assert 900 < len(chosen) < 1100
    assert chosen[:5] == [6, 10, 13, 31, 64]


def test_derived_characters_follow_from_the_seed_and_favour_none() -> None:
    """The same seed gives the same secret, another gives another, and every character is about as frequent."""

    def derived(seed: bytes, number: int) -> str:
        choose = DerivedChoice(seed)
        return "".join(choose(ALPHABET) for _ in range(number))

    assert derived(b"a" * 32, 30) == derived(b"a" * 32, 30) != derived(b"b" * 32, 30)
    counts = Counter(derived(b"a" * 32, 62_000))
    assert set(counts) == set(ALPHABET)
    assert all(850 < count < 1150 for count in counts.values())


def entries(number: int) -> list[ChainedEntry]:
    """Return a chain of so many entries."""
    made: list[ChainedEntry] = []
    for each in range(1, number + 1):
        previous = made[-1].hash if made else GENESIS
        bare = ChainedEntry(each, NOW, ("me", "act", f"object {each}", None, "{}", "", ""), previous, b"")
        made.append(replace(bare, hash=bare.computed()))
    return made


def test_the_hash_is_the_documented_one() -> None:
    """Anybody can compute it from the documentation alone."""
    entry = ChainedEntry(7, NOW, ("me", "é", "x", None, '{"a": 1}', "", "r"), GENESIS, b"")
    text = '1:7,27:2026-06-15T12:00:00.000000Z,2:me,2:é,1:x,-,8:{"a": 1},0:,1:r,'
    assert entry.computed() == hashlib.sha256(bytes(32) + text.encode()).digest()


def test_fields_do_not_run_into_each_other() -> None:
    """Moving a character from one field to the next is an alteration, and so is null for empty."""
    one = ChainedEntry(1, NOW, ("ab", "c", "", "", "", "", ""), GENESIS, b"")
    hashes = {
        replace(one, texts=texts).computed()
        for texts in (
            ("ab", "c", "", "", "", "", ""),
            ("a", "bc", "", "", "", "", ""),
            ("abc", "", "", "", "", "", ""),
            ("ab", "c", "", None, "", "", ""),
            ("ab", "c", "", "", None, "", ""),
        )
    }
    assert len(hashes) == 5


@pytest.mark.parametrize("gone", range(5))
def test_an_entry_that_is_gone_is_missed_wherever_it_was(gone: int) -> None:
    """First, middle, last: the chain or its head shows it; walking in pieces finds the same."""
    whole = entries(5)
    kept = [entry for entry in whole if entry.id != gone + 1]
    for size in (1, 2, 5):
        chain = Chain()
        for start in range(0, len(kept), size):
            chain.walk(kept[start : start + size])
        chain.end(whole[-1].id, whole[-1].hash)
        assert len(chain.problems) == 1
    chain = Chain()
    chain.walk(whole)
    chain.end(whole[-1].id, whole[-1].hash)
    assert chain.problems == []


def test_a_wholly_broken_log_is_told_in_few_lines() -> None:
    """A report stays readable, and bounded in memory."""
    chain = Chain(most=10)
    chain.walk([replace(entry, texts=()) for entry in entries(50)])
    assert (len(chain.problems), chain.entries) == (10, 50)
