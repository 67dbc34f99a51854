"""Pictures of dashboards: numbers as people read them, round ticks, and every kind of panel as well-formed SVG."""

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import pytest
from demo.asking import Series, Span
from demo.drawing.board import draw
from demo.drawing.panel import Drawn, Named
from demo.drawing.scale import instants, ticks
from demo.drawing.svg import fitted, width
from demo.drawing.theme import DARK, LIGHT, Theme
from demo.units import human
from deploy.dashboards.expressions import Board, Panel, Place, Target

SPAN = Span(1_000, 1_180, 2)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "expected"),
    [
        (12_345, "short", None, "12.3k"),
        (0.0041, "s", None, "4.1 ms"),
        (0.00000052, "s", None, "520 ns"),
        (1.2 * 2**20, "bytes", None, "1.2 MiB"),
        (0.8432, "percentunit", 1, "84.3 %"),
        (-0.5, "percentunit", 0, "-50 %"),
        (61.27, "reqps", None, "61.3 req/s"),
        (90, "s", None, "90 s"),
        (7_200, "s", None, "2 h"),
        (0, "s", None, "0 s"),
        (0, "short", None, "0"),
        (3, "none", 0, "3"),
        (13_098, "locale", 2, "13,098.00"),
        (1_234_567, "short", 0, "1.2M"),
        (math.nan, "s", None, "-"),
        (-math.inf, "s", None, "-∞"),
    ],
)
def test_numbers_are_for_people(value: float, unit: str, decimals: int | None, expected: str) -> None:
    """Three digits and a unit, whatever the size."""
    assert human(value, unit, decimals) == expected


@pytest.mark.parametrize(
    ("lowest", "highest", "unit", "expected"),
    [
        (0, 23.7, "reqps", [0, 10, 20, 30]),
        (0, 0, "short", [0, 0.25, 0.5, 0.75, 1]),
        (0, 0.009, "s", [0, 0.0025, 0.005, 0.0075, 0.01]),
        (0, 600, "s", [0, 300, 600]),
        (0, 200 * 2**20, "bytes", [0, 64 * 2**20, 128 * 2**20, 192 * 2**20, 256 * 2**20]),
        (-0.4, 1, "percentunit", [-0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_cover_the_data(lowest: float, highest: float, unit: str, expected: list[float]) -> None:
    """Round in the unit that is shown, from below the least value to above the largest."""
    assert ticks(lowest, highest, unit) == pytest.approx(expected)


def test_instants_are_round() -> None:
    """Three minutes are told by the minute."""
    assert instants(1_000, 1_180) == [1_020, 1_080, 1_140]


def test_a_text_never_leaves_its_room() -> None:
    """What is too long loses its end, and says so."""
    long = "units of a plan with quite a long name"
    assert fitted("short", 11, 200) == "short"
    cut = fitted(long, 11, 100)
    assert cut.endswith("…")
    assert width(cut, 11) <= 100


def panel(kind: str, *, is_stacked: bool = False, unit: str = "reqps") -> Panel:
    """Return a panel of some kind."""
    return Panel(
        section="Now", title="Checks <by> plan & reason", description="", kind=kind, unit=unit, decimals=None,
        minimum=0, maximum=None, place=Place(0, 1, 8, 8), targets=(), thresholds=((-math.inf, "green"), (5, "red")),
        colours={"deny": "orange"}, words={"0": "down"}, is_stacked=is_stacked,
    )  # fmt: skip


def named(name: str, *values: float) -> Named:
    """Return a series with a point every ten seconds."""
    points = tuple((SPAN.begin + 10 * number, value) for number, value in enumerate(values))
    return Named(name, Series({"plan": name}, points), Target("", "Checks", is_instant=False))


def drawn(made: Panel, data: Sequence[Named], theme: Theme = DARK) -> str:
    """Return a board of one panel as its words, after reading it as XML."""
    board = Board("tallygate-one", "Tallygate / One", (), (made,), ())
    return " | ".join(ET.fromstring(draw(board, {"Now": [data]}, SPAN, theme, "made up")).itertext())  # noqa: S314 - ours


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
@pytest.mark.parametrize("kind", ["timeseries", "stat", "bargauge", "table"])
@pytest.mark.parametrize("values", [(), (0,), (math.nan,), (1, 2, 1e6)], ids=["nothing", "zero", "NaN", "some"])
def test_every_kind_of_panel_is_drawn_from_any_data(kind: str, values: tuple[float, ...], theme: Theme) -> None:
    """Nothing, one point, no number, many: a picture comes of it, in either theme, and no coordinate is NaN."""
    data = [named("free", *values), named("deny", *values)] if values else []
    board = Board("tallygate-one", "One", (), (panel(kind),), ())
    text = draw(board, {"Now": [data]}, SPAN, theme, "made up")
    ET.fromstring(text)  # noqa: S314 - ours
    assert not re.search(r'="[^"]*\b(nan|inf)\b', text)
    assert ("no data" in text) == (not values)


def test_a_panel_tells_its_title_names_and_newest_values() -> None:
    """The title as it is, each series with its last value, in the panel's unit."""
    text = drawn(panel("timeseries"), [named("free", 1, 2, 3), named("pro", 4, 5)])
    assert "Checks <by> plan & reason" in text
    assert "free  3 req/s" in text
    assert "pro  5 req/s" in text


def test_stacked_series_stand_on_each_other() -> None:
    """The axis reaches up to the sum."""
    series = [named("free", 30, 30), named("pro", 50, 50)]
    assert "80 req/s" in drawn(panel("timeseries", is_stacked=True), series)
    assert "80 req/s" not in drawn(panel("timeseries"), series)


def test_more_than_there_is_room_for_is_told_as_a_number() -> None:
    """Of forty the largest are named, and how many are not."""
    many = [named(f"customer-{number}", number) for number in range(1, 41)]
    for kind in ("timeseries", "bargauge", "table"):
        text = drawn(panel(kind), many)
        shown = len(set(re.findall(r"customer-\d+", text)))
        assert "customer-40" in text
        assert f"… and {40 - shown} more" in text


def test_no_series_has_the_colour_of_another() -> None:
    """A colour that is somebody's own is not dealt out to others."""
    data = [named(name, 1) for name in ("allow", "deny", "a", "b", "c", "d", "e", "f")]
    colours = Drawn(panel("timeseries"), DARK, data).colours
    assert colours[1] == DARK.named["orange"]
    assert len(set(colours)) == len(colours)


def test_a_word_stands_for_a_value() -> None:
    """A dependency that is down is not `0`."""
    assert "down" in drawn(panel("stat", unit="none"), [named("", 0)])
