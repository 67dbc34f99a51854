"""Whatever happens in whatever order, the cache serves nothing older than it may."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from support.license_gate import GatedStore, settle
from support.licensing import digest_of, license_of
from support.terms import START_AT

from tallygate.core.clock import ManualClock
from tallygate.core.errors import StoreUnavailableError
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.license import License
from tallygate.licenses.store import Change

PROMISE_S = 30.0
KEY = (digest_of(1),)
EVENTS = ["change", "change", "tell", "tell last", "ask", "ask", "ask", "hold", "release", "lose", "return", "afresh"]
STEP = st.sampled_from([*EVENTS, 1.0, 10.0, 20.0, 35.0])
STEPS = st.lists(STEP, min_size=10, max_size=40)


@dataclass
class Asked:
    """A request: what was known, and what had been true for longer than the promise, when it was made."""

    request: "asyncio.Task[License | None]"
    told: int
    overdue: int


@dataclass
class World:
    """A store that changes, a cache that is told or not, and requests under way."""

    store: GatedStore = field(default_factory=GatedStore)
    clock: ManualClock = field(default_factory=lambda: ManualClock(START_AT))
    untold: list[Change] = field(default_factory=list)
    made: list[tuple[float, int]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    told: int = 0
    reachable_since: float = 0.0

    def __post_init__(self) -> None:
        """Begin with one good token."""
        self.cache = LicenseCache(self.store, self.clock)
        self.change()

    def change(self) -> None:
        """Write a license whose `generation` says which it is."""
        number = len(self.made) + 1
        self.untold.append(self.store.put(digest_of(1), license_of(1, generation=number)))
        self.made.append((self.clock.monotonic(), number))

    def tell(self, index: int) -> None:
        """Notify the cache of one change, not always of the oldest."""
        if self.untold:
            change = self.untold.pop(index)
            self.told = max(self.told, change.generation)
            self.cache.apply(change)

    def ask(self) -> None:
        """Make a request."""
        now = self.clock.monotonic()
        is_reachable = self.store.is_available and now - self.reachable_since >= PROMISE_S
        overdue = max((number for at, number in self.made if is_reachable and at <= now - PROMISE_S), default=0)
        self.asked.append(Asked(asyncio.ensure_future(self.cache.get(KEY)), self.told, overdue))

    def lose(self) -> None:
        """Cut the store off; what is being read may fail now, and what is old may then be served."""
        self.store.is_available = False
        for asked in self.asked:
            if not asked.request.done():
                asked.overdue = 0

    def regain(self) -> None:
        """Bring the store back."""
        self.store.is_available = True
        self.reachable_since = self.clock.monotonic()

    async def step(self, step: str | float) -> None:
        """Let one thing happen, and everything that follows from it by itself."""
        events: dict[str, Callable[[], None]] = {
            "change": self.change,
            "tell": lambda: self.tell(0),
            "tell last": lambda: self.tell(-1),
            "ask": self.ask,
            "hold": self.store.hold,
            "release": self.store.release,
            "lose": self.lose,
            "return": self.regain,
            "afresh": lambda: self.cache.resynchronise(self.store._newest),
        }
        if isinstance(step, str):
            events[step]()
        else:
            self.clock.advance(step)
        await settle(5)


async def live(steps: list[str | float]) -> None:
    """Live through `steps` and check every answer."""
    world = World()
    for step in steps:
        await world.step(step)
    world.store.release()
    for asked in world.asked:
        try:
            entry = await asked.request
        except StoreUnavailableError:
            continue
        assert entry is not None
        assert entry.generation >= asked.told, "older than a change the cache had been told of"
        assert entry.generation >= asked.overdue, "older than the promise although the store could be read"
    await world.cache.close()


@settings(max_examples=400, deadline=None)
@given(STEPS)
def test_no_answer_is_older_than_what_was_known_or_than_the_promise(steps: list[str | float]) -> None:
    """Through slow reads, outages, lost and disordered notifications a revocation never un-happens."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(live(steps))
    finally:
        loop.close()
