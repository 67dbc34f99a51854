"""`tallygate customers refer`: what other systems call a customer."""

from typing import Annotated

import typer

from tallygate.admin.records import as_json as represent
from tallygate.cli.context import with_control_plane
from tallygate.cli.options import Reason
from tallygate.cli.output import AsJson, print_list, print_object
from tallygate.core.errors import InputError

_COLUMNS = ("system", "reference", "updated_at")


def refer(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id or key.")],
    system: Annotated[str | None, typer.Argument(help="The other system, such as stripe.")] = None,
    reference: Annotated[str | None, typer.Argument(help="What it calls them.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget what it calls them.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Say what another system calls a customer. Without SYSTEM, list what each does."""
    if system is None:
        found = with_control_plane(lambda control: control.references.list(customer))
        print_list([represent(each) for each in found], _COLUMNS, as_json=as_json)
        return
    if remove == (reference is not None):
        raise InputError("reference", "is missing, or stands beside --remove", "write a reference, or --remove")
    if reference is None:
        known = with_control_plane(lambda control: control.references.remove(customer, system, reason=reason))
    else:
        known = with_control_plane(lambda control: control.references.put(customer, system, reference, reason=reason))
    print_object(represent(known), as_json=as_json)
