"""Which goals of the fast path are met? Reads what the benchmarks kept, measures nothing.

Writes tables into README.md, each between a mark of its own (`<!-- table: goals -->`, `<!-- table: decisions -->`) and
the next `<!-- end -->`, and `goals.svg`: every figure over its goal, and what a call costs the service at 64 in flight.
The drawing follows the reader's light or dark scheme and needs no library.

    python -m benchmarks.report
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.measure import RESULTS, shown

_HERE = Path(__file__).parent
_MARKED = re.compile(r"(<!-- table: (\w+)(?: (\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)
_LEFT_OUT = {
    "decisions": {"over static, us", "generator us/call"},
    "through_envoy": {"late p99_us", "client CPU us", "added p999_us"},
    "exactness": {"load"},
}
"""Columns that are kept in results/ and not shown."""
_SERVER_64 = {"transport": "h2corn", "in flight": 64}
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal: what, in which unit, the bound, whether more is better, and the figure, None where not measured."""

    what: str
    unit: str
    bound: float
    figure: float | None
    is_least: bool = False
    is_equal: bool = False

    @property
    def is_met(self) -> bool:
        """Return whether the figure keeps the bound."""
        if self.figure is None:
            return False
        if self.is_equal:
            return self.figure == self.bound
        return self.figure >= self.bound if self.is_least else self.figure <= self.bound

    @property
    def share(self) -> float:
        """Return how much of the bound is used: up to 1 it is met."""
        if self.figure is None:
            return 0.0
        return self.bound / self.figure if self.is_least else self.figure / self.bound

    def row(self) -> str:
        """Return its line of the table."""
        sign = "=" if self.is_equal else "≥" if self.is_least else "≤"
        bound, unit = f"{self.bound:,g}", f" {self.unit}" if self.unit else ""
        if self.figure is None:
            return f"| {self.what} | {sign} {bound}{unit} | not measured | - | - |"
        ratio = self.figure / self.bound
        return (
            f"| {self.what} | {sign} {bound}{unit} | {self.figure:,g}{unit} | {ratio:.2f} | "
            f"{'yes' if self.is_met else '**no**'} |"
        )


def _kept(name: str) -> Row:
    path = RESULTS / f"{name}.json"
    found: Row = json.loads(path.read_text()) if path.exists() else {"results": {}}
    return found


def _one(rows: Iterable[Row], **wanted: object) -> Row:
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), {})


def _figure(rows: Iterable[Row], column: str, **wanted: object) -> float | None:
    value = _one(rows, **wanted).get(column)
    return value if isinstance(value, int | float) else None


def _worst(rows: Sequence[Row], column: str, mode: str, pick: Callable[[list[float]], float]) -> float | None:
    values = [row[column] for row in rows if row.get("mode") == mode]
    return pick(values) if values else None


def goals() -> list[Goal]:
    """Return every goal with its figure."""
    decisions = _kept("decisions")["results"].get("rows", [])
    envoy = _kept("through_envoy")["results"].get("rows", [])
    cached = _kept("scaling")["results"].get("tokens", [])
    admitted = _kept("exactness")["results"].get("rows", [])

    def served(column: str, server: str) -> float | None:
        return _figure(decisions, column, server=server, **_SERVER_64)

    at_2000 = {"rate": 2_000, "way": "decision"}
    largest = max((row["tokens"] for row in cached), default=0)
    return [
        Goal("CPU of a decision, exact, 64 in flight", "us", 45, served("CPU us/call", "exact")),
        Goal("the same, its threads on one CPU", "us", 45, served("CPU us/call", "exact, one CPU")),
        Goal("the same, leased", "us", 30, served("CPU us/call", "leased")),
        Goal("decisions/s over static answers/s, exact", "", 0.42, served("/ static", "exact"), is_least=True),
        Goal("the same, its threads on one CPU", "", 0.42, served("/ static", "exact, one CPU"), is_least=True),
        Goal("the same, leased", "", 0.65, served("/ static", "leased"), is_least=True),
        Goal(
            "added p50 through Envoy at 2,000/s, over a constant answer's",
            *("x", 1.3, _figure(envoy, "x constant p50", **at_2000)),
        ),
        Goal("added p99, the same", "x", 1.5, _figure(envoy, "x constant p99", **at_2000)),
        Goal("Valkey's CPU of a decision, 64 in flight", "us", 15, served("Valkey us/call", "exact")),
        *(
            Goal(
                f"bytes a cached license, {largest:,} tokens, {each} to a subscription",
                *("B", 1_024, _figure(cached, "bytes a license", **{"tokens": largest, "tokens a subscription": each})),
            )
            for each in (1, 5)
        ),
        Goal(
            "admitted / limit, 4 workers, exact, the least",
            "",
            1,
            _worst(admitted, "admitted / limit", "exact", min),
            is_equal=True,
        ),
        Goal("the same, the most", "", 1, _worst(admitted, "admitted / limit", "exact", max), is_equal=True),
        Goal("the same, leased, the most", "", 1, _worst(admitted, "admitted / limit", "leased", max)),
    ]


