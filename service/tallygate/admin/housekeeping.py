"""What the control plane's tables need from time to time, and how many tokens there are; nobody's act, not audited."""

from collections.abc import Mapping
from datetime import timedelta

from tallygate.admin.desk import Desk

_CHANGES_KEPT = timedelta(days=7)
"""A data plane that was away for longer reads everything anew."""


class Housekeeping:
    """Forget what is of no use any more, and count what there is."""

    def __init__(self, desk: Desk) -> None:
        """Work at `desk`."""
        self._desk = desk

    async def prune(self) -> None:
        """Forget license changes of long ago, and some answers whose idempotency keys have run out."""
        async with self._desk.transaction() as rows:
            await rows.answers.prune()
            await rows.upkeep.prune_changes(_CHANGES_KEPT)

    async def tokens(self) -> Mapping[str, int]:
        """Return the number of tokens by state. It goes through all of them."""
        async with self._desk.transaction() as rows:
            return await rows.upkeep.tokens_by_state()
