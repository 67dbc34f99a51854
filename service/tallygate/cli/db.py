"""`tallygate db`: the schema."""

import asyncio

import typer

from tallygate import settings
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun
from tallygate.cli.output import AsJson, print_json, print_list
from tallygate.storage import migrate as migrations

app = noun("db", example="migrate")


def _dsn() -> str:
    values = load_settings().values
    settings.require(values, "postgres_dsn")
    assert values.postgres_dsn is not None  # noqa: S101 - required above
    return values.postgres_dsn.get_secret_value()


@app.command()
def migrate(as_json: AsJson = False) -> None:
    """Bring the schema up to this version. Safe to run again, and by several at once."""
    applied = [f"{item.version:04} {item.name}" for item in asyncio.run(migrations.migrate(_dsn()))]
    if as_json:
        print_json({"applied": applied})
        return
    for name in applied:
        typer.echo(f"applied {name}")
    typer.echo("the schema is up to date")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Say which migrations are applied. Exits 1 when the schema is not as this version wants it."""
    found = asyncio.run(migrations.status(_dsn()))
    rows = [
        {
            "version": item.version,
            "name": item.name,
            "applied_at": None if item.applied_at is None else item.applied_at.isoformat(),
            "problem": item.problem or ("" if item.applied_at else "pending"),
        }
        for item in found
    ]
    print_list(rows, ("version", "name", "applied_at", "problem"), as_json=as_json)
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)
