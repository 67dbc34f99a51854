"""Rows of upkeep: what can be forgotten, and how many tokens there are."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from tallygate.admin.postgres import Statements


class UpkeepRows:
    """Tables as wholes."""

    def __init__(self, statements: Statements, now: datetime) -> None:
        """Use statements that are inside a transaction; `now` is its instant."""
        self._sql = statements
        self._now = now

    async def prune_changes(self, kept: timedelta) -> None:
        """Forget license changes that are older."""
        await self._sql.run("prune_changes", kept)

    async def tokens_by_state(self) -> Mapping[str, int]:
        """Return the number of tokens in each state that there are any in."""
        return {row["state"]: row["tokens"] for row in await self._sql.rows("tokens_by_state", self._now)}
