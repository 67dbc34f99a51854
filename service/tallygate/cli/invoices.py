"""`tallygate invoices`: what a customer's usage comes to."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from tallygate.admin.records import as_json as represent
from tallygate.billing.invoice import Invoice, Line
from tallygate.billing.period import WhichPeriod
from tallygate.billing.unbilled import Unbilled
from tallygate.cli.context import with_control_plane
from tallygate.cli.nouns import noun
from tallygate.cli.output import AsJson, print_list
from tallygate.cli.values import past_instant
from tallygate.tokens.format import Environment

app = noun("invoices", example="preview --customer acme --period previous")
_COLUMNS = ("line", "plan", "quantity", "made of", "amount")
_UNBILLED = ("not charged", "plan", "outcome", "quantity", "why")


@app.callback()
def invoices() -> None:
    """What usage comes to."""


@app.command()
def preview(
    customer: Annotated[str, typer.Option(help="Id or key of the customer.")],
    at: Annotated[
        str | None, typer.Option(help="An instant within the billing period, or 30d ago as 30d; now if left out.")
    ] = None,
    period: Annotated[
        WhichPeriod, typer.Option(help="The period that contains --at, or the one before.")
    ] = WhichPeriod.CURRENT,
    env: Annotated[Environment, typer.Option(help="Whose subscriptions.")] = Environment.LIVE,
    as_json: AsJson = False,
) -> None:
    """Show what a billing period comes to, as far as the ledger goes. --json tells where each number is from."""
    instant = None if at is None else past_instant("at", at, datetime.now(UTC))
    found = with_control_plane(
        lambda control: control.invoices.preview(customer, at=instant, period=period, environment=env)
    )
    if as_json or not found:
        print_list([represent(each) for each in found], _COLUMNS, as_json=as_json)
        return
    for each in found:
        _print(each)


def _print(invoice: Invoice) -> None:
    span = f"{invoice.from_at:%Y-%m-%d %H:%M} to {invoice.to_at:%Y-%m-%d %H:%M}"
    typer.echo(f"{invoice.subscription}  {span}, {_state(invoice)}")
    print_list([_row(line) for line in invoice.lines], _COLUMNS, as_json=False)
    typer.echo(f"total {invoice.total} {invoice.currency or ''}".rstrip())
    if invoice.unbilled:
        print_list([_unbilled_row(each) for each in invoice.unbilled], _UNBILLED, as_json=False)


def _state(invoice: Invoice) -> str:
    if not invoice.is_complete:
        return f"so far (complete from {invoice.complete_at:%Y-%m-%d %H:%M} on)"
    if invoice.changed_at is not None and invoice.changed_at >= invoice.complete_at:
        return f"complete, and changed at {invoice.changed_at:%Y-%m-%d %H:%M}"
    return "complete"


def _row(line: Line) -> dict[str, object]:
    steps = "\n".join(f"{step.description}: {step.quantity} x {step.price:f} = {step.amount:f}" for step in line.steps)
    amount = f"{line.amount:f} {line.currency}"
    return dict(zip(_COLUMNS, (line.description, line.plan, line.quantity, steps, amount), strict=True))


def _unbilled_row(unbilled: Unbilled) -> dict[str, object]:
    usage = unbilled.usage
    cells = (usage.meter, usage.plan, usage.outcome.value, usage.quantity, unbilled.reason.value)
    return dict(zip(_UNBILLED, cells, strict=True))
