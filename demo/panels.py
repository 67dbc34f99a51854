"""What every panel of every dashboard says now: its queries, put to a real Prometheus.

Owns the questions and the table. Does not own the dashboards (`deploy/dashboards`), whose JSON files are read as
they are. A query that returns nothing, or no number, is empty; one that is refused is an error of Prometheus's.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from demo.asking import Prometheus, Series, Span
from demo.units import human
from deploy.dashboards.expressions import Board, Panel, Target, boards
from rich import box
from rich.table import Table

_WINDOW = "30s"


@dataclass(frozen=True, slots=True)
class Answer:
    """One query of a panel, and what came back."""

    board: Board
    panel: Panel
    target: Target
    series: tuple[Series, ...]

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to draw."""
        return all(math.isnan(one.last) for one in self.series)

    @property
    def shown(self) -> str:
        """Return the largest value as a reader of the panel sees it, and whose it is."""
        found = [one for one in self.series if not math.isnan(one.last)]
        if not found:
            return "nothing"
        largest = max(found, key=lambda one: one.last)
        value = human(largest.last, self.panel.unit, self.panel.decimals)
        return f"{value}  {self.target.name(largest.labels)}".rstrip()


def variables(customer: str, span: Span) -> dict[str, str]:
    """Return the values of the boards' variables: all plans, one customer, a stretch of time."""
    return {"customer": customer, "__range": f"{span.end - span.begin:.0f}s", "__rate_interval": _WINDOW}


async def ask(asked: Prometheus, customer: str, span: Span) -> list[Answer]:
    """Put every query of every panel, at the end of `span`."""
    return [
        Answer(board, panel, target, tuple(await asked.at(target.expression, span.end)))
        for board in boards(variables(customer, span))
        for panel in board.panels
        for target in panel.targets
    ]


def table(answers: Iterable[Answer]) -> Table:
    """Return a table of boards, panels, how many series each query found, and the largest value among them."""
    made = Table("board", "panel", "series", "largest", box=box.SIMPLE_HEAD, pad_edge=False)
    before = ("", "")
    for answer in answers:
        here = (answer.board.title, answer.panel.title)
        cells = ["" if here[0] == before[0] else here[0], "" if here == before else here[1]]
        made.add_row(*cells, str(len(answer.series)), answer.shown, style="bold red" if answer.is_empty else None)
        before = here
    return made
