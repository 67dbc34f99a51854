"""`/v1/customers`: who pays."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi import Body as FromBody
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.records import Customer
from tallygate.admin.rest.access import Admin, Viewer
from tallygate.admin.rest.call import Revision
from tallygate.admin.rest.paging import ById, Page
from tallygate.admin.rest.representation import made_at, shown
from tallygate.admin.rest.values import Act, Instant, Name, Ref, Why, one_of

router = APIRouter(prefix="/customers", tags=["customers"])

Status = Literal["active", "past_due", "suspended", "closed"]
Key = Annotated[
    str,
    Field(
        pattern="^[a-z0-9][a-z0-9._-]{0,62}$",
        json_schema_extra={"not": {"pattern": "^cus_[0-9a-z]{26}$"}},
        description="Your own name for them; none that looks like an id.",
    ),
]
CustomerRef = Annotated[Ref, Path(description="Id or key.")]


class NewCustomer(Act):
    """A customer to be; the key is made from the name, or the name from the key, where one is left out."""

    model_config = one_of(key={"type": "string"}, name={"type": "string", "pattern": "[0-9A-Za-z]"})

    key: Key | None = None
    name: Name | None = None


class CustomerPatch(Act):
    """What may be changed of a customer; their status has operations of its own."""

    name: Name


class PaymentFailed(Act):
    """When the payment failed; now unless told."""

    since: Instant | None = None


Failed = Annotated[PaymentFailed, FromBody(default_factory=PaymentFailed)]


@router.get("", response_model=Page[Customer])
async def list_(call: Viewer, page: ById, status: Annotated[Status | None, Query()] = None) -> Response:
    """List customers, oldest first."""
    found = await page.page(
        lambda after, limit: call.operations.customers.list(after, limit, status=status), lambda customer: customer.id
    )
    return found.response()


@router.post("", response_model=Customer, status_code=201)
async def create(call: Admin, body: NewCustomer) -> Response:
    """Add a customer."""
    work = call.operations.customers.create(body.key, body.name, reason=body.reason)
    return await call.once(work, made_at("/v1/customers"))


@router.get("/{customer}", response_model=Customer)
async def show(call: Viewer, customer: CustomerRef) -> Response:
    """Show a customer."""
    return shown(await call.operations.customers.show(customer)).response()


@router.patch("/{customer}", response_model=Customer)
async def rename(call: Admin, customer: CustomerRef, body: CustomerPatch, revision: Revision) -> Response:
    """Change a customer's name."""
    work = call.operations.customers.rename(customer, body.name, reason=body.reason, revision=revision)
    return shown(await work).response()


@router.post("/{customer}/suspend", response_model=Customer)
async def suspend(call: Admin, customer: CustomerRef, revision: Revision, why: Why) -> Response:
    """Refuse every token of a customer until resumed."""
    work = call.operations.customers.set_status(customer, "suspended", why.reason, revision=revision)
    return await call.once(work)


@router.post("/{customer}/resume", response_model=Customer)
async def resume(call: Admin, customer: CustomerRef, revision: Revision, why: Why) -> Response:
    """Let the tokens of a suspended or past due customer work again."""
    work = call.operations.customers.set_status(customer, "active", why.reason, revision=revision)
    return await call.once(work)


@router.post("/{customer}/past-due", response_model=Customer)
async def past_due(call: Admin, customer: CustomerRef, revision: Revision, body: Failed) -> Response:
    """Say that a payment failed: their subscriptions enter the grace that their plans give."""
    work = call.operations.customers.set_status(
        customer, "past_due", body.reason, since=body.since, revision=revision
    )  # fmt: skip
    return await call.once(work)


@router.post("/{customer}/close", response_model=Customer)
async def close(call: Admin, customer: CustomerRef, revision: Revision, why: Why) -> Response:
    """Close a customer for good; their tokens are refused from now on."""
    work = call.operations.customers.set_status(customer, "closed", why.reason, revision=revision)
    return await call.once(work)
