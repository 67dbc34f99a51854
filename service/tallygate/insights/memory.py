"""The shadow's counts in this process's memory: for tests and simulations."""

from collections import Counter, defaultdict

from tallygate.insights.shadow import NAMED_IN_ALL, WHOLE, Counts, Pair, ShadowReport, report_of


class MemoryShadowLedger:
    """Adds up in a dictionary."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._counts: defaultdict[Pair, Counts] = defaultdict(Counter)

    async def add(self, beside: str, shadow: str, counts: Counts) -> None:
        """Add a worker's counts."""
        held = self._counts[beside, shadow]
        is_full = len(held) >= NAMED_IN_ALL
        held.update({whose: n for whose, n in counts.items() if not is_full or whose in held or whose[0] == WHOLE})

    async def report(self, beside: str, shadow: str, top: int = 20) -> ShadowReport:
        """Return what was counted for a shadow beside a version."""
        return report_of(self._counts[beside, shadow], top)

    async def forget(self, beside: str, shadow: str) -> None:
        """Begin the counts of a shadow beside a version afresh."""
        self._counts.pop((beside, shadow), None)
