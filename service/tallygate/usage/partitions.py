"""How long the ledger keeps what: minutes and hours for as many days as the operator says, days and months for ever.

Owns the policy; the partitions themselves are made and dropped by functions of the schema. Failure:
StoreUnavailableError; a partition that is in use is dropped another time.
"""

from datetime import timedelta

import structlog

from tallygate.core.clock import Clock
from tallygate.usage.postgres import PostgresLedger

_log = structlog.get_logger("tallygate.usage")


class Retention:
    """Keeps the ledger's partitions as they should be."""

    def __init__(self, ledger: PostgresLedger, clock: Clock, *, minutes_days: int, hours_days: int) -> None:
        """Keep entries and hours for so many days; 0 keeps them for ever."""
        self._ledger = ledger
        self._clock = clock
        self._minutes = timedelta(days=minutes_days) if minutes_days else None
        self._hours = timedelta(days=hours_days) if hours_days else None

    async def tend(self) -> None:
        """Make the partitions of the months to come, and drop those whose time is over."""
        dropped = await self._ledger.keep(self._clock.now(), entries=self._minutes, hours=self._hours)
        if dropped:
            _log.info("usage is older than it is to be kept, and was dropped", partitions=dropped)
