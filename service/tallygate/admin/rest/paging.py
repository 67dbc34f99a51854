"""Cursor pages: `{items, next_cursor}`.

A cursor says where the page before ended, and nothing of what comes next: rows added or removed meanwhile
neither repeat nor hide those that were there all along. Clients hand it back as they got it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from tallygate.admin.records import Json, as_json
from tallygate.admin.rest.representation import Answer

MAXIMUM_PAGE = 1000
_DEFAULT_PAGE = 100
T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=MAXIMUM_PAGE, description="Items at most.")]


class Page(BaseModel, Generic[T]):
    """Part of a list; `next_cursor` is null at its end."""

    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list is asked for."""

    cursor: str | None
    limit: int

    async def page(
        self,
        rows: Callable[[str, int], Awaitable[Sequence[T]]],
        place: Callable[[T], str],
        represent: Callable[[T], Json] = as_json,
    ) -> Answer:
        """Return the page: `rows(after, limit)` gives them, `place` is what `after` was for one of them."""
        found = await rows(self.cursor or "", self.limit + 1)
        items = found[: self.limit]
        next_cursor = place(items[-1]) if len(found) > self.limit else None
        return Answer({"items": [represent(item) for item in items], "next_cursor": next_cursor})


def paging(pattern: str) -> Callable[[str | None, int], Paging]:
    """Return the parameters of a list whose cursors look like `pattern`."""

    def read(
        cursor: Annotated[str | None, Query(pattern=pattern, description="The page before's next_cursor.")] = None,
        limit: Limit = _DEFAULT_PAGE,
    ) -> Paging:
        return Paging(cursor, limit)

    return read


def whole(items: Sequence[Json]) -> Answer:
    """Return a list that is always one page."""
    return Answer({"items": list(items), "next_cursor": None})


ById = Annotated[Paging, Depends(paging("^[a-z]{3}_[0-9a-z]{26}$"))]
ByPlan = Annotated[Paging, Depends(paging("^[a-z][a-z0-9_-]{0,62}@[1-9][0-9]{0,8}$"))]
ByNumber = Annotated[Paging, Depends(paging("^[0-9]{1,18}$"))]
