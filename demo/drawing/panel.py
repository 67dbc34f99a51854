"""What every panel has: data with names and colours, a frame, a title.

Pure. Owns how series get their colours. Does not own how a kind of panel draws them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from demo.asking import Series
from demo.drawing.svg import box, fitted, width, words
from demo.drawing.theme import Theme
from demo.units import human
from deploy.dashboards.expressions import Panel, Target

TITLE_HEIGHT = 26.0
_INSIDE = 9.0
_TITLE, _TITLE_LEAST = 12.0, 10.0


@dataclass(frozen=True, slots=True)
class Room:
    """A rectangle to draw in, in pixels."""

    x: float
    y: float
    wide: float
    high: float


@dataclass(frozen=True, slots=True)
class Named:
    """A series as the legend calls it, and the query it answers."""

    name: str
    series: Series
    target: Target

    @property
    def numbers(self) -> list[tuple[float, float]]:
        """Return the points that are numbers."""
        return [(at, value) for at, value in self.series.points if math.isfinite(value)]

    @property
    def last(self) -> float:
        """Return the newest number."""
        return self.numbers[-1][1] if self.numbers else math.nan


@dataclass(frozen=True, slots=True)
class Drawn:
    """A panel with its data, which every kind is drawn from."""

    panel: Panel
    theme: Theme
    data: Sequence[Named]

    @property
    def colours(self) -> list[str]:
        """Return the colour of each series: its own, or the next of the theme that is nobody's own here."""
        own = [self.panel.colours.get(one.name) for one in self.data]
        taken = {self.theme.colour(name) for name in own if name is not None}
        free = cycle([colour for colour in self.theme.series if colour not in taken])
        return [next(free) if name is None else self.theme.colour(name) for name in own]

    def judged(self, value: float) -> str:
        """Return the colour of a value by the panel's thresholds."""
        passed = [colour for begins, colour in self.panel.thresholds if value >= begins]
        return self.theme.colour(passed[-1]) if passed else self.theme.text

    def shown(self, value: float) -> str:
        """Return a value as the panel writes it."""
        word = self.panel.words.get(f"{value:g}")
        return human(value, self.panel.unit, self.panel.decimals) if word is None else word


def frame(drawn: Drawn, room: Room) -> tuple[list[str], Room]:
    """Return the frame with the title, and the room inside it."""
    wide = room.wide - 2 * _INSIDE
    size = max(_TITLE_LEAST, min(_TITLE, _TITLE * wide / width(drawn.panel.title, _TITLE, is_bold=True)))
    elements = [
        box(room.x, room.y, room.wide, room.high, drawn.theme.panel, radius=4, border=drawn.theme.border),
        words(
            *(room.x + _INSIDE, room.y + 18, fitted(drawn.panel.title, size, wide), drawn.theme.text),
            size=round(size, 1),
            weight=600,
        ),
    ]
    inside = Room(room.x + _INSIDE, room.y + TITLE_HEIGHT, wide, room.high - TITLE_HEIGHT - 8)
    return elements, inside
