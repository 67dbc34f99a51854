"""Options that many commands share, each with one meaning."""

import sys
from typing import Annotated

import typer

Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")]
Revision = Annotated[
    int | None,
    typer.Option(
        "--revision", min=1, help="Only if it is still at this revision, which `show` prints; exits 1 otherwise."
    ),
]
TokenRef = Annotated[
    str, typer.Argument(metavar="TOKEN", help="Id, or the token itself; - reads it from standard input.")
]


def token_of(text: str) -> str:
    """Return the token, or its id, that a `TokenRef` names."""
    return sys.stdin.readline().strip() if text == "-" else text
