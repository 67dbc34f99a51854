"""Remembering which tokens were used: cheap, bounded, and nothing lost while the database is away."""

from collections.abc import Sequence

import pytest

from tallygate.core.errors import StoreUnavailableError
from tallygate.licenses.last_used import MAXIMUM_TOKENS, LastUsed


class Store:
    """Keeps what it is told, when it answers."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.told: list[list[str]] = []
        self.is_up = True

    async def note_used(self, tokens: Sequence[str]) -> None:
        """Keep, or fail."""
        if not self.is_up:
            raise StoreUnavailableError
        self.told.append(list(tokens))


async def test_a_token_is_told_of_once_between_two_tellings() -> None:
    """A million requests of one token are one row, not a million."""
    used, store = LastUsed(), Store()
    for token in ("tok_2", "tok_1", "tok_2"):
        used.note(token)
    await used.hand_on(store)
    await used.hand_on(store)
    assert store.told == [["tok_1", "tok_2"]]


async def test_what_could_not_be_told_is_told_later() -> None:
    """An outage of the database delays the instants and loses none."""
    used, store = LastUsed(), Store()
    store.is_up = False
    used.note("tok_1")
    with pytest.raises(StoreUnavailableError):
        await used.hand_on(store)
    store.is_up = True
    used.note("tok_2")
    await used.hand_on(store)
    assert store.told == [["tok_1", "tok_2"]]


async def test_memory_is_bounded() -> None:
    """However many tokens are used, a worker remembers so many between two tellings."""
    used, store = LastUsed(), Store()
    for number in range(MAXIMUM_TOKENS + 10):
        used.note(f"tok_{number}")
    await used.hand_on(store)
    assert len(store.told[0]) == MAXIMUM_TOKENS
