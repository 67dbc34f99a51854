"""Tables for people; imported when one is printed, for programs should not wait for what draws them."""

import json
import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

_PIPED_WIDTH = 200


def console() -> Console:
    """Return a console on stdout; wide where there is no terminal, so that nothing is cut in a pipe."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=_PIPED_WIDTH, highlight=False)


def fields(value: Mapping[str, object]) -> Table:
    """Return the fields of an object, below each other."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, item in value.items():
        table.add_row(name, cell(item))
    return table


def rows(items: Sequence[Mapping[str, object]], columns: Sequence[str]) -> Table:
    """Return a table of these columns, an object a line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in ("id", "status"))
    for item in items:
        table.add_row(*(cell(item[name]) for name in columns))
    return table


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
