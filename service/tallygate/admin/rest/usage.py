"""`/v1/usage`: what was counted, by hour, day or month, up to this moment.

A cursor is the key of a row (`usage.question`): rows that come to be meanwhile neither repeat nor hide others, though
one that was read may have grown. Not written by hand: whatever of its form is no key of these columns is refused.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from tallygate.admin.rest.access import Viewer
from tallygate.admin.rest.paging import Paging, paging
from tallygate.admin.rest.representation import Answer
from tallygate.admin.rest.values import FamilyId, Instant, PlanRef, Ref, SubscriptionId
from tallygate.admin.usage import row_as_json
from tallygate.core.errors import InputError
from tallygate.usage.question import By, Column, Key, UsageQuery

router = APIRouter(prefix="/usage", tags=["usage"])

_COLUMNS = "|".join(Column)
_LONGEST_CURSOR = 8000
ByKey = Annotated[Paging, Depends(paging(f"^[A-Za-z0-9_-]{{1,{_LONGEST_CURSOR}}}$"))]
Named = Annotated[str, Query(min_length=1, max_length=500, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Columns = Annotated[str, Query(pattern=f"^({_COLUMNS})(,({_COLUMNS}))*$", max_length=100)]


class UsageRowView(BaseModel):
    """Units of a meter in a stretch of time; null: added up over all of that."""

    customer: str | None
    subscription: str | None
    family: str | None
    plan: str | None
    meter: str | None
    route: str | None
    outcome: str | None
    from_at: datetime = Field(serialization_alias="from", validation_alias="from")
    to_at: datetime = Field(serialization_alias="to", validation_alias="to")
    quantity: int


class UsageView(BaseModel):
    """Part of the rows; `live` tells that all that was counted up to now is in them, `lacks` what is not."""

    items: list[UsageRowView]
    next_cursor: str | None
    live: bool
    lacks: str | None


@router.get("", response_model=UsageView)
async def list_(
    call: Viewer,
    page: ByKey,
    customer: Annotated[Ref | None, Query(description="Only this customer's: id or key.")] = None,
    subscription: Annotated[SubscriptionId | None, Query(description="Only of this subscription.")] = None,
    family: Annotated[FamilyId | None, Query(description="Only of this token family.")] = None,
    plan: Annotated[PlanRef | None, Query(description="Only under this version, or under any of `pro`.")] = None,
    meter: Annotated[Named | None, Query(description="Only of this meter.")] = None,
    route: Annotated[Named | None, Query(description="Only of this rule, such as GET /v1/things.")] = None,
    outcome: Annotated[
        Literal["allowed", "overage"] | None, Query(description="Only within amounts, or beyond.")
    ] = None,
    from_at: Annotated[
        Instant | None, Query(alias="from", description="From here on; the month's beginning if left out.")
    ] = None,
    to_at: Annotated[
        Instant | None, Query(alias="to", description="Until here, excluded; the end of the present unit if left out.")
    ] = None,
    by: Annotated[
        By, Query(description="How long a stretch a row is about; both instants begin one, in UTC.")
    ] = By.DAY,
    group_by: Annotated[
        Columns | None, Query(description="What rows are told apart by, besides time; all of it.")
    ] = None,
) -> Response:
    """List usage: of hours, days or months, with what was counted a moment ago. No row is the total of others."""
    query = await call.operations.usage.question(
        by=by,
        from_at=from_at,
        to_at=to_at,
        customer=customer,
        subscription=subscription,
        family=family,
        plan=plan,
        meter=meter,
        route=route,
        outcome=outcome,
        columns=group_by.split(",") if group_by else (),
    )
    after = None if page.cursor is None else _key(query, page.cursor)
    found = await call.backstage.usage.page(query, after, page.limit)
    return Answer({
        "items": [row_as_json(row) for row in found.rows],
        "next_cursor": None if found.after is None else _cursor(found.after),
        "live": found.lacks is None,
        "lacks": found.lacks,
    }).response()  # fmt: skip


def _cursor(key: Key) -> str:
    parts = [part.isoformat() if isinstance(part, datetime) else part for part in key]
    return urlsafe_b64encode(json.dumps(parts, ensure_ascii=False).encode()).decode().rstrip("=")


def _key(query: UsageQuery, cursor: str) -> Key:
    """Return the key of a cursor; raise InputError for one that is no key of this question's rows."""
    key = _read(cursor, query.time_at)
    if len(key) != len(query.columns) + 1:
        raise InputError("cursor", "is not one of this question", "pass on the page before's next_cursor")
    return key


def _read(cursor: str, time_at: int) -> Key:
    """Return the key in a cursor, an empty one where there is none."""
    try:
        parts = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        texts = [part for part in parts if b"\0" not in part.encode()]
        at = datetime.fromisoformat(texts.pop(time_at)).astimezone(UTC)
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
        return ()
    return (*texts[:time_at], at, *texts[time_at:])
