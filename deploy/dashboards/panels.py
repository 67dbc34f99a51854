"""The few kinds of panels that the boards are made of, and the colours that mean the same on all of them.

Owns how things look: kinds, legends, colours, thresholds. Does not own what is asked (the boards), nor where a panel
stands (Grafana's own layout: left to right, 24 columns).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BarGaugeValueMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, WARN, BAD, CALM = "green", "orange", "red", "blue"
RUNBOOKS = "https://tallygate.dev/runbooks#"

DECISIONS: Mapping[str, str] = {"allow": GOOD, "deny": WARN, "error": BAD}
REASONS: Mapping[str, str] = {
    "ok": GOOD,
    "overage": CALM,
    "shadow": "light-blue",
    "dependency_down": BAD,
    "overloaded": "semi-dark-red",
    "internal_error": "dark-red",
}
"""Reasons that have a meaning of their own; the others take what Grafana deals out."""

Panel: TypeAlias = Builder[models.Panel]
Section: TypeAlias = list[Panel]
"""The panels of one row."""

Kind = TypeVar("Kind", timeseries.Panel, stat.Panel, bargauge.Panel, table.Panel)


class Ask(NamedTuple):
    """An expression, and what its series are called: `{{label}}` stands for a label's value.

    `has_exemplars`: single checks are shown as points beside it, each with its decision's id.
    """

    expression: str
    legend: str = ""
    has_exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """How values are read: unit and decimals, bounds of the axis, from where on which colour, words for values."""

    unit: str
    decimals: int | None = None
    minimum: float | None = 0
    maximum: float | None = None
    steps: Sequence[tuple[float, str]] = ()
    """From this value on this colour; below the first it is `base`."""
    base: str = GOOD
    colours: Mapping[str, str] | None = None
    words: Mapping[str, tuple[str, str]] | None = None
    """For a value, as text: what is shown instead, and its colour."""
    nothing: str = ""
    """What is shown where there are no series."""


def runbook(*sections: str) -> str:
    """Return links to these sections of docs/runbooks.md."""
    links = (f"[{section.replace('-', ' ')}]({RUNBOOKS}{section})" for section in sections)
    return f" What to do: {', '.join(links)}."


def lines(
    title: str, description: str, look: Look, *asks: Ask, width: int = 8, height: int = 7, is_stacked: bool = False
) -> Panel:
    """Return series over time; `steps` of the look are lines across it."""
    panel = (
        timeseries.Panel()
        .line_width(1 if is_stacked else 2)
        .fill_opacity(40 if is_stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if is_stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("all"))
    if look.steps:
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    scheme = dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC)
    panel = _dressed(panel, title, description, look, size=(width, height)).color_scheme(scheme)
    return panel.targets([_query(ask, number).range() for number, ask in enumerate(asks)])


def number(title: str, description: str, look: Look, *asks: Ask, width: int = 4, is_now: bool = False) -> Panel:
    """Return the last value, large, with its course behind it; `is_now` leaves the course out."""
    panel = (
        stat.Panel()
        .reduce_options(_last())
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE if is_now else BigValueGraphMode.AREA)
        .text_mode(BigValueTextMode.VALUE_AND_NAME if any(ask.legend for ask in asks) else BigValueTextMode.VALUE)
    )
    panel = _dressed(panel, title, description, look, size=(width, 4)).color_scheme(_by_threshold())
    queries = [_query(ask, number) for number, ask in enumerate(asks)]
    return panel.targets([query.instant() if is_now else query.range() for query in queries])


def bars(title: str, description: str, look: Look, *asks: Ask, width: int = 8, height: int = 7) -> Panel:
    """Return a bar for each series, now, the largest first."""
    panel = (
        bargauge.Panel()
        .reduce_options(_last())
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .value_mode(BarGaugeValueMode.TEXT)
        .show_unfilled(True)
    )
    panel = _dressed(panel, title, description, look, size=(width, height)).color_scheme(_by_threshold())
    sorted_asks = (ask._replace(expression=f"sort_desc({ask.expression})") for ask in asks)
    return panel.targets([_query(ask, number).instant() for number, ask in enumerate(sorted_asks)])


def rows(
    title: str,
    description: str,
    look: Look,
    *asks: Ask,
    labels: Mapping[str, str],
    links: Mapping[str, str] | None = None,
    width: int = 12,
    height: int = 7,
) -> Panel:
    """Return a table: a row for each set of `labels` (with their titles), a column for each question.

    A question's legend is its column's title; `links` are where the values of a column lead.
    """
    largest_first = common.TableSortByFieldState().display_name(asks[0].legend).desc(True)
    made = table.Panel().sort_by([largest_first])
    panel = _dressed(made, title, description, look, size=(width, height)).color_scheme(_by_threshold())
    columns = {f"Value #{_letter(place)}" if len(asks) > 1 else "Value": ask.legend for place, ask in enumerate(asks)}
    order = {name: place for place, name in enumerate([*labels, *columns])}
    tidy = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {**labels, **columns}}
    for column, url in (links or {}).items():
        panel = panel.override_by_name(column, [DynamicConfigValue("links", [{"title": "Show", "url": url}])])
    return panel.transformations(
        [DataTransformerConfig("merge", options={}), DataTransformerConfig("organize", options=tidy)]
    ).targets([_query(ask, place).instant().format(PromQueryFormat.TABLE) for place, ask in enumerate(asks)])


def _dressed(panel: Kind, title: str, description: str, look: Look, *, size: tuple[int, int]) -> Kind:
    """Give a panel what all kinds have."""
    panel.title(title).description(description).datasource(SOURCE).unit(look.unit)
    width, height = size
    panel.span(width).height(height)
    steps = [Threshold(None, look.base), *(Threshold(value, colour) for value, colour in look.steps)]
    panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if look.decimals is not None:
        panel.decimals(look.decimals)
    if look.minimum is not None:
        panel.min(look.minimum)
    if look.maximum is not None:
        panel.max(look.maximum)
    if look.nothing:
        panel.no_value(look.nothing)
    if look.words:
        panel.mappings([_words(look.words)])
    for name, colour in (look.colours or {}).items():
        panel.override_by_name(name, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def _query(ask: Ask, place: int) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(ask.expression).ref_id(_letter(place)).datasource(SOURCE)
    if ask.has_exemplars:
        query = query.exemplar(True)
    return query.legend_format(ask.legend) if ask.legend else query


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _by_threshold() -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS)


def _words(words: Mapping[str, tuple[str, str]]) -> ValueMapping:
    results = {value: ValueMappingResult(text=text, color=colour) for value, (text, colour) in words.items()}
    return ValueMap(options=results)
