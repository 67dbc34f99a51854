"""Panels of single values: large numbers, bars, tables.

Pure. Where there are more values than room, the largest are shown, and how many are not.
"""

from collections.abc import Mapping

from demo.asking import Span
from demo.drawing.panel import Drawn, Room
from demo.drawing.svg import area, box, fitted, line, width, words
from demo.units import human

_SIZE, _LARGE = 11.0, 30.0
_BAR_LEAST, _BAR_MOST, _ROW = 18.0, 30.0, 21.0
_FIRST = {"customer", "plan"}
_TOLD = {"currency"}
"""A label that every value tells by its sign."""
_CURRENCIES = {"USD": "$", "EUR": "€", "GBP": "£"}


def stat(drawn: Drawn, room: Room, span: Span) -> list[str]:
    """Return large numbers, side by side where there are several; behind one alone, how it went."""
    elements: list[str] = []
    if len(drawn.data) == 1:
        elements += _spark(drawn, room, span)
    wide = room.wide / max(1, len(drawn.data))
    for number, one in enumerate(drawn.data):
        text, x = drawn.shown(one.last), room.x + wide * (number + 0.5)
        size = min(_LARGE, _LARGE * (wide - 8) / max(1.0, width(text, _LARGE)))
        y = room.y + room.high / 2 + (0 if one.name else 6)
        elements.append(words(x, y, text, drawn.judged(one.last), size=round(size, 1), anchor="middle", weight=600))
        name = fitted(one.name, _SIZE, wide)
        elements.append(words(x, y + 18, name, drawn.theme.muted, size=_SIZE, anchor="middle"))
    return elements


def _spark(drawn: Drawn, room: Room, span: Span) -> list[str]:
    points = drawn.data[0].numbers
    highest = max((value for _, value in points), default=0)
    if len(points) < 2 or highest <= 0:  # noqa: PLR2004 - a line has two ends
        return []
    bottom, high = room.y + room.high + 7, 26.0
    edge = [
        (
            room.x - 8 + (at - span.begin) / (span.end - span.begin) * (room.wide + 16),
            bottom - max(0, value) / highest * high,
        )
        for at, value in points
    ]
    colour = drawn.judged(drawn.data[0].last)
    return [area([*edge, (edge[-1][0], bottom), (edge[0][0], bottom)], colour, 0.13), line(edge, colour, thick=1)]


def bars(drawn: Drawn, room: Room, _span: Span) -> list[str]:
    """Return a bar for each value, the longest first, its name on its left and its number on its right."""
    ordered = sorted(drawn.data, key=lambda one: -one.last)
    fit = max(1, int(room.high // _BAR_LEAST))
    shown = ordered if len(ordered) <= fit else ordered[: fit - 1]
    if not shown:
        return []
    step = min(_BAR_MOST, room.high / (len(shown) + (len(shown) < len(ordered))))
    names = min(room.wide * 0.5, max(width(one.name, _SIZE) for one in shown) + 8)
    numbers = max(width(drawn.shown(one.last), _SIZE) for one in shown) + 6
    longest = max(drawn.panel.maximum or 0, *(one.last for one in shown), 1e-12)
    space, elements = room.wide - names - numbers, []
    for number, one in enumerate(shown):
        y = room.y + number * step
        own = drawn.panel.colours.get(one.name)
        colour = drawn.judged(one.last) if own is None else drawn.theme.colour(own)
        name = fitted(one.name, _SIZE, names - 6)
        elements.append(words(room.x + names - 6, y + step / 2 + 4, name, drawn.theme.text, size=_SIZE, anchor="end"))
        elements.append(box(room.x + names, y + 3, space, step - 6, drawn.theme.grid, radius=2))
        elements.append(box(room.x + names, y + 3, space * max(0, one.last) / longest, step - 6, colour, radius=2))
        x = room.x + room.wide
        elements.append(words(x, y + step / 2 + 4, drawn.shown(one.last), colour, size=_SIZE, anchor="end", weight=600))
    return elements + _more(drawn, room, len(ordered) - len(shown))


def table(drawn: Drawn, room: Room, _span: Span) -> list[str]:
    """Return a row for each set of labels: these, and then a column of values for each query."""
    columns = list(dict.fromkeys(one.target.legend for one in drawn.data))
    rows: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for one in drawn.data:
        rows.setdefault(tuple(sorted(one.series.labels.items())), {})[one.target.legend] = one.last
    ordered = sorted(rows.items(), key=lambda row: -row[1].get(columns[0], 0.0)) if columns else []
    fit = int(room.high // _ROW) - 1
    shown = ordered if len(ordered) <= fit else ordered[: fit - 1]
    labels = sorted({name for row in rows for name, _ in row} - _TOLD, key=lambda name: (name not in _FIRST, name))
    cells = [
        [*(dict(key).get(name, "") for name in labels), *(_cell(drawn, name, values, dict(key)) for name in columns)]
        for key, values in shown
    ]
    elements = _rows(drawn, room, [[*labels, *columns], *cells], len(labels))
    return elements + _more(drawn, room, len(ordered) - len(shown))


def _cell(drawn: Drawn, column: str, values: Mapping[str, float], labels: Mapping[str, str]) -> str:
    if column not in values:
        return "-"
    currency = labels.get("currency", "")
    sign = _CURRENCIES.get(currency, f"{currency} ".lstrip())
    return sign + human(values[column], drawn.panel.unit, drawn.panel.decimals)


def _rows(drawn: Drawn, room: Room, cells: list[list[str]], labels: int) -> list[str]:
    """Return lines of cells, the first as a header; what is no label stands to the right of its column."""
    theme = drawn.theme
    needed = [
        max(width(cell, _SIZE, is_bold=cell == column[0]) for cell in column) + 10
        for column in zip(*cells, strict=True)
    ]
    wide = [one * room.wide / sum(needed) for one in needed]
    elements = []
    for number, row in enumerate(cells):
        x, y = room.x, room.y + _ROW * number
        if number:
            elements.append(line([(x, y), (x + room.wide, y)], theme.grid, thick=1))
        for column, cell in enumerate(row):
            text, is_label = fitted(cell, _SIZE, wide[column] - 6), column < labels
            place = (x, "start") if is_label else (x + wide[column], "end")
            colour, weight = (theme.text, 400) if number else (theme.muted, 600)
            elements.append(words(place[0], y + 15, text, colour, size=_SIZE, anchor=place[1], weight=weight))
            x += wide[column]
    return elements


def _more(drawn: Drawn, room: Room, hidden: int) -> list[str]:
    if not hidden:
        return []
    return [words(room.x, room.y + room.high - 2, f"… and {hidden} more", drawn.theme.muted, size=_SIZE)]
