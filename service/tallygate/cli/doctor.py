"""`tallygate doctor`: mistakes in a configuration that asks Tallygate, or what ails its own dependencies."""

import asyncio
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tallygate.cli.given_settings import load_settings
from tallygate.cli.nouns import noun
from tallygate.cli.output import AsJson, print_json
from tallygate.core.clock import SystemClock
from tallygate.core.errors import InputError
from tallygate.doctor.examine import Diagnosis, examine
from tallygate.doctor.finding import Finding, Severity
from tallygate.doctor.source import MAXIMUM_BYTES
from tallygate.settings import Settings

app = noun("doctor")
_STDIN = Path("-")
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


@app.command(epilog="Example: tallygate doctor --envoy envoy.yaml")
def doctor(
    envoy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|-",
            help="A configuration of Envoy, Istio or Envoy Gateway, in YAML or JSON; - reads it from standard input.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Worker processes that answer; as the settings say.", show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find known mistakes in a gateway's configuration, and say how each is mended.

    Exits 1 when there are errors. A comment `# doctor: accepts NAME because …` above a line says that it is meant.
    Without --envoy: ask Postgres and Redis of the settings whether they are fit to be used.
    """
    values = load_settings().values
    if envoy is None:
        raise typer.Exit(_check_up(values, as_json=as_json))
    name = "standard input" if envoy == _STDIN else str(envoy)
    answered_by = values.workers if workers is None else workers
    is_shared = answered_by > 1 and values.worker_endpoints == "shared"
    diagnosis = examine(_read(envoy), name, workers=answered_by, is_shared=is_shared)
    if as_json:
        print_json(_as_json(name, diagnosis))
    else:
        _tell(name, diagnosis)
    if diagnosis.has_errors or (strict and diagnosis.findings):
        raise typer.Exit(1)


def _check_up(values: Settings, *, as_json: bool) -> int:
    """Return the exit code."""
    from tallygate.app.checkup import checkup  # noqa: PLC0415 - judging a file waits for no driver

    checks = asyncio.run(checkup(values, SystemClock()))
    if as_json:
        print_json({"checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            typer.echo(f"{check.name}: {check.problem or 'well'}" + (f" ({check.mend})" if check.mend else ""))
    return int(any(check.problem for check in checks))


def _read(path: Path) -> bytes:
    try:
        if path == _STDIN:
            return sys.stdin.buffer.read(MAXIMUM_BYTES + 1)
        with path.open("rb") as file:
            return file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}", "give the path of a file, or -") from None


def _tell(name: str, diagnosis: Diagnosis) -> None:
    for finding in diagnosis.findings:
        mistake = finding.mistake
        typer.echo(f"{name}:{finding.line}: ", nl=False)
        typer.secho(mistake.severity.value, fg=_COLOURS[mistake.severity], nl=False)
        typer.echo(f" {mistake.name}: {finding.problem}")
        typer.echo(f"  {mistake.consequence}")
        typer.echo(f"  Write instead ({mistake.docs}):")
        typer.echo(textwrap.indent(finding.mend, "    ") + "\n")
    typer.echo(_summary(name, diagnosis))


def _summary(name: str, diagnosis: Diagnosis) -> str:
    if not diagnosis.findings:
        said = "nothing found"
    else:
        errors = sum(finding.mistake.severity is Severity.ERROR for finding in diagnosis.findings)
        warnings = len(diagnosis.findings) - errors
        said = f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}"
    meant = {finding.mistake.name for finding in diagnosis.accepted}
    return f"{name}: {said}" + (f"; accepted: {', '.join(sorted(meant))}" if meant else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _as_json(name: str, diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "file": name,
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "accepted": [_finding(finding) for finding in diagnosis.accepted],
    }


def _finding(finding: Finding) -> dict[str, object]:
    mistake = finding.mistake
    return {
        "name": mistake.name,
        "severity": mistake.severity.value,
        "line": finding.line,
        "problem": finding.problem,
        "consequence": mistake.consequence,
        "mend": finding.mend,
        "docs": mistake.docs,
    }