def table(found: Sequence[Goal]) -> str:
    """Return the table in Markdown."""
    return "\n".join(
        ["| figure | goal | measured | ÷ goal | met |", "|---|---|---:|---:|---|", *(one.row() for one in found)]
    )


_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .t { font-weight: 600; font-size: 14px } .s { fill: #57606a }
  .met { fill: #2da44e } .not { fill: #cf222e } .plain { fill: #8c959f } .ours { fill: #0969da }
  line { stroke: #57606a }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .s { fill: #9da7b1 } .met { fill: #3fb950 } .not { fill: #f85149 }
    .plain { fill: #6e7681 } .ours { fill: #4493f8 } line { stroke: #9da7b1 }
  }
"""
_WIDTH, _LEFT, _LINE, _BAR = 900, 440, 24, 14
_MOST = 3.0


def drawing(found: Sequence[Goal]) -> str:
    """Return the chart as SVG."""
    measured = [one for one in found if one.figure is not None]
    parts = ['<text class="t" x="16" y="26">Figure over goal: left of the line is met</text>']
    unit = (_WIDTH - _LEFT - 110) / _MOST
    top = 40
    for number, one in enumerate(measured):
        y = top + number * _LINE
        shown, width = f"{one.figure:,g} {one.unit}".strip(), max(1.0, min(one.share, _MOST) * unit)
        parts.append(_bar(one.what, "met" if one.is_met else "not", y, width, shown))
    bottom = top + len(measured) * _LINE
    parts.append(f'<line x1="{_LEFT + unit:.0f}" x2="{_LEFT + unit:.0f}" y1="{top - 4}" y2="{bottom}"/>')
    costs = _costs()
    parts.append(f'<text class="t" x="16" y="{bottom + 34}">CPU of the service, us a call, 64 in flight</text>')
    most = max((cost for _, cost in costs), default=1.0)
    for number, (name, cost) in enumerate(costs):
        y = bottom + 46 + number * _LINE
        kind = "plain" if name.startswith("static") else "ours"
        parts.append(_bar(name, kind, y, cost / most * _MOST * unit, f"{cost:,g} us"))
    height = bottom + 60 + len(costs) * _LINE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _bar(name: str, kind: str, y: float, width: float, shown: str) -> str:
    return (
        f'<text x="{_LEFT - 10}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
        f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>'
        f'<text class="s" x="{_LEFT + width + 8:.1f}" y="{y + 12}">{escape(shown)}</text>'
    )


def _costs() -> list[tuple[str, float]]:
    rows = [row for row in _kept("decisions")["results"].get("rows", []) if row["in flight"] == _SERVER_64["in flight"]]
    return [(f"{row['server']}, {row['transport']}", row["CPU us/call"]) for row in rows]


def kept_table(name: str, part: str) -> str:
    """Return rows of a result as a Markdown table, and how they came about."""
    kept = _kept(name)
    rows: list[Row] = kept["results"].get(part) or []
    columns = [column for column in (rows[0] if rows else {}) if column not in _LEFT_OUT.get(name, set())]
    if not columns:
        return "not measured yet"
    machine = kept["machine"]
    load = f"load {machine['load_1m_at_start']} to {machine.get('load_1m_at_end', '?')}"
    made = (
        f"`{kept['command']}`, {kept['at']}, commit {kept.get('commit') or '?'}, {load}, nice {machine.get('nice', 0)}"
    )
    lines = [
        columns,
        ["---"] + ["---:"] * (len(columns) - 1),
        *([shown(row[each]) for each in columns] for row in rows),
    ]
    return "\n".join([f"{made}\n", *(f"| {' | '.join(cells)} |" for cells in lines)])


def main() -> None:
    """Write tables and drawing."""
    found = goals()
    readme = _HERE / "README.md"

    def written(mark: re.Match[str]) -> str:
        text = table(found) if mark[2] == "goals" else kept_table(mark[2], mark[3] or "rows")
        return f"{mark[1]}{text}\n{mark[4]}"

    readme.write_text(_MARKED.sub(written, readme.read_text()))
    (_HERE / "goals.svg").write_text(drawing(found))
    print(table(found))


if __name__ == "__main__":
    main()
