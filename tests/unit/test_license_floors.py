"""Floors, the shelf and what is known to be absent: the bounded parts of the cache."""

import gc
import json
import sys
import tracemalloc
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from support.licensing import GRANT, TERMS, digest_of, license_of
from support.terms import START_AT, terms_of

from tallygate.licenses.absent import Absent
from tallygate.licenses.codec import decode_license, encode_license
from tallygate.licenses.floors import Floors
from tallygate.licenses.license import License
from tallygate.licenses.shelf import Entry, Shelf


def entry_of(entry: License) -> Entry:
    """Return `entry` as the cache would shelve it."""
    return Entry(entry, 1, 0.0, 10.0, 20.0, 0)


def test_the_highest_floor_of_what_a_license_is_made_of_counts() -> None:
    """A read must have seen the newest change of token, family, subscription and customer."""
    floors = Floors()
    entry = license_of(1)
    floors.raise_to(3, entry.customer)
    floors.raise_to(5, entry.family)
    floors.raise_to(9, license_of(2).customer)
    assert floors.under(entry) == 5
    assert floors.under(license_of(3)) == 0


def test_a_floor_never_sinks() -> None:
    """Changes that arrive late, from log and notification in any order, lower nothing."""
    floors = Floors()
    floors.raise_to(5, "cus_a")
    version = floors.version
    floors.raise_to(4, "cus_a")
    assert floors.under(license_of(1, customer="cus_a")) == 5
    assert floors.version == version


def test_only_a_change_of_a_token_makes_an_unknown_one_doubtful() -> None:
    """Suspending a customer does not make us read every invented token again."""
    floors = Floors()
    floors.raise_to(3, "cus_a")
    assert floors.under(None) == 0
    floors.raise_to(4, "tok_a")
    assert floors.under(None) == 4


def test_floors_are_bounded_and_forgetting_never_lets_anything_older_through() -> None:
    """After any number of changes each is still a floor: its own, or one under everything."""
    floors = Floors(max_subjects=100)
    for generation in range(1, 10_001):
        floors.raise_to(generation, f"cus_{generation}")
        assert len(floors) <= 100
    for generation in (1, 5_000, 9_900, 10_000):
        assert floors.under(license_of(1, customer=f"cus_{generation}")) >= generation
    assert floors.under(license_of(1)) <= 9_950, "what is read in the meantime stays believed"


def test_absent_digests_are_bounded_and_end() -> None:
    """Invented tokens take bounded memory and seconds, and a new token clears them all."""
    absent = Absent(5.0, 100)
    for number in range(1000):
        absent.add(digest_of(number), read_at=0.0)
        assert len(absent) <= 100
    assert absent.holds(digest_of(999), 4.9)
    assert not absent.holds(digest_of(999), 5.0)
    assert not absent.holds(digest_of(1), 1.0)
    absent.clear()
    assert not absent.holds(digest_of(999), 1.0)


def test_what_is_taken_from_the_shelf_gives_its_bytes_back() -> None:
    """The account of bytes returns to zero whatever comes and goes, shared terms included."""
    shelf = Shelf(max_entries=10, max_bytes=10**9)
    other = terms_of(replace(GRANT, plan="free@1"))
    for number in range(100):
        shelf.put(digest_of(number % 15), entry_of(license_of(number, terms=other if number % 3 else TERMS)))
    for number in range(15):
        shelf.drop(digest_of(number))
    assert (len(shelf), shelf.size_bytes) == (0, 0)


def test_an_entry_larger_than_the_shelf_is_not_kept() -> None:
    """Even one license cannot break the bound."""
    shelf = Shelf(max_entries=10, max_bytes=10)
    shelf.put(digest_of(1), entry_of(license_of(1)))
    assert (len(shelf), shelf.size_bytes) == (0, 0)


LARGE_GRANT = replace(
    GRANT,
    scopes=frozenset(f"resource{number}.read" for number in range(60)),
    features={f"feature_{number}": "some text" if number % 2 else number for number in range(60)},
    limits=tuple(replace(GRANT.limits[1], name=f"limit-{number}") for number in range(20)),
)
LARGE_TERMS = terms_of(LARGE_GRANT)
NETWORKS = tuple(ip_network(f"192.0.{number}.0/24") for number in range(10))


@pytest.mark.parametrize(
    ("entry", "shares_terms"),
    [
        (license_of(0, expires_at=START_AT), True),
        (license_of(0, scopes=frozenset({"things.read", "things.write"})), True),
        (license_of(0, networks=NETWORKS), True),
        (license_of(0), False),
        (license_of(0, terms=LARGE_TERMS), False),
    ],
    ids=["plain", "scopes", "networks", "own terms", "large terms"],
)
def test_the_estimate_of_bytes_is_honest(entry: License, *, shares_terms: bool) -> None:
    """An operator who gives the cache 256 MiB finds about that in use: within a quarter of what is measured."""
    texts = [json.dumps(encode_license(replace(license_of(number), **own(entry)))) for number in range(400)]
    shelf = Shelf(max_entries=10**6, max_bytes=10**9)
    # Python's table of interned texts grows in leaps; here it has leapt before.
    spare = [sys.intern(f"spare {number}") for number in range(100_000)]
    del spare
    gc.collect()
    tracemalloc.start()
    for number, text in enumerate(texts):
        read = decode_license(text, lambda _: TERMS) if shares_terms else decode_license(text)
        shelf.put(digest_of(number), Entry(read, 10**6 + number, number + 0.5, number + 1.5, number + 2.5, 0))
    gc.collect()
    measured, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.75 * measured < shelf.size_bytes < 1.25 * measured


def own(entry: License) -> dict[str, Any]:
    """Return what is not an id of `entry`."""
    return {name: getattr(entry, name) for name in ("terms", "scopes", "networks", "expires_at")}
