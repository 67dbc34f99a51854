"""`/v1/features`: which features there are, and what each plan grants."""

from fastapi import APIRouter
from starlette.responses import Response

from tallygate.admin.rest.access import Viewer
from tallygate.admin.rest.paging import Page
from tallygate.admin.rest.representation import Answer
from tallygate.admin.rest.schemas import FeatureView

router = APIRouter(prefix="/features", tags=["features"])


@router.get("", response_model=Page[FeatureView])
async def list_(call: Viewer) -> Response:
    """List every feature with what the newest version of each plan grants; always one page."""
    return Answer({"items": await call.operations.plans.features(), "next_cursor": None}).response()
