"""Pictures of the four dashboards, light and dark, of what a Prometheus has: docs/images/dashboard-*.svg.

    python -m demo.pictures --prometheus http://127.0.0.1:9090 --customer cus_… [--minutes 3] [--to docs/images]

Owns what is asked for a picture and where pictures are kept. Does not own the dashboards, whose JSON files are read
as they are, nor how anything is drawn (`drawing`).
"""

import argparse
import asyncio
import time
from pathlib import Path

from demo.asking import Prometheus, Series, Span, prometheus
from demo.drawing.board import draw
from demo.drawing.panel import Named
from demo.drawing.theme import DARK, LIGHT
from demo.panels import variables
from deploy.dashboards.expressions import Panel, Target, boards

IMAGES = Path(__file__).parents[1] / "docs" / "images"
_POINTS = 90
_ABOUT = "make demo-traffic, drawn from Prometheus"


async def draw_all(asked: Prometheus, to: Path, span: Span, customer: str) -> None:
    """Draw every board twice into the directory `to`."""
    to.mkdir(parents=True, exist_ok=True)
    for board in boards(variables(customer, span)):
        data: dict[str, list[list[Named]]] = {}
        for panel in board.panels:
            data.setdefault(panel.section, []).append(await _data(asked, panel, span))
        for theme in (LIGHT, DARK):
            name = f"dashboard-{board.uid.removeprefix('tallygate-')}-{theme.name}.svg"
            (to / name).write_text(draw(board, data, span, theme, _ABOUT))


async def _data(asked: Prometheus, panel: Panel, span: Span) -> list[Named]:
    return [
        Named(target.name(series.labels), series, target)
        for target in panel.targets
        for series in await _answer(asked, target, span)
    ]


async def _answer(asked: Prometheus, target: Target, span: Span) -> list[Series]:
    if target.is_instant:
        return await asked.at(target.expression, span.end)
    return await asked.over(target.expression, span)


def span_until(end: float, seconds: float) -> Span:
    """Return the last so many seconds, in as many points as a panel can show."""
    return Span(end - seconds, end, max(1.0, seconds / _POINTS))


async def _draw(given: argparse.Namespace) -> None:
    async with prometheus(given.prometheus) as asked:
        await draw_all(asked, given.to, span_until(time.time(), given.minutes * 60), given.customer)


def main() -> None:
    """Draw what the options name."""
    parser = argparse.ArgumentParser(prog="python -m demo.pictures", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prometheus", required=True, help="its URL")
    parser.add_argument("--minutes", type=float, default=3.0, help="how far back")
    parser.add_argument("--customer", required=True, help="whom the board of a customer shows: cus_…")
    parser.add_argument("--to", type=Path, default=IMAGES, help="the directory")
    given = parser.parse_args()
    asyncio.run(_draw(given))


if __name__ == "__main__":
    main()
