"""`/v1/customers/{customer}/invoice-preview`: what a customer's usage comes to."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from tallygate.admin.records import as_json
from tallygate.admin.rest.access import Viewer
from tallygate.admin.rest.customers import CustomerRef
from tallygate.admin.rest.paging import Page, whole
from tallygate.admin.rest.values import Instant
from tallygate.billing.invoice import Invoice
from tallygate.billing.period import WhichPeriod
from tallygate.tokens.format import Environment

router = APIRouter(prefix="/customers", tags=["invoices"])


@router.get("/{customer}/invoice-preview", response_model=Page[Invoice])
async def preview(
    call: Viewer,
    customer: CustomerRef,
    at: Annotated[Instant | None, Query(description="An instant within the billing period; now if left out.")] = None,
    period: Annotated[WhichPeriod, Query(description="That period, or the one before.")] = WhichPeriod.CURRENT,
    environment: Annotated[Environment, Query(description="Whose subscriptions.")] = Environment.LIVE,
) -> Response:
    """Show what a billing period comes to as far as the ledger goes: an invoice for each subscription in it."""
    found = await call.operations.invoices.preview(customer, at=at, period=period, environment=environment)
    return whole([as_json(each) for each in found]).response()
