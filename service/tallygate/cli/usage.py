"""`tallygate usage`: what was counted, by hour, day or month; and whether counters and ledger agree."""

import csv
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from tallygate.admin.operations import Operations
from tallygate.admin.records import as_json as represent
from tallygate.admin.usage import row_as_json
from tallygate.app.usage import reconciler, usage_reader
from tallygate.cli.context import with_control_plane
from tallygate.cli.corrections import correct
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun
from tallygate.cli.output import AsJson, print_json, print_list
from tallygate.cli.values import past_instant
from tallygate.usage.question import By, UsageQuery
from tallygate.usage.reading import UsagePage
from tallygate.usage.reconcile import Comparison

app = noun("usage", example="--customer acme --by month --group-by meter,outcome")
_TABLE_ROWS = 1000
_COMPARED = ("limit", "per", "owner", "meter", "from_at", "counter", "ledger", "difference", "why_not")


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@app.callback(invoke_without_command=True, no_args_is_help=False)
def usage(
    context: typer.Context,
    customer: Annotated[str | None, typer.Option(help="Only of this customer: id or key.")] = None,
    subscription: Annotated[str | None, typer.Option(help="Only of this subscription.")] = None,
    family: Annotated[str | None, typer.Option(help="Only of this token family.")] = None,
    plan: Annotated[str | None, typer.Option(help="Only under pro@3, or under any version of pro.")] = None,
    meter: Annotated[str | None, typer.Option(help="Only of this meter.")] = None,
    route: Annotated[str | None, typer.Option(help="Only of this rule, such as 'GET /v1/things'.")] = None,
    outcome: Annotated[str | None, typer.Option(help="allowed (within the amounts) or overage.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="An instant, or 7d ago as 7d; the month's beginning if left out.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="As --from, excluded; the end of the present unit if left out.")
    ] = None,
    by: Annotated[By, typer.Option(help="How long a stretch a row is about, in UTC.")] = By.DAY,
    group_by: Annotated[
        str, typer.Option(help="What rows are told apart by, besides time: customer,meter for example. All of it.")
    ] = "",
    format_: Annotated[Format, typer.Option("--format", help="A table has 1000 rows at most.")] = Format.TABLE,
    as_json: AsJson = False,
) -> None:
    """Show what was counted, up to this moment. No row is the total of others."""
    if context.invoked_subcommand is not None:
        return
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "customer": customer, "subscription": subscription, "family": family, "plan": plan, "meter": meter,
        "route": route, "outcome": outcome, "by": by,
        "from_at": _instant("from", from_, by, now), "to_at": _instant("to", to, by, now),
        "columns": [name.strip() for name in group_by.split(",") if name.strip()],
    }  # fmt: skip
    shape = Format.JSON if as_json else format_
    with_control_plane(lambda control: _show(control, given, shape))


@app.command()
def reconcile(customer: Annotated[str, typer.Option(help="Whose limits: id or key.")], as_json: AsJson = False) -> None:
    """Compare the counters of a customer's quotas with the ledger. Exits 1 when one differs."""

    async def compared(control: Operations) -> tuple[Comparison, ...]:
        async with reconciler(load_settings().values) as both:
            return await control.usage.reconcile(customer, reconciler=both)

    found = with_control_plane(compared)
    print_list([represent(each) for each in found], _COMPARED, as_json=as_json)
    if any(each.difference for each in found):
        raise typer.Exit(1)


app.command()(correct)


def _instant(field: str, text: str | None, by: By, now: datetime) -> datetime | None:
    """Return the instant; one that is told by how long ago it was is moved to where its unit began."""
    if text is None:
        return None
    at = past_instant(field, text, now)
    return by.start_of(at) if text.strip()[-1:] in "smhdw" else at


async def _show(control: Operations, given: dict[str, Any], shape: Format) -> None:
    query = await control.usage.question(**given)
    async with usage_reader(load_settings().values) as reader:
        if shape is Format.TABLE:
            page = await reader.page(query, limit=_TABLE_ROWS)
            _print_table(query, page)
            lacks = page.lacks
        elif shape is Format.CSV:
            lacks = await _print_csv(query, reader.pages(query))
        else:
            pages = [page async for page in reader.pages(query)]
            lacks = pages[0].lacks
            items = [row_as_json(row) for page in pages for row in page.rows]
            print_json({"items": items, "next_cursor": None, "live": lacks is None, "lacks": lacks})
    if lacks is not None:
        typer.secho(f"warning: {lacks}", fg="yellow", err=True)


def _print_table(query: UsageQuery, page: UsagePage) -> None:
    print_list([row_as_json(row) for row in page.rows], _names(query), as_json=False)
    if page.after is not None:
        typer.echo(f"the first {_TABLE_ROWS} rows; all of them with --format csv, fewer with --group-by", err=True)


async def _print_csv(query: UsageQuery, pages: AsyncIterator[UsagePage]) -> str | None:
    """Print rows as they come, however many there are."""
    lacks = None
    writer = csv.DictWriter(sys.stdout, _names(query), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    async for page in pages:
        lacks = page.lacks
        writer.writerows(row_as_json(row) for row in page.rows)
    return lacks


def _names(query: UsageQuery) -> Sequence[str]:
    return ["from", "to", *(column.value for column in query.columns), "quantity"]
