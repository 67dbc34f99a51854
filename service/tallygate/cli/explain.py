"""`tallygate explain`: a decision, step by step, consuming nothing."""

import asyncio
import sys
from typing import Annotated

import typer

from tallygate import app
from tallygate.admin.records import Json
from tallygate.cli.context import load_settings
from tallygate.cli.output import AsJson, console, print_json, print_list
from tallygate.core.errors import InputError
from tallygate.decision.decision import Allow, CheckInput, Decision
from tallygate.decision.explain import steps_of


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
    decision = asyncio.run(app.explain(load_settings().values, asked))
    if as_json:
        print_json(_as_json(decision))
        return
    steps = [{"step": step.name, "result": step.outcome.value, "seen": step.detail} for step in steps_of(decision)]
    print_list(steps, ("step", "result", "seen"), as_json=False)
    console().print(f"{_verdict(decision)}: {decision.reason.value}")


def _verdict(decision: Decision) -> str:
    return "allow" if isinstance(decision, Allow) else "deny"


def _as_json(decision: Decision) -> Json:
    return {
        "decision": _verdict(decision),
        "reason": decision.reason.value,
        "plan": None if decision.phase is None else decision.phase.grant.plan,
        "route": None if decision.route is None else decision.route.text,
        "steps": [
            {"name": step.name, "outcome": step.outcome.value, "detail": step.detail} for step in steps_of(decision)
        ],
        "limits": [
            {
                "name": state.limit.name,
                "kind": state.limit.kind.value,
                "amount": state.limit.amount,
                "remaining": state.remaining,
                "outcome": state.outcome.value,
                "reset_s": state.reset_s,
            }
            for state in decision.states
        ],
    }
