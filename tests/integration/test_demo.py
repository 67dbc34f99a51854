"""`make demo-traffic` in short: everybody is answered as their persona says, and pictures come of what was scraped."""

import io
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from demo.asking import prometheus
from demo.cast import CAST
from demo.incidents import INCIDENTS
from demo.panels import ask, table
from demo.pictures import draw_all, span_until
from demo.play import play
from demo.stage import running_stage
from demo.traffic import wrong_answers
from rich.console import Console

pytestmark = pytest.mark.usefixtures("prometheus_programs")
SECONDS, SLOWER = 12, 3
PATIENT = {"LIMITER_TIMEOUT_S": "10", "STORE_TIMEOUT_S": "10"}
"""The machine of the tests may be starved: nobody is put off for that."""
BOARDS = {"overview", "plans-and-revenue", "customer", "data-plane"}


@pytest.mark.timeout(400)
async def test_a_short_play(tmp_path: Path) -> None:
    """Every persona sees each of its answers and no other; every incident happens; every board is drawn, twice."""
    said: list[str] = []
    async with running_stage(settings=PATIENT) as stage:
        answered = await play(stage, SECONDS, said.append, slower=SLOWER)
        span = span_until(time.time(), SECONDS)
        customer = await stage.system.control.customers.show("burst-1")
        async with prometheus(stage.prometheus.url) as asked:
            answers = await ask(asked, customer.id, span)
            await draw_all(asked, tmp_path, span, customer.id)
    assert wrong_answers(CAST, answered) == []
    assert {incident.title for incident in INCIDENTS} <= set(said)
    assert drawn(tmp_path) == {f"dashboard-{board}-{theme}.svg" for board in BOARDS for theme in ("light", "dark")}
    checks = {answer.panel.title: answer for answer in answers if answer.board.uid == "tallygate-overview"}
    assert not checks["Decisions by reason"].is_empty, lines(answered)
    printed = io.StringIO()
    Console(file=printed, width=140).print(table(answers))
    assert "Decisions by reason" in printed.getvalue()


def drawn(directory: Path) -> set[str]:
    """Return the names of the pictures, each of which is well-formed."""
    for path in directory.iterdir():
        ET.parse(path)  # noqa: S314 - ours
    return {path.name for path in directory.iterdir()}


def lines(answered: Mapping[str, Counter[str]]) -> str:
    """Return what everybody was answered."""
    return "\n".join(f"{name}: {dict(counted)}" for name, counted in answered.items())
