"""`/v1/customers/{customer}/references`: what other systems call a customer."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from tallygate.admin.records import CustomerReference, as_json
from tallygate.admin.rest.access import Admin, Viewer
from tallygate.admin.rest.customers import CustomerRef
from tallygate.admin.rest.paging import Page, whole
from tallygate.admin.rest.representation import shown
from tallygate.admin.rest.values import Act

router = APIRouter(prefix="/customers/{customer}/references", tags=["references"])

System = Annotated[str, Path(pattern="^[a-z][a-z0-9_-]{0,62}$", description="The other system, such as stripe.")]


class NewReference(Act):
    """What the system calls them."""

    reference: Annotated[str, Field(pattern="^[!-~]{1,200}$")]


@router.get("", response_model=Page[CustomerReference])
async def list_(call: Viewer, customer: CustomerRef) -> Response:
    """List what other systems call a customer."""
    return whole([as_json(each) for each in await call.operations.references.list(customer)]).response()


@router.get("/{system}", response_model=CustomerReference)
async def show(call: Viewer, customer: CustomerRef, system: System) -> Response:
    """Show what a system calls a customer."""
    return shown(await call.operations.references.show(customer, system)).response()


@router.put("/{system}", response_model=CustomerReference)
async def put(call: Admin, customer: CustomerRef, system: System, body: NewReference) -> Response:
    """Set what a system calls a customer."""
    made = await call.operations.references.put(customer, system, body.reference, reason=body.reason)
    return shown(made).response()


@router.delete("/{system}", response_model=CustomerReference)
async def remove(call: Admin, customer: CustomerRef, system: System) -> Response:
    """Forget what a system calls a customer; the answer shows it a last time."""
    return shown(await call.operations.references.remove(customer, system)).response()
