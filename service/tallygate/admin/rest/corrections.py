"""`/v1/usage/corrections`: put right what was counted, by an entry more in the ledger."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.records import Correction
from tallygate.admin.rest.access import Admin
from tallygate.admin.rest.values import Body, FamilyId, Instant, Reason, SubscriptionId, VersionRef, Whole
from tallygate.limits.limit import EXACT_INTEGER

router = APIRouter(prefix="/usage/corrections", tags=["usage"])

Text = Annotated[str, Field(max_length=500, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Meter = Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,62}$")]
Units = Annotated[
    Whole,
    Field(
        gt=-EXACT_INTEGER,
        lt=EXACT_INTEGER,
        description="Units to add; below 0 takes away.",
        json_schema_extra={"not": {"const": 0}},
    ),
]


class NewCorrection(Body):
    """Units that belong to the minute of `at` (now), under the plan version in force then unless told."""

    subscription: SubscriptionId
    meter: Meter
    quantity: Units
    reason: Annotated[Reason, Field(min_length=1)]
    at: Instant | None = None
    outcome: Literal["allowed", "overage"] = "allowed"
    plan: VersionRef | None = None
    family: FamilyId | None = None
    route: Text = ""


@router.post("", response_model=Correction)
async def add(call: Admin, body: NewCorrection) -> Response:
    """Add an entry to the ledger. Counters, and what is left of a quota, stay as they are."""
    given = body.model_dump(exclude={"subscription", "meter", "quantity", "family"})
    made = call.operations.corrections.add(
        body.subscription, body.meter, body.quantity, family=body.family or "", **given
    )
    return await call.once(made)
