"""`tallygate explain`: a decision, step by step, consuming nothing."""

import asyncio
import sys
from typing import Annotated

import typer

from tallygate.app.explain import explain as decide
from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun
from tallygate.cli.output import AsJson, print_json, print_list
from tallygate.core.errors import InputError
from tallygate.decision.decision import Allow, CheckInput, Decision
from tallygate.decision.explain import decision_as_json, steps_of

app = noun("explain")


@app.command(epilog="Example: tallygate explain GET /v1/things --token -")
def explain(
    method: Annotated[str, typer.Argument(help="GET, POST, …")],
    path: Annotated[str, typer.Argument(help="Path and query, such as /v1/things.")],
    token: Annotated[str, typer.Option(help="The token; - reads it from standard input.")],
    client_address: Annotated[str, typer.Option(help="The caller's address.")] = "127.0.0.1",
    as_json: AsJson = False,
) -> None:
    """Say how a request would be decided and why, and consume nothing."""
    if not path.startswith("/"):
        raise InputError("path", f"{path!r} does not begin with /", "write a path such as /v1/things")
    text = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105 - the sign for standard input
    asked = CheckInput(method.upper(), path, {"authorization": f"Bearer {text}"}, client_address)
    decision = asyncio.run(decide(load_settings().values, asked))
    if as_json:
        print_json(decision_as_json(decision))
        return
    steps = [{"step": step.name, "result": step.outcome.value, "seen": step.detail} for step in steps_of(decision)]
    print_list(steps, ("step", "result", "seen"), as_json=False)
    typer.echo(f"{_verdict(decision)}: {decision.reason.value}")


def _verdict(decision: Decision) -> str:
    return "allow" if isinstance(decision, Allow) else "deny"
