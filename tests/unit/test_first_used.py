"""Handing on when subscriptions were first used: once each, bounded, and nothing lost while the database is away."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from tallygate.core.errors import StoreUnavailableError
from tallygate.licenses.first_used import AT_ONCE, MAXIMUM_SUBSCRIPTIONS, FirstUses

AT = datetime(2026, 6, 15, 12, tzinfo=UTC)
LATER = AT + timedelta(hours=1)


class Store:
    """Keeps what it is told, when it answers; `busy` are those that somebody is changing."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.told: list[dict[str, datetime]] = []
        self.busy: set[str] = set()
        self.is_up = True

    async def note_first_uses(self, uses: Mapping[str, datetime]) -> Collection[str]:
        """Keep, or fail."""
        if not self.is_up:
            raise StoreUnavailableError
        self.told.append({name: at for name, at in uses.items() if name not in self.busy})
        return self.busy & uses.keys()


async def test_a_process_tells_of_a_subscription_once() -> None:
    """However many requests follow, and whatever they say later: the first instant is told, and told once."""
    uses, store = FirstUses(), Store()
    for at in (LATER, AT, LATER):
        uses.note("sub_1", at)
    await uses.hand_on(store)
    uses.note("sub_1", AT)
    uses.note("sub_2", LATER)
    await uses.hand_on(store)
    await uses.hand_on(store)
    assert store.told == [{"sub_1": AT}, {"sub_2": LATER}]


async def test_what_could_not_be_told_is_told_later() -> None:
    """An outage of the database, or somebody who is changing the subscription, delays an instant and loses none."""
    uses, store = FirstUses(), Store()
    store.is_up = False
    uses.note("sub_1", AT)
    with pytest.raises(StoreUnavailableError):
        await uses.hand_on(store)
    store.is_up, store.busy = True, {"sub_1"}
    uses.note("sub_2", AT)
    await uses.hand_on(store)
    store.busy = set()
    await uses.hand_on(store)
    await uses.hand_on(store)
    assert store.told == [{"sub_2": AT}, {"sub_1": AT}]


async def test_who_is_being_changed_keeps_nobody_waiting() -> None:
    """Those that have to be told again go to the end of the line."""
    uses, store = FirstUses(), Store()
    store.busy = {f"sub_{number}" for number in range(AT_ONCE)}
    for number in range(AT_ONCE + 1):
        uses.note(f"sub_{number}", AT)
    await uses.hand_on(store)
    await uses.hand_on(store)
    assert store.told == [{}, {f"sub_{AT_ONCE}": AT}]


async def test_a_database_that_has_forgotten_is_told_again() -> None:
    """Once a license had the instant and no longer has it, as after a restore, the process tells what it knows."""
    uses, store = FirstUses(), Store()
    for _ in range(2):
        uses.note("sub_1", AT)
        await uses.hand_on(store)
        uses.settle("sub_1")
    assert store.told == [{"sub_1": AT}] * 2


async def test_memory_is_bounded() -> None:
    """However many trials begin while the database is away, so many wait; each telling takes a bounded part."""
    uses, store = FirstUses(), Store()
    for number in range(MAXIMUM_SUBSCRIPTIONS + 10):
        uses.note(f"sub_{number}", AT)
    for _ in range(MAXIMUM_SUBSCRIPTIONS // AT_ONCE + 1):
        await uses.hand_on(store)
    assert [len(told) for told in store.told] == [AT_ONCE] * (MAXIMUM_SUBSCRIPTIONS // AT_ONCE)
    uses.note(f"sub_{MAXIMUM_SUBSCRIPTIONS + 1}", AT)
    await uses.hand_on(store)
    assert store.told[-1] == {f"sub_{MAXIMUM_SUBSCRIPTIONS + 1}": AT}
