"""`make demo-traffic`: varied traffic through a real Envoy for three minutes, then every panel's query is put.

    python -m demo [--seconds 180] [--keep] [--pictures docs/images]

Starts everything itself and stops it again; `--keep` leaves it running, to look at, until Ctrl-C. Exit code 1 when
anybody was answered otherwise than their persona says, or a panel is empty.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from demo.asking import prometheus
from demo.cast import CAST
from demo.panels import Answer, ask, table
from demo.pictures import draw_all, span_until
from demo.play import play
from demo.stage import Stage, running_stage
from demo.traffic import put_off, wrong_answers
from rich.console import Console

from tallygate import log

_CUSTOMER = "burst-1"
_SECONDS, _LEAST_S = 180.0, 10.0
_PUT_OFF_AT_MOST = 0.05
_console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


async def demo(seconds: float, *, pictures: Path | None, is_kept: bool, port: int) -> bool:
    """Play, ask, draw and tell; return whether all was as it should be."""
    started_at = time.monotonic()

    def tell(line: str) -> None:
        _console.print(f"[dim]{time.monotonic() - started_at:6.1f} s[/]  {line}")

    async with running_stage(port) as stage:
        tell(f"up: Envoy at {stage.system.gateway_url}, Prometheus at {stage.prometheus.url}")
        answered = await play(stage, seconds, tell)
        _show(answered)
        answers = await _asked(stage, seconds, pictures)
        _console.print(table(answers), soft_wrap=False)
        wrong = wrong_answers(CAST, answered)
        if put_off(answered) > _PUT_OFF_AT_MOST:
            wrong.append(f"{put_off(answered):.1%} of all answers were a 503 of ours: this machine is too busy")
        wrong += [f"{answer.board.title}, {answer.panel.title}: empty" for answer in answers if answer.is_empty]
        for line in wrong:
            _console.print(f"[bold red]{line}[/]")
        tell(f"{len(answers)} queries: {f'{len(wrong)} WRONG' if wrong else 'all is as it should be'}")
        if is_kept:
            await _keep(stage)
        return not wrong


async def _asked(stage: Stage, seconds: float, pictures: Path | None) -> list[Answer]:
    """Put every query, and draw the pictures if they are wanted, of the play just over."""
    span = span_until(time.time(), seconds)
    customer = (await stage.system.control.customers.show(_CUSTOMER)).id
    async with prometheus(stage.prometheus.url) as asked:
        if pictures is not None:
            await draw_all(asked, pictures, span, customer)
        return await ask(asked, customer, span)


def _show(answered: Mapping[str, Counter[str]]) -> None:
    for persona in CAST:
        counted = ", ".join(f"{count} x {answer}" for answer, count in sorted(answered[persona.name].items()))
        _console.print(f"  {persona.name:<12} {persona.plan or '-':<11} {counted}")


async def _keep(stage: Stage) -> None:
    _console.print(f"\n  Prometheus  {stage.prometheus.url}   a data source for any Grafana: docs/dashboards.md")
    _console.print(f"  gateway     {stage.system.gateway_url}")
    _console.print(f"  admin       {stage.system.admin_url}/docs   its key: source {stage.system.env_file}")
    _console.print("\nCtrl-C stops everything.")
    await asyncio.Event().wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=_SECONDS, help=f"how long to play, {_LEAST_S:.0f} at least")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--pictures", type=Path, help="where to draw pictures of the dashboards")
    parser.add_argument("--port", type=int, default=0, help="where Prometheus listens; any free port if left out")
    given = parser.parse_args()
    if given.seconds < _LEAST_S:
        parser.error(f"--seconds: {given.seconds:g} is too short for everybody to meet their limits (10 at least)")
    return given


def main() -> int:
    """Run the demo."""
    given = _arguments()
    log.configure("warning")
    try:
        is_right = asyncio.run(demo(given.seconds, pictures=given.pictures, is_kept=given.keep, port=given.port))
    except KeyboardInterrupt:
        return 0 if given.keep else 130
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
