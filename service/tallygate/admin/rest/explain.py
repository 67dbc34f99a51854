"""`/v1/explain`: how a request would be decided, step by step, consuming nothing."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.rest.access import Viewer
from tallygate.admin.rest.representation import Answer
from tallygate.admin.rest.schemas import Explanation
from tallygate.admin.rest.values import Address, Body
from tallygate.decision.decision import CheckInput
from tallygate.decision.explain import decision_as_json

router = APIRouter(prefix="/explain", tags=["explain"])

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Question(Body):
    """The request to be decided."""

    token: Annotated[str, Field(min_length=1, max_length=200, pattern="^[!-~]+$")]
    method: Method
    path: Annotated[str, Field(max_length=2000, pattern="^/[!-~]*$", description="Path and query.")]
    client_address: Address = "127.0.0.1"


@router.post("", response_model=Explanation)
async def explain(call: Viewer, body: Question) -> Response:
    """Decide a request as the data plane would, and say why."""
    asked = CheckInput(body.method, body.path, {"authorization": f"Bearer {body.token}"}, body.client_address)
    return await call.once(call.backstage.explain(asked), lambda decision: Answer(decision_as_json(decision)))
