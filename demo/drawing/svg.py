"""Elements of an SVG picture, as text, and how wide words are.

Pure. Widths are an estimate on the safe side: which font draws a picture is known only where it is looked at.
"""

from collections.abc import Iterable
from xml.sax.saxutils import escape

_NARROW, _WIDE = frozenset("ijlftr.,:;|!'()[] ·/-"), frozenset("mwMWGOQ%@")
FONT = "Inter, 'Helvetica Neue', 'Segoe UI', Arial, sans-serif"


def width(text: str, size: float, *, is_bold: bool = False) -> float:
    """Return how wide a text of this size is at most, in pixels."""
    ems = sum(0.36 if one in _NARROW else 0.9 if one in _WIDE else 0.74 if one.isupper() else 0.62 for one in text)
    return ems * size * (1.1 if is_bold else 1)


def fitted(text: str, size: float, room: float) -> str:
    """Return the text, its end cut off where there is no room for it."""
    if width(text, size) <= room:
        return text
    while text and width(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def words(
    x: float, y: float, text: str, colour: str, *, size: float = 11, anchor: str = "start", weight: int = 400
) -> str:
    """Return a line of text; `y` is its base line, `anchor` which end of it is at `x`."""
    style = f'font-size="{size:g}" fill="{colour}"'
    style += f' text-anchor="{anchor}"' if anchor != "start" else ""
    style += f' font-weight="{weight}"' if weight != 400 else ""  # noqa: PLR2004 - as usual
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def box(x: float, y: float, wide: float, high: float, colour: str, *, radius: float = 0, border: str = "") -> str:
    """Return a filled rectangle."""
    round_off = f' rx="{radius:g}"' if radius else ""
    edge = f' stroke="{border}"' if border else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(0, wide):.1f}" height="{high:.1f}"'
    return f'<rect {place} fill="{colour}"{round_off}{edge}/>'


def line(points: Iterable[tuple[float, float]], colour: str, *, thick: float = 1.4, dashes: str = "") -> str:
    """Return a line through points."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{_listed(points)}" fill="none" stroke="{colour}" stroke-width="{thick:g}"{dashed}/>'


def area(points: Iterable[tuple[float, float]], colour: str, opacity: float) -> str:
    """Return a filled shape with these corners."""
    return f'<polygon points="{_listed(points)}" fill="{colour}" fill-opacity="{opacity:g}"/>'


def picture(wide: float, high: float, title: str, elements: Iterable[str]) -> str:
    """Return a whole SVG file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" height="{high:g}"'
    body = "\n".join(elements)
    return f'{head} font-family="{FONT}" role="img">\n<title>{escape(title)}</title>\n{body}\n</svg>\n'


def _listed(points: Iterable[tuple[float, float]]) -> str:
    """Return corners as text; of a level stretch only its ends."""
    rounded = [(f"{x:.1f}", f"{y:.1f}") for x, y in points]
    inner = range(1, len(rounded) - 1)
    level = {index for index in inner if rounded[index - 1][1] == rounded[index][1] == rounded[index + 1][1]}
    return " ".join(f"{x},{y}" for index, (x, y) in enumerate(rounded) if index not in level)
