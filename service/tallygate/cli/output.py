"""How answers look: tables for people, REST representations as JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the REST representation.")]


def complain(text: str) -> None:
    """Print an error to stderr."""
    typer.secho(f"error: {text}", fg="red", err=True)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_secret(what: str, secret: str) -> None:
    """Print a secret, for this one time."""
    typer.echo(f"\n{what}  {secret}")
    typer.echo("Keep it now: it is stored nowhere and cannot be shown again.")


def print_object(value: Mapping[str, object], *, as_json: bool) -> None:
    """Print one object: its fields below each other, or as JSON."""
    if as_json:
        print_json(value)
        return
    from tallygate.cli import tables  # noqa: PLC0415 - rich takes longer to import than to answer in JSON

    tables.console().print(tables.fields(value))


def print_list(
    items: Sequence[Mapping[str, object]], columns: Sequence[str], *, as_json: bool, next_cursor: str | None = None
) -> None:
    """Print objects: a table of `columns`, or the REST page `{items, next_cursor}`."""
    if as_json:
        print_json({"items": list(items), "next_cursor": next_cursor})
        return
    if not items:
        typer.echo("(none)")
        return
    from tallygate.cli import tables  # noqa: PLC0415 - as above

    tables.console().print(tables.rows(items, columns))
    if next_cursor is not None:
        typer.echo(f"more: add --after {next_cursor}")
