"""`tallygate exports`: who is told of usage, how far they are, what was put aside; and sending again."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from tallygate import log
from tallygate.admin.records import as_json as represent
from tallygate.app.exports import configured_exports, run_exports
from tallygate.billing.exports.config import Export, FilesExport
from tallygate.billing.exports.cursor import Cursor
from tallygate.billing.exports.receivers import forgets_after
from tallygate.cli.context import with_control_plane
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun
from tallygate.cli.options import Reason
from tallygate.cli.output import AsJson, print_json, print_list, print_object
from tallygate.cli.values import past_instant
from tallygate.core.errors import InputError

app = noun("exports", example="replay stripe --from 2h")
_COLUMNS = ("name", "kind", "last_id", "is_paused", "last_error", "updated_at")
_ASIDE = ("entry_id", "reason", "is_uncertain", "is_due", "put_at")

Name = Annotated[str, typer.Argument(metavar="EXPORT", help="Its name in the file of exports.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List exports. Those of TALLYGATE_EXPORTS_FILE, and those that once ran."""
    configured = _configured()
    known = {cursor.name: cursor for cursor in with_control_plane(lambda control: control.exports.all())}
    names = [*configured, *(name for name in known if name not in configured)]
    rows = [_shown(known.get(name, Cursor(name)), configured.get(name)) for name in names]
    print_list(rows, _COLUMNS, as_json=as_json)


@app.command()
def show(export: Name, as_json: AsJson = False) -> None:
    """Show how far an export is, and what was put aside. The first hundred entries of that."""
    configured = _need(export)
    cursor, asides = with_control_plane(lambda control: control.exports.show(export))
    shown = _shown(cursor, configured)
    rows = [represent(aside) for aside in asides]
    if as_json:
        print_json(shown | {"asides": rows})
        return
    print_object(shown, as_json=False)
    if rows:
        typer.echo("put aside:")
        print_list(rows, _ASIDE, as_json=False)


@app.command()
def run(
    exports: Annotated[list[str] | None, typer.Argument(metavar="EXPORT...", help="All if left out.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Send what there is, and end; exits 1 if some is left.")] = False,
    as_json: AsJson = False,
) -> None:
    """Send, as the worker does, whose turn it takes. It says so where the worker is at it just then."""
    values = load_settings().values
    log.configure(values.log_level)
    rounds = asyncio.run(run_exports(values, exports or [], is_once=once))
    rows = [{"name": name, **represent(done)} for name, done in rounds.items()]
    print_list(rows, ("name", "sent", "repeated", "aside", "skipped", "files", "problem"), as_json=as_json)
    others = [name for name, done in rounds.items() if done.is_others_turn]
    if others:
        typer.secho(f"another process sends just now: {', '.join(others)}", fg="yellow", err=True)
    if any(done.problem or done.is_others_turn for done in rounds.values()):
        raise typer.Exit(1)


@app.command()
def pause(export: Name, reason: Reason = "", as_json: AsJson = False) -> None:
    """Send nothing more until resumed. What is counted meanwhile waits in the ledger."""
    _hold(export, reason, is_paused=True, as_json=as_json)


@app.command()
def resume(export: Name, reason: Reason = "", as_json: AsJson = False) -> None:
    """Go on from where it was."""
    _hold(export, reason, is_paused=False, as_json=as_json)


@app.command()
def replay(
    export: Name,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="The number of an entry, an instant, or 2h ago as 2h; what was put aside if left out."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also what may count twice, for its receiver has forgotten it.")
    ] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Send again, under the same keys. From --from on, or what was put aside; the worker does it in its next round."""
    configured = _need(export)
    if from_ is None:
        again = with_control_plane(
            lambda control: control.exports.send_aside_again(export, is_forced=force, reason=reason)
        )
        print_object({"name": export, "entries": again}, as_json=as_json)
        return
    number = int(from_) if from_.isascii() and from_.isdigit() else None
    at = None if number is not None else past_instant("from", from_, datetime.now(UTC))
    if isinstance(configured, FilesExport):
        if at is None:
            raise InputError("from", "files are written again by the day", "write a day, such as 2027-01-31")
        files = with_control_plane(lambda control: control.exports.write_again(export, at, reason=reason))
        print_object({"name": export, "files": files}, as_json=as_json)
        return
    cursor = with_control_plane(
        lambda control: control.exports.rewind(
            export,
            from_id=number,
            from_at=at,
            forgets_after=forgets_after(configured),
            is_forced=force,
            reason=reason,
        )
    )
    print_object(_shown(cursor, configured), as_json=as_json)


def _hold(export: str, reason: str, *, is_paused: bool, as_json: bool) -> None:
    configured = _need(export)
    cursor = with_control_plane(lambda control: control.exports.hold(export, is_paused=is_paused, reason=reason))
    print_object(_shown(cursor, configured), as_json=as_json)


def _configured() -> Mapping[str, Export]:
    return {export.name: export for export in configured_exports(load_settings().values)}


def _need(name: str) -> Export:
    found = _configured().get(name)
    if found is None:
        raise InputError("export", f"there is no export {name!r} in TALLYGATE_EXPORTS_FILE", "see `exports list`")
    return found


def _shown(cursor: Cursor, configured: Export | None) -> dict[str, object]:
    return {"kind": "(not in the file)" if configured is None else configured.kind, **represent(cursor)}
