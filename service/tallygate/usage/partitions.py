"""How long the ledger keeps what: minutes and hours for as many days as the operator says, days and months for ever.

Owns the policy, and its one exception: entries that an export has not sent are kept for up to `MOST_WAIT_DAYS` longer.
The partitions themselves are made and dropped by functions of the schema. Failure: StoreUnavailableError; a partition
that is in use is dropped another time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from tallygate.core.clock import Clock
from tallygate.usage.postgres import PostgresLedger

MOST_WAIT_DAYS = 30
"""How much longer than they are to be kept entries wait for an export; then they are dropped, and that is told."""
_ENTRIES = "usage_entries_"
_log = structlog.get_logger("tallygate.usage")


@dataclass(frozen=True, slots=True)
class Tended:
    """What a round came to: for how long entries outlive their time, by the export that has not sent them.

    `dropped` are names of partitions; `unsent` of these are not before the first entry that an export had not sent.
    """

    waiting: Mapping[str, timedelta] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    unsent: int = 0


class Retention:
    """Keeps the ledger's partitions as they should be."""

    def __init__(self, ledger: PostgresLedger, clock: Clock, *, minutes_days: int, hours_days: int) -> None:
        """Keep entries and hours for so many days; 0 keeps them for ever."""
        self._ledger = ledger
        self._clock = clock
        self._minutes = timedelta(days=minutes_days) if minutes_days else None
        self._hours = timedelta(days=hours_days) if hours_days else None

    async def tend(self) -> Tended:
        """Make the partitions of the months to come, and drop those whose time is over."""
        now = self._clock.now()
        hours = None if self._hours is None else now - self._hours
        if self._minutes is None:
            return _told(await self._ledger.keep(now, entries=None, hours=hours), {}, now)
        over_at = now - self._minutes
        unsent = await self._ledger.unsent(over_at)
        dropped_to = max(min([over_at, *unsent.values()]), over_at - timedelta(days=MOST_WAIT_DAYS))
        return _told(await self._ledger.keep(now, entries=dropped_to, hours=hours), unsent, over_at)


def _told(dropped: list[str], unsent: Mapping[str, datetime], over_at: datetime) -> Tended:
    if dropped:
        _log.info("usage is older than it is to be kept, and was dropped", partitions=dropped)
    begin = [f"{_ENTRIES}{at:%Y_%m}" for at in unsent.values()]
    lost = [each for each in dropped if each.startswith(_ENTRIES) and any(each >= first for first in begin)]
    if lost:
        _log.error("usage was dropped that exports had not sent", partitions=lost, exports=sorted(unsent))
    return Tended({export: over_at - at for export, at in unsent.items()}, tuple(dropped), len(lost))
