"""The dashboards read back from their JSON: what each panel asks of Prometheus, how it is drawn, and where it stands.

For whoever puts these questions without a Grafana: the tests, and the script that draws pictures. Variables are put
in as Grafana would. Owns no file; pure but for reading them. Failure: KeyError names a variable that has no value.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOARDS = Path(__file__).parents[1] / "k8s" / "base" / "dashboards"
EVERYTHING: Mapping[str, str] = {"namespace": ".*", "job": "tallygate|tallygate-worker", "plan": ".*"}
"""What Grafana puts in for a variable of which all values are chosen; jobs are named as docs/metrics.md names them."""
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_LABEL = re.compile(r"{{\s*(\w+)\s*}}")
_LABEL_VALUES = re.compile(r"label_values\((.*),\s*(\w+)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Target:
    """One question of a panel: a PromQL expression, and what its series are called (a column's title, in a table)."""

    expression: str
    legend: str
    is_instant: bool

    def name(self, labels: Mapping[str, str]) -> str:
        """Return what the legend calls the series with these labels."""
        return _LABEL.sub(lambda found: labels.get(found[1], ""), self.legend)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a panel stands in the grid, 24 columns wide; `height` and `y` in rows of 30 pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel as it will be drawn.

    `kind` is Grafana's: `timeseries`, `stat`, `bargauge`, `table`. `unit` is Grafana's too. `colours` are of series, by
    their names; `thresholds` are (from this value on, colour), the first from -inf. `words` are shown in place of a
    value. `section` is the title of the row it is in.
    """

    section: str
    title: str
    description: str
    kind: str
    unit: str
    decimals: int | None
    minimum: float | None
    maximum: float | None
    place: Place
    targets: tuple[Target, ...]
    thresholds: tuple[tuple[float, str], ...]
    colours: Mapping[str, str]
    words: Mapping[str, str]
    is_stacked: bool


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that Prometheus fills: the values of `label` in what `selector` finds."""

    name: str
    selector: str
    label: str


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    variables: tuple[Variable, ...]
    panels: tuple[Panel, ...]
    annotations: tuple[str, ...]


def boards(values: Mapping[str, str], *, window: str = "1m") -> Iterator[Board]:
    """Yield every dashboard with these values for its variables, and `window` where Grafana would choose one.

    `__range` among the values is the time that is shown, if it is longer.
    """
    for path in sorted(BOARDS.glob("*.json")):
        yield board(json.loads(path.read_text()), values, window=window)


def board(made: Mapping[str, Any], values: Mapping[str, str], *, window: str = "1m") -> Board:
    """Return a dashboard's JSON as what it asks."""
    known = {**EVERYTHING, "__rate_interval": window, "__interval": window, "__range": window, **values}
    return Board(
        uid=made["uid"],
        title=made["title"],
        variables=tuple(_variables(made["templating"]["list"], known)),
        panels=tuple(_panels(made["panels"], known)),
        annotations=tuple(put_in(each["expr"], known) for each in made["annotations"]["list"] if "expr" in each),
    )


def put_in(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with the values of its variables."""
    return _VARIABLE.sub(lambda found: values[found[1]], text)


def _variables(templating: Sequence[Mapping[str, Any]], values: Mapping[str, str]) -> Iterator[Variable]:
    for each in templating:
        if each["type"] == "query":
            found = _LABEL_VALUES.fullmatch(each["query"]["query"])
            assert found, each["query"]  # noqa: S101 - the generator writes no other
            yield Variable(each["name"], put_in(found[1], values), found[2])


def _panels(panels: Sequence[Mapping[str, Any]], values: Mapping[str, str]) -> Iterator[Panel]:
    section = ""
    for each in panels:
        if each["type"] == "row":
            section = each["title"]
            yield from _panels(each.get("panels", ()), values)
        else:
            yield _panel(each, section, values)


def _panel(made: Mapping[str, Any], section: str, values: Mapping[str, str]) -> Panel:
    fields = made["fieldConfig"]["defaults"]
    place = made["gridPos"]
    return Panel(
        section=section,
        title=made["title"],
        description=made["description"],
        kind=made["type"],
        unit=fields["unit"],
        decimals=fields.get("decimals"),
        minimum=fields.get("min"),
        maximum=fields.get("max"),
        place=Place(place.get("x", 0), place.get("y", 0), place["w"], place["h"]),
        targets=tuple(
            Target(put_in(one["expr"], values), one.get("legendFormat", ""), bool(one.get("instant")))
            for one in made["targets"]
        ),
        thresholds=tuple(_thresholds(fields)),
        colours=dict(_colours(made["fieldConfig"].get("overrides", ()))),
        words={
            shown: result["text"]
            for mapping in fields.get("mappings", ())
            for shown, result in mapping["options"].items()
        },
        is_stacked=fields.get("custom", {}).get("stacking", {}).get("mode") == "normal",
    )


def _colours(overrides: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the names of series that have a colour of their own, and the colour."""
    for each in overrides:
        for one in each["properties"]:
            if one["id"] == "color":
                yield each["matcher"]["options"], one["value"]["fixedColor"]


def _thresholds(fields: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    for step in fields.get("thresholds", {}).get("steps", ()):
        yield (float("-inf") if step["value"] is None else step["value"]), step["color"]
