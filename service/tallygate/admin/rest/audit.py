"""`/v1/audit`: who did what, when and why; and whether the log is whole."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from tallygate.admin.records import AuditEntry, AuditReport
from tallygate.admin.rest.access import Admin, Viewer
from tallygate.admin.rest.paging import ByNumber, Page
from tallygate.admin.rest.representation import shown
from tallygate.admin.rest.values import Instant

router = APIRouter(prefix="/audit", tags=["audit"])

Word = Annotated[str, Query(max_length=200, pattern="^[!-~]+$")]


@router.get("", response_model=Page[AuditEntry])
async def list_(
    call: Viewer,
    page: ByNumber,
    object: Annotated[Word | None, Query(description="Only what was done to this id.")] = None,  # noqa: A002
    actor: Annotated[Word | None, Query(description="Only what they did, such as key:key_….")] = None,
    action: Annotated[Word | None, Query(description="Only such acts, such as token.revoke.")] = None,
    since: Annotated[Instant | None, Query(description="Only from this instant on.")] = None,
) -> Response:
    """List the audit log, oldest entry first."""
    found = await page.page(
        lambda after, limit: call.operations.audit.list(
            object=object, actor=actor, action=action, since=since, after=int(after or 0), limit=limit
        ),
        lambda entry: str(entry.id),
    )
    return found.response()


@router.get("/verify", response_model=AuditReport)
async def verify(
    call: Admin,
    anchor: Annotated[
        str | None, Query(pattern="^[1-9][0-9]{0,17}:[0-9a-f]{64}$", description="A head noted earlier.")
    ] = None,
) -> Response:
    """Recompute the chain of hashes: an entry that was altered or removed is named."""
    return shown(await call.operations.audit.verify(anchor)).response()
