"""`tallygate audit`: who did what, and whether somebody wrote in the log."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from tallygate.admin.records import as_json as represent
from tallygate.cli.context import with_control_plane
from tallygate.cli.nouns import noun
from tallygate.cli.output import AsJson, print_json, print_list
from tallygate.cli.values import past_instant

app = noun("audit", example="list --object pro@3 --since 7d")
_COLUMNS = ("id", "at", "actor", "action", "object", "reason", "request_id")


@app.command("list")
def list_(
    subject: Annotated[str | None, typer.Option("--object", help="Only of this object: an id, or pro@3.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this actor.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as token.revoke.")] = None,
    since: Annotated[str | None, typer.Option(help="Not older: an instant, or 7d for the last seven days.")] = None,
    after: Annotated[int, typer.Option(min=0, help="Start after this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List entries, oldest first. --json shows what was before and after."""
    since_at = None if since is None else past_instant("since", since, datetime.now(UTC))
    found = with_control_plane(
        lambda control: control.audit.list(
            object=subject, actor=actor, action=action, since=since_at, after=after, limit=limit
        )
    )
    more = str(found[-1].id) if len(found) == limit else None
    print_list([represent(item) for item in found], _COLUMNS, as_json=as_json, next_cursor=more)


@app.command()
def verify(
    anchor: Annotated[str | None, typer.Option(help="A head that was noted earlier: it must still be there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find entries that were altered, removed or put in. Exits 1 when there are any."""
    report = with_control_plane(lambda control: control.audit.verify(anchor))
    if as_json:
        print_json(represent(report))
    elif report.is_intact:
        typer.echo(f"intact: {report.entries} entries")
        typer.echo(f"head {report.head or '-'}  (note it elsewhere, to verify from it with --anchor)")
    else:
        for problem in report.problems:
            typer.echo(f"entry {problem.entry} {problem.problem}")
        typer.echo(f"broken: {report.entries} entries, {len(report.problems)} problems")
    if not report.is_intact:
        raise typer.Exit(1)
