"""Structured fields are written as RFC 9651 has them."""

import pytest

from tallygate.envoy.structured_fields import LARGEST_INTEGER, BareItem, bare_item, dictionary, item


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "?1"),
        (False, "?0"),
        (0, "0"),
        (-42, "-42"),
        (LARGEST_INTEGER, "999999999999999"),
        (LARGEST_INTEGER + 1, '"1000000000000000"'),
        (1.0, "1.0"),
        (0.5, "0.5"),
        (2.0005, "2.0"),
        (2.0015, "2.002"),
        (-0.125, "-0.125"),
        (1e15, '"1000000000000000.0"'),
        (float("inf"), '"inf"'),
        ("pro", '"pro"'),
        ("", '""'),
        ('say "hi" \\', '"say \\"hi\\" \\\\"'),
        ("für", '%"f%c3%bcr"'),
        ('a\r\nb%"', '%"a%0d%0ab%25%22"'),
        ("\ud800", '%"?"'),
    ],
)
def test_bare_items_are_written_by_type(value: BareItem, text: str) -> None:
    """Every value a plan can hold has one spelling, and none holds a line break."""
    assert bare_item(value) == text


def test_items_carry_parameters_in_order() -> None:
    """Parameters follow the item as they were given; a true one is its key alone."""
    assert item("burst", [("q", 50), ("w", 1), ("soft", True)]) == '"burst";q=50;w=1;soft'


def test_dictionaries_are_sorted_and_true_members_are_keys_alone() -> None:
    """The same features always read the same."""
    assert dictionary({"reports": True, "beta": False, "max": 20, "tier": "gold"}) == (
        'beta=?0, max=20, reports, tier="gold"'
    )
    assert dictionary({}) == ""
