"""A license store that can be held: its reads take their snapshot, then wait to be let go."""

import asyncio
from collections.abc import Sequence

from tallygate.licenses.memory import MemoryLicenseStore
from tallygate.licenses.store import Found


class GatedStore(MemoryLicenseStore):
    """The memory store, counting its reads and able to be slow at the worst moment."""

    def __init__(self) -> None:
        """Begin empty and open."""
        super().__init__()
        self.reads = 0
        self.running = 0
        self.most_running = 0
        self.arrived = asyncio.Condition()
        self._gate = asyncio.Event()
        self._gate.set()

    def hold(self) -> None:
        """Let reads that come from now on see the present state and answer later."""
        self._gate.clear()

    def release(self) -> None:
        """Let every read answer."""
        self._gate.set()

    async def wait_for_reads(self, number: int) -> None:
        """Return once `number` reads have begun in all."""
        async with self.arrived, asyncio.timeout(10):
            await self.arrived.wait_for(lambda: self.reads >= number)

    async def find(self, digests: Sequence[bytes]) -> Found:
        """Read now, answer when the gate is open."""
        self.reads += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            found = await super().find(digests)
            async with self.arrived:
                self.arrived.notify_all()
            await self._gate.wait()
            return found
        finally:
            self.running -= 1


async def settle(rounds: int = 20) -> None:
    """Let every task that can run do so."""
    for _ in range(rounds):
        await asyncio.sleep(0)
