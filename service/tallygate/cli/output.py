"""How answers look: tables for people, REST representations as JSON for programs."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tallygate.admin.records import Json

AsJson = Annotated[bool, typer.Option("--json", help="Print the REST representation.")]

_PIPED_WIDTH = 200


def console() -> Console:
    """Return a console on stdout; wide where there is no terminal, so that nothing is cut in a pipe."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=_PIPED_WIDTH, highlight=False)


def complain(text: str) -> None:
    """Print an error to stderr, nothing in it read as markup."""
    Console(stderr=True, highlight=False, soft_wrap=True).print("error: " + text, markup=False, style="red")


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_object(value: Json, *, as_json: bool) -> None:
    """Print one object: its fields below each other, or as JSON."""
    if as_json:
        print_json(value)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, item in value.items():
        table.add_row(name, cell(item))
    console().print(table)


def print_list(items: Sequence[Json], columns: Sequence[str], *, as_json: bool, next_cursor: str | None = None) -> None:
    """Print objects: a table of `columns`, or the REST page `{items, next_cursor}`."""
    if as_json:
        print_json({"items": list(items), "next_cursor": next_cursor})
        return
    if not items:
        console().print("(none)")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in ("id", "status"))
    for item in items:
        table.add_row(*(cell(item[name]) for name in columns))
    console().print(table)
    if next_cursor is not None:
        console().print(f"more: add --after {next_cursor}")


def cell(value: object) -> str:
    """Return a value as a table shows it; brackets are escaped, for rich reads them as markup."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value) or "-"
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return text.replace("[", r"\[")
