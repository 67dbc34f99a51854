"""The loader of named statements."""

import pytest

from tallygate.storage.queries import load, parse


def test_statements_are_called_by_name() -> None:
    """SQL stands in its own file with its guarantee above it; the server's logs show the name."""
    statements = parse("-- About.\n\n-- name: one\n-- Out: 1.\nSELECT 1\n\n-- name: two\nSELECT 2 -- really\n")
    assert list(statements) == ["one", "two"]
    assert statements["one"].startswith("-- one\n")
    assert statements["two"].endswith("SELECT 2 -- really")
    reads = {"find_license", "find_holder", "current_routes", "changes_since", "current_generation"}
    assert set(load("tallygate.licenses")) == reads | {"note_used", "note_first_uses"}


@pytest.mark.parametrize(
    "text",
    ["SELECT 1", "-- name: one\nSELECT 1\n-- name: one\nSELECT 2", "-- name: one\n-- nothing\n-- name: two\nSELECT 2"],
)
def test_a_malformed_file_of_statements_is_refused(text: str) -> None:
    """A statement without a name, with a name taken, or without SQL is found when the program starts."""
    with pytest.raises(ValueError, match=r"."):
        parse(text)
