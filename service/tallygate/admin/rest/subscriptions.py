"""`/v1/subscriptions`: a customer's contract on a plan version."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi import Body as FromBody
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.records import Subscription
from tallygate.admin.rest.access import Admin, Viewer
from tallygate.admin.rest.call import Call, Revision
from tallygate.admin.rest.paging import ById, Page
from tallygate.admin.rest.problems import moved
from tallygate.admin.rest.representation import made_at, shown
from tallygate.admin.rest.values import (
    Act,
    Amount,
    Instant,
    JsonObject,
    PlanRef,
    Ref,
    SubscriptionId,
    Timezone,
    VersionRef,
    When,
    Why,
)
from tallygate.core.errors import NotFoundError
from tallygate.plans.contract import Carry
from tallygate.plans.problems import InvalidCatalogueError
from tallygate.tokens.format import Environment

router = APIRouter(prefix="/subscriptions", tags=["subscriptions"])

Id = Annotated[SubscriptionId, Path(description="Id of the subscription.")]
ChangeId = Annotated[str, Path(pattern="^chg_[0-9a-z]{26}$", description="Id of the scheduled change.")]


class NewSubscription(Act):
    """A subscription to be; it starts now, and is billed from its start, unless told otherwise."""

    customer: Ref
    plan: PlanRef
    environment: Environment = Environment.LIVE
    starts_at: Instant | None = None
    anchor_at: Instant | None = None
    timezone: Timezone = "UTC"


class PlanChange(Act):
    """Another plan version, from when on, and what becomes of the units already used."""

    plan: PlanRef
    at: When = "now"
    carry: Carry = Carry.CARRY


class Cancellation(Act):
    """When the subscription ends."""

    at: When = "now"


class NewOverrides(Act):
    """Terms of its own, in place of those before; an empty document takes all away."""

    document: Annotated[JsonObject, Field(json_schema_extra={"x-schema": "overrides"})]


class NewCredits(Act):
    """Units for a credits limit, beside its balance."""

    limit: Annotated[str, Field(min_length=1, max_length=63)]
    amount: Amount
    expires_at: Instant | None = None


@router.get("", response_model=Page[Subscription])
async def list_(
    call: Viewer,
    page: ById,
    customer: Annotated[Ref | None, Query(description="Only this customer's.")] = None,
    plan: Annotated[VersionRef | None, Query(description="Only those made on this version, pro@3.")] = None,
) -> Response:
    """List subscriptions, oldest first."""
    found = await page.page(
        lambda after, limit: call.operations.subscriptions.list(customer, after, limit, plan=plan),
        lambda subscription: subscription.id,
    )
    return found.response()


@router.post("", response_model=Subscription, status_code=201)
async def create(call: Admin, body: NewSubscription) -> Response:
    """Put a customer on a plan version; `pro` pins the newest."""
    return await call.once(
        call.operations.subscriptions.create(
            body.customer,
            body.plan,
            environment=body.environment,
            starts_at=body.starts_at,
            anchor_at=body.anchor_at,
            timezone=body.timezone,
            reason=body.reason,
        ),
        made_at("/v1/subscriptions"),
    )


@router.get("/{subscription}", response_model=Subscription)
async def show(call: Viewer, subscription: Id) -> Response:
    """Show a subscription with what is to come."""
    return shown(await call.operations.subscriptions.show(subscription)).response()


@router.post("/{subscription}/suspend", response_model=Subscription)
async def suspend(call: Admin, subscription: Id, revision: Revision, why: Why) -> Response:
    """Refuse its tokens until resumed."""
    return await call.once(call.operations.subscriptions.suspend(subscription, why.reason, revision=revision))


@router.post("/{subscription}/resume", response_model=Subscription)
async def resume(call: Admin, subscription: Id, revision: Revision, why: Why) -> Response:
    """Let its tokens work again."""
    return await call.once(call.operations.subscriptions.resume(subscription, why.reason, revision=revision))


@router.post("/{subscription}/cancel", response_model=Subscription)
async def cancel(
    call: Admin,
    subscription: Id,
    revision: Revision,
    body: Annotated[Cancellation, FromBody(default_factory=Cancellation)],
) -> Response:
    """End it, now or later."""
    work = call.operations.subscriptions.cancel(subscription, body.reason, at=body.at, revision=revision)
    return await call.once(work)


@router.post("/{subscription}/uncancel", response_model=Subscription)
async def uncancel(call: Admin, subscription: Id, revision: Revision, why: Why) -> Response:
    """Take an end back that lies ahead."""
    return await call.once(call.operations.subscriptions.uncancel(subscription, why.reason, revision=revision))


@router.post("/{subscription}/change", response_model=Subscription)
async def change(call: Admin, subscription: Id, revision: Revision, body: PlanChange) -> Response:
    """Move it to another plan version, now or later."""
    work = call.operations.contracts.change(
        subscription, body.plan, at=body.at, carry=body.carry, reason=body.reason, revision=revision
    )
    return await call.once(work)


@router.post("/{subscription}/changes/{change}/cancel", response_model=Subscription)
async def cancel_change(call: Admin, subscription: Id, change: ChangeId, revision: Revision, why: Why) -> Response:
    """Take a scheduled change back."""
    return await call.once(_cancel_change(call, subscription, change, why.reason, revision))


@router.post("/{subscription}/override", response_model=Subscription)
async def override(call: Admin, subscription: Id, revision: Revision, body: NewOverrides) -> Response:
    """Give it terms of its own, as an enterprise contract has them."""
    return await call.once(_override(call, subscription, body, revision))


@router.post("/{subscription}/credits", response_model=Subscription)
async def grant_credits(call: Admin, subscription: Id, revision: Revision, body: NewCredits) -> Response:
    """Grant it credits."""
    work = call.operations.contracts.grant_credits(
        subscription, body.limit, body.amount, expires_at=body.expires_at, reason=body.reason, revision=revision
    )
    return await call.once(work)


async def _override(call: Call, subscription: str, body: NewOverrides, revision: int | None) -> Subscription:
    try:
        return await call.operations.contracts.override(
            subscription, body.document, reason=body.reason, revision=revision
        )  # fmt: skip
    except InvalidCatalogueError as error:
        raise moved(error, "", "document") from None


async def _cancel_change(
    call: Call, subscription: str, change: str, reason: str, revision: int | None
) -> Subscription:  # fmt: skip
    known = await call.operations.subscriptions.show(subscription)
    if change not in {scheduled.id for scheduled in known.changes}:
        raise NotFoundError("change", f"{subscription} has no change {change!r}")
    return await call.operations.contracts.cancel_change(change, reason=reason, revision=revision)
