"""`tallygate plans`: plans as a file."""

import sys
from dataclasses import asdict
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
from tallygate.licenses.routes import EVERYTHING
from tallygate.plans.codec import plan_from_document, plan_to_document
from tallygate.plans.codec_routes import charged, meters_to_document, routes_from_document
from tallygate.plans.diff import diff as compare
from tallygate.plans.diff_meters import diff_meters
from tallygate.plans.diff_routes import diff_routes
from tallygate.plans.document import Catalogue, Plan
from tallygate.plans.meters import expand_routes
from tallygate.plans.parse import InvalidCatalogueError, parse
from tallygate.plans.schema import plan_file_schema

app = noun("plans", example="apply plans.yaml --dry-run")
_STDIN = Path("-")
_MAXIMUM_BYTES = 4 * 1024 * 1024

File = Annotated[Path, typer.Argument(metavar="FILE|-", help="A plan file in YAML; - reads it from standard input.")]


@app.command()
def validate(file: File, as_json: AsJson = False) -> None:
    """Check a plan file. Every error is told, with its line and its mend."""
    try:
        catalogue = read_catalogue(file)
    except InvalidCatalogueError as error:
        if not as_json:
            raise
        print_json({"is_valid": False, "problems": [asdict(problem) for problem in error.problems]})
        raise typer.Exit(2) from None
    if as_json:
        print_json({"is_valid": True, "plans": [plan.key for plan in catalogue.plans]})
    else:
        typer.echo(f"{_name(file)} is valid: {len(catalogue.plans)} plans, {len(catalogue.routes)} routes")


@app.command()
def schema() -> None:
    """Print the JSON Schema of plan files. Editors and generators read it."""
    print_json(plan_file_schema())


@app.command()
def diff(file: File, as_json: AsJson = False) -> None:
    """Say what a plan file would change. Tells which way each change goes, and who has the plan."""
    catalogue = read_catalogue(file)

    async def compare_all(control: Operations) -> tuple[list[Json], list[Json]]:
        plans = [await _compared(control, plan) for plan in catalogue.plans]
        return plans, await _compared_routes(control, catalogue)

    found, routes = with_control_plane(compare_all)
    if as_json:
        print_json({"plans": found, "routes": {"changes": routes}})
        return
    for plan in found:
        _tell(plan)
    if catalogue.has_routes:
        _tell({"plan": "routes", "newest": None, "changes": routes, "subscriptions": {}})
    if routes:
        typer.echo("  routes: in force for everybody as soon as they are applied")


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
def list_(
    after: Annotated[str, typer.Option(help="Start after this version.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows at most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List published plan versions by key, newest first."""
    found = with_control_plane(lambda control: control.plans.list(after, limit))
    more = found[-1].ref if len(found) == limit else None
    columns = ("id", "name", "status", "published_at")
    print_list([version_as_json(item) for item in found], columns, as_json=as_json, next_cursor=more)


@app.command()
def show(
    plan: Annotated[str, typer.Argument(help="pro for its newest version, or pro@2.")], as_json: AsJson = False
) -> None:
    """Show a published plan version."""
    version = with_control_plane(lambda control: control.plans.show(plan))
    if as_json:
        print_json(version_as_json(version))
        return
    as_written = plan_to_document(plan_from_document(version.document))  # Postgres keeps keys in an order of its own
    typer.echo(f"# {version.ref}, published {version.published_at:%Y-%m-%d %H:%M:%S} UTC, revision {version.revision}")
    typer.echo(yaml.safe_dump(as_written, sort_keys=False, allow_unicode=True), nl=False)


@app.command()
def routes(as_json: AsJson = False) -> None:
    """Show the routes in force, in the order they are asked. Costs are those counted up the tree of meters."""
    version, table = with_control_plane(lambda control: control.plans.routes())
    if as_json:
        print_json({"version": version, "items": table["routes"], "meters": table["meters"], "next_cursor": None})
        return
    print_list(charged(table["routes"]), ("match", "cost", "scope", "feature"), as_json=False)
    if table["meters"]:
        columns = ("meter", "parent", "refund_on", "actual", "within", "unsettled")
        blank = dict.fromkeys(columns)
        meters = [blank | {"meter": meter} | policy for meter, policy in sorted(table["meters"].items())]
        print_list(meters, columns, as_json=False)


@app.command()
def features(as_json: AsJson = False) -> None:
    """List every feature and what each plan grants."""
    found = with_control_plane(lambda control: control.plans.features())
    print_list(found, ("id", "plans"), as_json=as_json)


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


async def _compared_routes(control: Operations, catalogue: Catalogue) -> list[Json]:
    """Return how the routes differ from those in force, by what a request is charged in the end."""
    if not catalogue.has_routes:
        return []
    _, standing = await control.plans.routes()
    is_now = routes_from_document(charged(standing["routes"]))
    routes = diff_routes(is_now, expand_routes(catalogue.routes or (EVERYTHING,), catalogue.meters))
    meters = diff_meters(standing["meters"], meters_to_document(catalogue.meters, catalogue.policies))
    return [represent(change) for change in (*routes, *meters)]


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
    """Read and validate a plan file, or standard input for `-`.

    Raises InvalidCatalogueError (with every problem) for one that cannot be used, InputError for no file at all.
    """
    try:
        if path == _STDIN:
            return parse(sys.stdin.read(_MAXIMUM_BYTES), _name(path))
        with path.open("rb") as file:  # a device has no size to ask for, and no end
            content = file.read(_MAXIMUM_BYTES + 1)
        if len(content) > _MAXIMUM_BYTES:
            raise InputError(str(path), "is larger than 4 MiB", "is it a plan file?")
        return parse(content.decode(), str(path))
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(_name(path), "is not UTF-8 text", "save it as UTF-8") from None


def _name(path: Path) -> str:
    return "standard input" if path == _STDIN else str(path)


versions.add_to(app)
