"""`/v1/explain`: how a request would be decided, step by step, consuming nothing."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.records import Json
from tallygate.admin.rest.access import Viewer
from tallygate.admin.rest.representation import Answer
from tallygate.admin.rest.schemas import Explanation
from tallygate.admin.rest.values import Address, Body
from tallygate.decision.decision import Allow, CheckInput, Decision
from tallygate.decision.explain import steps_of

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


def decision_as_json(decision: Decision) -> Json:
    """Return the representation of a decision, step by step."""
    return {
        "decision": "allow" if isinstance(decision, Allow) else "deny",
        "reason": decision.reason.value,
        "plan": None if decision.phase is None else decision.phase.grant.plan,
        "route": None if decision.route is None else decision.route.text,
        "steps": [
            {"name": step.name, "outcome": step.outcome.value, "detail": step.detail} for step in steps_of(decision)
        ],
        "limits": [
            {
                "name": state.limit.name,
                "kind": state.limit.kind.value,
                "amount": state.limit.amount,
                "remaining": state.remaining,
                "outcome": state.outcome.value,
                "reset_s": state.reset_s,
            }
            for state in decision.states
        ],
    }
