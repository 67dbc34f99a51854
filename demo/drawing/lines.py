"""A panel of lines over time: axes, lines or stacked areas, thresholds, a legend with the newest values.

Pure.
"""

import math
from datetime import UTC, datetime

from demo.asking import Span
from demo.drawing.panel import Drawn, Room
from demo.drawing.scale import instants, ticks
from demo.drawing.svg import area, box, fitted, line, width, words
from demo.units import human

_SIZE, _LEGEND_LINE, _AXIS = 10.5, 15.0, 16.0
_LEGEND_LINES = 3
_INSTANT = 75.0
_KEPT_IN_ORDER = 4
_MINUTE_S = 60


def lines(drawn: Drawn, room: Room, span: Span) -> list[str]:
    """Return the elements of the panel."""
    rows, colours = _legend_rows(drawn, room.wide), drawn.colours
    high = room.high - _AXIS - _LEGEND_LINE * len(rows)
    tops = _tops(drawn)
    highest = max([value for top in tops for _, value in top], default=0)
    is_whole = drawn.panel.decimals == 0 and drawn.panel.unit != "percentunit"
    named = ticks(_lowest(drawn), highest, drawn.panel.unit, is_whole=is_whole)
    margin = max(width(_tick(drawn, value), _SIZE) for value in named) + 6
    plot = Room(room.x + margin, room.y + 6, room.wide - margin - 4, high - 6)
    scale = _Scale(plot, span, named[0], named[-1])
    elements = [*_grid(drawn, scale, named), *_marks(drawn, scale)]
    floor = [(at, 0.0) for at, _ in tops[0]] if tops else []
    for index, top in reversed(list(enumerate(tops))):
        below = tops[index - 1] if drawn.panel.is_stacked and index else floor
        elements += _series(colours[index], scale, top, below if drawn.panel.is_stacked else None)
    return elements + _legend(drawn, colours, rows, Room(room.x, room.y + high + _AXIS, room.wide, 0))


class _Scale:
    """Where an instant and a value are in a plot."""

    def __init__(self, plot: Room, span: Span, lowest: float, highest: float) -> None:
        self.plot, self.span, self.lowest, self.highest = plot, span, lowest, highest

    def x(self, at: float) -> float:
        return self.plot.x + (at - self.span.begin) / (self.span.end - self.span.begin) * self.plot.wide

    def y(self, value: float) -> float:
        return self.plot.y + self.plot.high * (1 - (value - self.lowest) / (self.highest - self.lowest))

    def place(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self.x(at), self.y(value)) for at, value in points]


def _lowest(drawn: Drawn) -> float:
    least = min([value for one in drawn.data for _, value in one.numbers], default=0.0)
    return min(least, 0.0 if drawn.panel.minimum is None else drawn.panel.minimum)


def _tops(drawn: Drawn) -> list[list[tuple[float, float]]]:
    """Return the upper edge of each series; stacked, each stands on those before it."""
    if not drawn.panel.is_stacked:
        return [one.numbers for one in drawn.data]
    every = sorted({at for one in drawn.data for at, _ in one.numbers})
    sums, tops = dict.fromkeys(every, 0.0), []
    for one in drawn.data:
        values = dict(one.numbers)
        sums = {at: below + values.get(at, 0.0) for at, below in sums.items()}
        tops.append(list(sums.items()))
    return tops


def _grid(drawn: Drawn, scale: _Scale, named: list[float]) -> list[str]:
    plot, theme = scale.plot, drawn.theme
    elements = []
    for value in named:
        y = scale.y(value)
        elements.append(line([(plot.x, y), (plot.x + plot.wide, y)], theme.grid, thick=1))
        elements.append(words(plot.x - 6, y + 3.5, _tick(drawn, value), theme.muted, size=_SIZE, anchor="end"))
    at_all = instants(scale.span.begin, scale.span.end, max(1, int(plot.wide / _INSTANT)))
    is_fine = len(at_all) > 1 and at_all[1] - at_all[0] < _MINUTE_S
    for at in at_all:
        text = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S" if is_fine else "%H:%M")
        half = width(text, _SIZE) / 2
        if plot.x + half <= scale.x(at) <= plot.x + plot.wide - half + 4:
            y = plot.y + plot.high + 13
            elements.append(words(scale.x(at), y, text, theme.muted, size=_SIZE, anchor="middle"))
    return elements


def _tick(drawn: Drawn, value: float) -> str:
    return human(value, drawn.panel.unit)


def _marks(drawn: Drawn, scale: _Scale) -> list[str]:
    """Return a dashed line for each threshold in sight."""
    plot = scale.plot
    return [
        line([(plot.x, y), (plot.x + plot.wide, y)], drawn.theme.colour(colour), thick=1, dashes="4 4")
        for begins, colour in drawn.panel.thresholds
        if scale.lowest < begins <= scale.highest and (y := scale.y(begins))
    ]


def _series(
    colour: str, scale: _Scale, top: list[tuple[float, float]], below: list[tuple[float, float]] | None
) -> list[str]:
    """Return a line along `top`, and where there is a `below` the area between them."""
    if not top:
        return []
    edge = scale.place(top)
    if len(edge) == 1:
        edge = [edge[0], (edge[0][0] + 2, edge[0][1])]
    if below is None:
        return [line(edge, colour)]
    return [area([*edge, *reversed(scale.place(below))], colour, 0.45), line(edge, colour, thick=1)]


def _entry(drawn: Drawn, index: int, room: float) -> str:
    one = drawn.data[index]
    value = drawn.shown(one.last)
    return f"{fitted(one.name, _SIZE, room - width(value, _SIZE) - 24)}  {value}".strip()


def _legend_rows(drawn: Drawn, wide: float) -> list[list[tuple[int, str]]]:
    """Return what stands in which line of the legend, the largest first; what has no room is told as a number."""
    rows: list[list[tuple[int, str]]] = [[]]
    left = wide
    ordered = sorted(range(len(drawn.data)), key=lambda index: -_size(drawn.data[index].last))
    for index in ordered if len(ordered) > _KEPT_IN_ORDER else range(len(drawn.data)):
        entry = _entry(drawn, index, wide)
        needed = width(entry, _SIZE) + 26
        if needed > left and rows[-1]:
            if len(rows) == _LEGEND_LINES:
                rows[-1][-1] = (-1, f"… and {len(drawn.data) - sum(map(len, rows)) + 1} more")
                break
            rows.append([])
            left = wide
        rows[-1].append((index, entry))
        left -= needed
    return rows


def _size(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _legend(drawn: Drawn, colours: list[str], rows: list[list[tuple[int, str]]], room: Room) -> list[str]:
    elements = []
    for number, row in enumerate(rows):
        x, base = room.x, room.y + _LEGEND_LINE * (number + 1) - 3
        for index, entry in row:
            if index >= 0:
                elements.append(box(x, base - 6, 10, 3.5, colours[index], radius=1.5))
            elements.append(words(x + (14 if index >= 0 else 0), base, entry, drawn.theme.muted, size=_SIZE))
            x += width(entry, _SIZE) + 26
    return elements
