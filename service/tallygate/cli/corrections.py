"""`tallygate usage correct`: put right what was counted, by an entry more in the ledger."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from tallygate.admin.records import as_json as represent
from tallygate.cli.context import with_control_plane
from tallygate.cli.output import AsJson, print_object
from tallygate.cli.values import past_instant


def correct(
    subscription: Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="Whose usage: id.")],
    meter: Annotated[str, typer.Argument(help="What was counted wrong, such as requests.")],
    quantity: Annotated[int, typer.Argument(help="Units to add; below 0 takes away: write -- before it.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger and in the audit log.")],
    at: Annotated[str | None, typer.Option(help="When they were used: an instant, or 3d ago as 3d; now.")] = None,
    outcome: Annotated[str, typer.Option(help="allowed, or overage.")] = "allowed",
    plan: Annotated[str | None, typer.Option(help="The plan version, pro@3; the one in force then.")] = None,
    family: Annotated[str, typer.Option(help="The token family, if it was one's.")] = "",
    route: Annotated[str, typer.Option(help="The rule, if it was one's, such as 'GET /v1/things'.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add an entry to the usage ledger.

    Bills follow it, counters do not. Nothing that was counted is changed.
    """
    used_at = None if at is None else past_instant("at", at, datetime.now(UTC))
    made = with_control_plane(
        lambda control: control.corrections.add(
            subscription,
            meter,
            quantity,
            reason=reason,
            at=used_at,
            outcome=outcome,
            plan=plan,
            family=family,
            route=route,
        )
    )
    print_object(represent(made), as_json=as_json)
