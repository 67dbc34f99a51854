"""`/v1/features`: which features there are, and what each plan grants."""

from fastapi import APIRouter
from starlette.responses import Response

from tallygate.admin.records import Json, PlanVersion
from tallygate.admin.rest.access import Viewer
from tallygate.admin.rest.paging import Page
from tallygate.admin.rest.plans import newest_versions
from tallygate.admin.rest.representation import Answer
from tallygate.admin.rest.schemas import FeatureView

router = APIRouter(prefix="/features", tags=["features"])


@router.get("", response_model=Page[FeatureView])
async def list_(call: Viewer) -> Response:
    """List every feature with what the newest version of each plan grants; always one page."""
    items = features_of(await newest_versions(call.operations))
    return Answer({"items": items, "next_cursor": None}).response()


def features_of(versions: list[PlanVersion]) -> list[Json]:
    """Return each feature by its key, with what each of the versions that has it grants."""
    keys = sorted({key for version in versions for key in version.document["features"]})
    return [
        {
            "id": key,
            "plans": {
                version.ref: version.document["features"][key]
                for version in versions
                if key in version.document["features"]
            },
        }
        for key in keys
    ]
