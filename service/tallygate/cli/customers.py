"""`tallygate customers`: who pays."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from tallygate.admin.records import as_json as represent
from tallygate.cli.context import with_control_plane
from tallygate.cli.nouns import noun
from tallygate.cli.options import Reason, Revision
from tallygate.cli.output import AsJson, print_list, print_object
from tallygate.cli.references import refer
from tallygate.cli.values import past_instant
from tallygate.licenses.license import CustomerStatus

app = noun("customers", example="create acme --name 'Acme Corp'")
_COLUMNS = ("id", "key", "name", "status", "created_at")

Ref = Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id or key.")]


@app.command()
def create(
    key: Annotated[str | None, typer.Argument(help="Your own name for them; made from --name if left out.")] = None,
    name: Annotated[str | None, typer.Option(help="The name people read; the key if left out.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Add a customer."""
    customer = with_control_plane(lambda control: control.customers.create(key, name, reason=reason))
    print_object(represent(customer), as_json=as_json)


@app.command("list")
def list_(
    status: Annotated[CustomerStatus | None, typer.Option(help="Only those in this state.")] = None,
    after: Annotated[str, typer.Option(help="Start after this id.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List customers, oldest first."""
    found = with_control_plane(lambda control: control.customers.list(after, limit, status=status))
    more = found[-1].id if len(found) == limit else None
    print_list([represent(item) for item in found], _COLUMNS, as_json=as_json, next_cursor=more)


@app.command()
def show(customer: Ref, as_json: AsJson = False) -> None:
    """Show one customer."""
    print_object(represent(with_control_plane(lambda control: control.customers.show(customer))), as_json=as_json)


@app.command()
def rename(
    customer: Ref,
    name: Annotated[str, typer.Argument(help="The name people read from now on; the key stays.")],
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Give a customer another name."""
    changed = with_control_plane(
        lambda control: control.customers.rename(customer, name, reason=reason, revision=revision),
        shown_by=f"customers show {customer}",
    )
    print_object(represent(changed), as_json=as_json)


@app.command("past-due")
def past_due(
    customer: Ref,
    since: Annotated[
        str | None, typer.Option(help="When the payment failed: an instant, or 3d ago as 3d. Now if left out.")
    ] = None,
    revision: Revision = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Begin the grace of a customer whose payment failed. After it they are suspended until `resume`."""
    failed_at = None if since is None else past_instant("since", since, datetime.now(UTC))
    _set_status(customer, CustomerStatus.PAST_DUE, reason, revision, since=failed_at, as_json=as_json)


@app.command()
def suspend(customer: Ref, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Refuse every token of a customer until resumed."""
    _set_status(customer, CustomerStatus.SUSPENDED, reason, revision, as_json=as_json)


@app.command()
def resume(customer: Ref, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a customer's tokens work again. All is paid: neither past due nor suspended any more."""
    _set_status(customer, CustomerStatus.ACTIVE, reason, revision, as_json=as_json)


@app.command()
def close(customer: Ref, revision: Revision = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Close a customer for good; their tokens are refused from now on."""
    _set_status(customer, CustomerStatus.CLOSED, reason, revision, as_json=as_json)


app.command()(refer)


def _set_status(
    ref: str, status: str, reason: str, revision: int | None, *, since: datetime | None = None, as_json: bool
) -> None:
    changed = with_control_plane(
        lambda control: control.customers.set_status(ref, status, reason, since=since, revision=revision),
        shown_by=f"customers show {ref}",
    )
    print_object(represent(changed), as_json=as_json)
