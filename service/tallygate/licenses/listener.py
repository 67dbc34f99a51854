"""The change listener: hears of every license change, by notification or by reading the change log.

Owns one connection of its own, on which it does LISTEN *before* it reads what it missed, so no change
falls between the two. Does not own what a change means (`cache`). `run` is a supervised task: it ends
only when cancelled, and meets a lost connection with growing, jittered pauses.

Notifications make it fast, the log makes it certain: after every connect, after a gap in the numbers,
and every `poll_s` seconds it reads what came after the last number it has seen. The same poll asks the
listening connection for an answer, so that one that is dead without a word is noticed.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog

from tallygate.core.clock import Clock
from tallygate.core.errors import StoreUnavailableError, TallygateError
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.store import Change, LicenseStore
from tallygate.storage.postgres import Connection, connect, store_errors

CHANNEL = "license_changed_v1"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

_log = structlog.get_logger(__name__)
_change = msgspec.json.Decoder(Change)


class ChangeListener:
    """Keeps a cache informed."""

    def __init__(
        self,
        dsn: str,
        store: LicenseStore,
        cache: LicenseCache,
        clock: Clock,
        *,
        poll_s: float = 5.0,
        deadline_s: float = 2.0,
        channel: str = CHANNEL,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Listen at `dsn` (Postgres itself, no transaction pooler) and read the log through `store`.

        Each exchange on the listening connection must be answered within `deadline_s`.
        """
        self._dsn = dsn
        self._store = store
        self._cache = cache
        self._clock = clock
        self._poll_s = poll_s
        self._deadline_s = deadline_s
        self._channel = channel
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._has_begun = asyncio.Event()
        self._is_lost = False
        self._pauses = 0
        self._synchronised_at = clock.monotonic()
        self.is_synchronised = False
        """Whether every change up to the last poll is known and a connection listens for the next."""
        self.last_generation: int | None = None
        """The newest change up to which all are known; None before the first."""

    @property
    def staleness_s(self) -> float:
        """Return seconds since every license change was last known (since the start, before the first time)."""
        return self._clock.monotonic() - self._synchronised_at

    async def begun(self) -> None:
        """Return once all is known for the first time: the changes so far and the route table."""
        await self._has_begun.wait()

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except TallygateError as error:
                _log.warning("license changes are not heard, trying again", error=str(error))
            except Exception:  # noqa: BLE001 - a supervised task outlives its own mistakes
                _log.exception("the change listener failed, starting again")
            self.is_synchronised = False
            await asyncio.sleep(self._next_pause_s())

    def _next_pause_s(self) -> float:
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._pauses, 16))
        self._pauses += 1
        return pause_s * (0.5 + 0.5 * self._jitter())

    async def _listen(self) -> None:
        async with self._connection() as connection:
            while True:
                # Cleared first: a notification that comes while we read wakes us once more.
                self._wake.clear()
                await self._catch_up()
                await self._wait_for_news(connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = await connect(
            self._dsn,
            application_name="tallygate-listener",
            connect_timeout_s=self._deadline_s,
            command_timeout_s=self._deadline_s,
        )
        self._is_lost = False
        try:
            connection.add_termination_listener(self._on_termination)
            with store_errors("listen for license changes"):
                await connection.add_listener(self._channel, self._on_notification)
                yield connection
        finally:
            # Not a polite close: that would wait for a server which may be gone.
            connection.terminate()

    async def _wait_for_news(self, connection: Connection) -> None:
        """Return when the log should be read: on a gap or a change of the routes, and every `poll_s`."""
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            await connection.execute("SELECT 1")
        if self._is_lost:
            message = "the listening connection was closed"
            raise StoreUnavailableError(message)

    async def _catch_up(self) -> None:
        if self.last_generation is None:
            await self._begin_afresh()
        else:
            seen = await self._store.changes_since(self.last_generation)
            if seen.is_complete:
                for change in seen.changes:
                    self._apply(change)
            else:
                _log.warning("the change log does not reach back to us, starting afresh", last=self.last_generation)
                await self._begin_afresh()
        if not self._cache.are_routes_current:
            await self._cache.load_routes()
        self._pauses = 0
        self._synchronised_at = self._clock.monotonic()
        self.is_synchronised = True
        self._has_begun.set()

    async def _begin_afresh(self) -> None:
        generation = await self._store.generation()
        self._cache.resynchronise(generation)
        self.last_generation = generation

    def _apply(self, change: Change) -> None:
        self._cache.apply(change)
        self.last_generation = max(change.generation, self.last_generation or 0)

    def _on_notification(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            change = _change.decode(str(payload))
        except msgspec.DecodeError:
            self._wake.set()  # someone else's words: the log will tell
            return
        if self.last_generation is not None and change.generation == self.last_generation + 1:
            self._apply(change)
            if self._cache.are_routes_current:
                return
        else:
            self._cache.apply(change)  # at once, whatever came before it
        self._wake.set()

    def _on_termination(self, _connection: object) -> None:
        self._is_lost = True
        self._wake.set()
