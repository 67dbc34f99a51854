"""`tallygate plans`: plans as a file."""

from pathlib import Path
from typing import Annotated

import typer
import yaml

from tallygate.admin.operations import Operations
from tallygate.admin.records import Json, version_as_json
from tallygate.admin.records import as_json as represent
from tallygate.cli import versions
from tallygate.cli.context import with_control_plane
from tallygate.cli.nouns import noun
from tallygate.cli.output import AsJson, print_json, print_list
from tallygate.core.errors import InputError, NotFoundError
from tallygate.plans.codec import plan_from_document
from tallygate.plans.diff import diff as compare
from tallygate.plans.document import Catalogue, Plan
from tallygate.plans.parse import parse
from tallygate.plans.schema import plan_file_schema

app = noun("plans", example="apply plans.yaml --dry-run")
_MAXIMUM_BYTES = 4 * 1024 * 1024

File = Annotated[Path, typer.Argument(metavar="FILE", help="A plan file in YAML.")]


@app.command()
def validate(file: File, as_json: AsJson = False) -> None:
    """Check a plan file. Every error is told, with its line and its mend."""
    catalogue = read_catalogue(file)
    if as_json:
        print_json({"is_valid": True, "plans": [plan.key for plan in catalogue.plans]})
    else:
        typer.echo(f"{file} is valid: {len(catalogue.plans)} plans, {len(catalogue.routes)} routes")


@app.command()
def schema() -> None:
    """Print the JSON Schema of plan files. Editors and generators read it."""
    print_json(plan_file_schema())


@app.command()
def diff(file: File, as_json: AsJson = False) -> None:
    """Say what a plan file would change. Tells which way each change goes, and who has the plan."""
    catalogue = read_catalogue(file)

    async def compare_all(control: Operations) -> list[Json]:
        return [await _compared(control, plan) for plan in catalogue.plans]

    found = with_control_plane(compare_all)
    if as_json:
        print_json({"plans": found})
        return
    for plan in found:
        _tell(plan)


@app.command()
def apply(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish every plan that changed, and the routes. What has not changed gets no new version."""
    catalogue = read_catalogue(file)
    applied = with_control_plane(lambda control: control.plans.apply(catalogue, is_dry_run=dry_run))
    if as_json:
        print_json(represent(applied))
        return
    would = "would be " if dry_run else ""
    for change in applied.plans:
        typer.echo(f"{change.plan}  {change.action if change.action == 'unchanged' else would + change.action}")
        if change.action == "published" and not dry_run:
            _tell_how_to_move(change.plan)
    typer.echo(f"routes  {applied.routes if applied.routes == 'unchanged' else would + applied.routes}")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List published plan versions, newest first."""
    found = with_control_plane(lambda control: control.plans.list())
    print_list([version_as_json(item) for item in found], ("id", "name", "status", "published_at"), as_json=as_json)


@app.command()
def show(
    plan: Annotated[str, typer.Argument(help="pro for its newest version, or pro@2.")], as_json: AsJson = False
) -> None:
    """Show a published plan version."""
    version = with_control_plane(lambda control: control.plans.show(plan))
    if as_json:
        print_json(version_as_json(version))
        return
    typer.echo(f"# {version.ref}, published {version.published_at:%Y-%m-%d %H:%M:%S} UTC, revision {version.revision}")
    typer.echo(yaml.safe_dump(version.document, sort_keys=False, allow_unicode=True), nl=False)


async def _compared(control: Operations, plan: Plan) -> Json:
    """Return how `plan` differs from its newest published version, and its subscriptions by version."""
    try:
        newest = await control.plans.show(plan.key)
    except NotFoundError:
        newest = None
    changes = compare(None if newest is None else plan_from_document(newest.document), plan)
    pins = await control.plans.pins(plan.key)
    return {
        "plan": plan.key,
        "newest": None if newest is None else newest.ref,
        "changes": [represent(change) for change in changes],
        "subscriptions": {f"{plan.key}@{version}": count for version, count in pins.items()},
    }


def _tell(plan: Json) -> None:
    typer.echo(f"{plan['newest'] or plan['plan']}" + ("" if plan["changes"] else "  unchanged"))
    for change in plan["changes"]:
        typer.echo(f"  {change['kind']:<8}{change['field'] or plan['plan']}: {change['sentence']}")
    pinned = ", ".join(f"{count} on {version}" for version, count in plan["subscriptions"].items() if count)
    if plan["changes"] and pinned:
        typer.echo(f"  subscriptions: {pinned}; each stays on its version until it is moved")


def _tell_how_to_move(newest: str) -> None:
    key, _, number = newest.partition("@")
    before = f"{key}@{int(number) - 1}"
    typer.echo(f"  who is on {before} stays there; `tallygate plans migrate {before} {newest}` moves them")


def read_catalogue(path: Path) -> Catalogue:
    """Read and validate a plan file; raise InputError (with every problem) for one that cannot be used."""
    try:
        if path.stat().st_size > _MAXIMUM_BYTES:
            raise InputError(str(path), "is larger than 4 MiB", "is it a plan file?")
        return parse(path.read_bytes().decode(), str(path))
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(str(path), "is not UTF-8 text", "save it as UTF-8") from None


versions.add_to(app)
