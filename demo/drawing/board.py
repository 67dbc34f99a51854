"""A whole dashboard as a picture: every panel where the dashboard has it, under its title and the titles of its rows.

Pure.
"""

from collections.abc import Mapping, Sequence

from demo.asking import Span
from demo.drawing.figures import bars, stat, table
from demo.drawing.lines import lines
from demo.drawing.panel import Drawn, Named, Room, frame
from demo.drawing.svg import box, picture, words
from demo.drawing.theme import Theme
from deploy.dashboards.expressions import Board, Panel

_COLUMNS, _COLUMN, _ROW, _GAP = 24, 50.0, 30.0, 8.0
_HEAD, _EDGE = 46.0, 10.0
_KINDS = {"timeseries": lines, "stat": stat, "bargauge": bars, "table": table}


def draw(board: Board, data: Mapping[str, Sequence[Sequence[Named]]], span: Span, theme: Theme, about: str) -> str:
    """Return the picture as SVG; `data` has of each section the series of its panels, in their order."""
    wide = _COLUMNS * _COLUMN + 2 * _EDGE
    high = _HEAD + _EDGE + max(panel.place.y + panel.place.height for panel in board.panels) * _ROW
    elements = [
        box(0, 0, wide, high, theme.page, radius=8),
        words(_EDGE + 4, 30, board.title, theme.text, size=18, weight=600),
        words(wide - _EDGE - 4, 30, about, theme.muted, size=12, anchor="end"),
    ]
    for section in dict.fromkeys(panel.section for panel in board.panels):
        inside = [panel for panel in board.panels if panel.section == section]
        y = _HEAD + min(panel.place.y for panel in inside) * _ROW
        elements.append(words(_EDGE + 4, y - 10, section, theme.text, size=13, weight=600))
        for panel, named in zip(inside, data[section], strict=True):
            elements += _panel(Drawn(panel, theme, named), span)
    return picture(wide, high, board.title, elements)


def _panel(drawn: Drawn, span: Span) -> list[str]:
    elements, inside = frame(drawn, _room(drawn.panel))
    if not drawn.data:
        x, y = inside.x + inside.wide / 2, inside.y + inside.high / 2
        return [*elements, words(x, y, "no data", drawn.theme.muted, size=13, anchor="middle")]
    return elements + _KINDS[drawn.panel.kind](drawn, inside, span)


def _room(panel: Panel) -> Room:
    at = panel.place
    x, y = _EDGE + at.x * _COLUMN, _HEAD + at.y * _ROW
    return Room(x + _GAP / 2, y, at.width * _COLUMN - _GAP, at.height * _ROW - _GAP)
