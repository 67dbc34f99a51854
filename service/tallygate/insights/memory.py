"""The shadow's counts in this process's memory: for tests and simulations."""

from collections import Counter

from tallygate.insights.shadow import ShadowReport, report_of


class MemoryShadowLedger:
    """Adds up in a dictionary."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._counts: Counter[tuple[str, str, str]] = Counter()

    async def add(self, counts: Counter[tuple[str, str, str]]) -> None:
        """Add a worker's counts."""
        self._counts.update(counts)

    async def report(self, shadow: str, top: int = 20) -> ShadowReport:
        """Return what was counted for a shadow."""
        own = {(subscription, reason): n for (name, subscription, reason), n in self._counts.items() if name == shadow}
        return report_of(shadow, own, top)

    async def forget(self, shadow: str) -> None:
        """Begin the counts of a shadow afresh."""
        for key in [key for key in self._counts if key[0] == shadow]:
            del self._counts[key]
