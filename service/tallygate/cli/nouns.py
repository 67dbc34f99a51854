"""The nouns of the command line: what `tallygate --help` lists, and what every noun's own command is made of.

A noun's module is imported when that noun is asked for, so that no command waits for the imports of another.
"""

from importlib import import_module

import typer

# In the order in which they are listed; `x-y` lives in `cli/x_y.py`.
NOUNS = {
    "dev": "Run the whole system on this machine, to try it.",
    "serve": "Answer Envoy's checks.",
    "admin": "Serve the REST API, and do the work in the background.",
    "worker": "Do the work in the background only.",
    "explain": "Say how a request would be decided, and why.",
    "doctor": "Find mistakes in gateways and in what Tallygate needs.",
    "db": "The database schema.",
    "config": "Settings.",
    "plans": "Plans as a file.",
    "customers": "Who pays.",
    "subscriptions": "Which customer is on which plan.",
    "tokens": "Issue, rotate and revoke tokens.",
    "usage": "What was counted, and whether counters and ledger agree.",
    "invoices": "What usage comes to.",
    "exports": "Who is told of usage, and how far they are.",
    "audit": "Who did what, and whether somebody wrote in the log.",
    "admin-keys": "Who may use the REST API.",
}


def noun(name: str, example: str | None = None) -> typer.Typer:
    """Return the command of a noun, for its module to fill; its help ends with the `example`."""
    return typer.Typer(
        help=NOUNS[name],
        epilog=None if example is None else f"Example: tallygate {name} {example}",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )


def add_nouns(root: typer.Typer) -> None:
    """List every noun in `root`; what follows a noun on the command line is its module's to read."""
    unread = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
    for name, about in NOUNS.items():
        root.command(name, help=about, context_settings=unread, add_help_option=False)(_hand_over)


def _hand_over(context: typer.Context) -> None:
    name = str(context.info_name)
    module = import_module(f"tallygate.cli.{name.replace('-', '_')}")
    module.app(context.args, prog_name=f"tallygate {name}")
