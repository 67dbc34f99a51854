"""The dashboards are what their code says, speak only of what exists, and can be read by whoever is woken."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.dashboards.__main__ import made
from deploy.dashboards.expressions import BOARDS, Board, Panel, board

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "deploy" / "container"
MADE: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(BOARDS.glob("*.json"))}
READ: dict[str, Board] = {name: board(whole, {"customer": "acme"}) for name, whole in MADE.items()}
PANELS = [pytest.param(panel, id=f"{name}: {panel.title}") for name, read in READ.items() for panel in read.panels]
KINDS = {"timeseries", "stat", "bargauge", "table"}
UNITS = {"none", "short", "locale", "reqps", "s", "bytes", "percentunit"}
OF_PROCESSES = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}
OF_SCRAPES = {"namespace", "job", "instance"}
NOT_DRAWN = {"tallygate_build_info"}  # variables are filled from it
RULES = (ROOT / "deploy" / "k8s" / "base" / "rules" / "recording.yaml").read_text()
RECORDED = set(re.findall(r'record: "?([\w:]+)', RULES))


def _series() -> dict[str, set[str]]:
    """Return the labels of each name that Prometheus knows of our series, as docs/metrics.md has them."""
    known: dict[str, set[str]] = {}
    row = re.compile(r"^\| `(tallygate_\w+)` \| ([^|]*) \| (\w+) \|", re.MULTILINE)
    for name, labels, kind in row.findall((ROOT / "docs" / "metrics.md").read_text()):
        for suffix in ("_bucket", "_count", "_sum") if kind == "histogram" else ("",):
            bound = {"le"} if suffix == "_bucket" else set()
            known.setdefault(name + suffix, set()).update(re.findall(r"`(\w+)`", labels), bound)
    return known


SERIES = _series()


def _expressions(panel: Panel) -> Iterator[str]:
    for target in panel.targets:
        yield target.expression


def _bare(expression: str) -> str:
    """Return an expression without what stands in quotes."""
    return re.sub(r'"[^"]*"', '""', expression)


def test_the_files_are_what_the_code_makes() -> None:
    """Nobody edits JSON: `make dashboards` would write the same."""
    written = {path.name: path.read_text() for path in BOARDS.iterdir()}
    assert written == dict(made()), "run make dashboards"


def test_there_are_four_with_names_that_stay() -> None:
    """Bookmarks and links of others hold these uids."""
    assert {read.uid: read.title for read in READ.values()} == {
        "tallygate-overview": "Tallygate / Overview",
        "tallygate-plans-and-revenue": "Tallygate / Plans and revenue",
        "tallygate-customer": "Tallygate / Customer",
        "tallygate-data-plane": "Tallygate / Data plane",
    }
    assert all(read.uid == f"tallygate-{name}" for name, read in READ.items())


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    """A title, a description in sentences, a unit we know, a kind that suits, a name for each of several series."""
    assert panel.title
    assert panel.section
    assert re.fullmatch(r"[A-Z`].{30,400}\.", panel.description)
    assert panel.unit in UNITS
    assert panel.kind in KINDS
    assert panel.targets
    if len(panel.targets) > 1 or panel.kind in {"timeseries", "bargauge", "table"}:
        assert all(target.legend for target in panel.targets)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_for_what_exists(panel: Panel) -> None:
    """Every name is a series of ours, a recorded one, or one of Prometheus; every label is one that it has."""
    for target in panel.targets:
        bare = _bare(target.expression)
        ours = set(re.findall(r"\btallygate_\w+", bare))
        assert ours <= SERIES.keys()
        recorded = set(re.findall(r"\btallygate:[\w:]+", bare))
        assert recorded <= RECORDED
        assert set(re.findall(r"\bprocess_\w+", bare)) <= OF_PROCESSES
        for name, matchers in re.findall(r"\b(tallygate_\w+)\{([^}]*)\}", bare):
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= SERIES[name] | OF_SCRAPES
        for labels in re.findall(r"\bby \(([^)]*)\)", bare) if ours else ():
            assert set(re.findall(r"\w+", labels)) <= set.union(*(SERIES[name] for name in ours)) | OF_SCRAPES


@pytest.mark.parametrize("panel", PANELS)
def test_a_legend_names_labels_that_are_there(panel: Panel) -> None:
    """A series is told apart by labels that its expression keeps."""
    for target in panel.targets:
        kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", target.expression)))) | OF_SCRAPES
        assert set(re.findall(r"{{(\w+)}}", target.legend)) <= kept


@pytest.mark.parametrize("panel", PANELS)
def test_help_is_where_a_panel_says(panel: Panel) -> None:
    """Each link of a description leads to a section of the runbooks, each file named is there."""
    text = (ROOT / "docs" / "runbooks.md").read_text()
    sections = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(https://tallygate\.dev/runbooks#([^)]+)\)", panel.description)) <= sections
    assert panel.description.count("](") == panel.description.count("](https://tallygate.dev/runbooks#")
    assert [file for file in re.findall(r"docs/[\w-]+\.md", panel.description) if not (ROOT / file).exists()] == []


def test_every_series_is_on_a_board() -> None:
    """What is measured can be seen: no series of docs/metrics.md is left out."""
    everything = " ".join(each for read in READ.values() for panel in read.panels for each in _expressions(panel))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in SERIES} - NOT_DRAWN
    assert {name for name in families if name not in everything} == set()


@pytest.mark.parametrize("name", MADE)
def test_variables_are_used_and_known(name: str) -> None:
    """Each variable is used, each that is used is known, and everything asks the data source that is chosen."""
    whole = MADE[name]
    variables = {each["name"] for each in whole["templating"]["list"]}
    used = set(re.findall(r"\$\{?([A-Za-z]\w*)", json.dumps(whole["panels"])))
    assert used == variables
    sources = {json.dumps(panel["datasource"]) for panel in whole["panels"] if panel["type"] != "row"}
    sources |= {json.dumps(target["datasource"]) for panel in whole["panels"] for target in panel.get("targets", ())}
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    for each in READ[name].variables:
        assert each.selector.partition("{")[0] in SERIES
        assert each.label in SERIES[each.selector.partition("{")[0]] | OF_SCRAPES


def test_processes_of_others_are_not_shown() -> None:
    """CPU and memory are series of any process that is scraped: each is asked of the chosen jobs, which are ours."""
    whole = MADE["data-plane"]
    (job,) = (each for each in whole["templating"]["list"] if each["name"] == "job")
    assert job["includeAll"]
    assert "allValue" not in job, "`.*` would be everybody's"
    targets = [
        target["expr"] for board in MADE.values() for panel in board["panels"] for target in panel.get("targets", ())
    ]
    asked = [matchers for each in targets for matchers in re.findall(r"process_\w+\{([^}]*)\}", each)]
    assert len(asked) >= len(OF_PROCESSES)
    assert all('job=~"$job"' in matchers for matchers in asked)
    assert not any(re.search(r"process_\w+(?![\w{])", each) for each in targets)


@pytest.mark.parametrize("name", READ)
def test_panels_fill_rows_and_do_not_overlap(name: str) -> None:
    """Each line of panels is as wide as the grid, all in it as high as each other, and none covers another."""
    read = READ[name]
    lines: dict[int, list[Panel]] = {}
    for panel in read.panels:
        lines.setdefault(panel.place.y, []).append(panel)
    assert {y: sum(panel.place.width for panel in line) for y, line in lines.items()} == dict.fromkeys(lines, 24)
    assert all(len({panel.place.height for panel in line}) == 1 for line in lines.values())
    cells = Counter(
        (column, row)
        for panel in read.panels
        for column in range(panel.place.x, panel.place.x + panel.place.width)
        for row in range(panel.place.y, panel.place.y + panel.place.height)
    )
    assert max(cells.values()) == 1
    assert len({panel.title for panel in read.panels}) == len(read.panels)


@pytest.mark.parametrize("name", MADE)
def test_boards_lead_to_one_another(name: str) -> None:
    """Each board has links to all, which keep the time and what is chosen, and shows alerts where they fired."""
    (link,) = MADE[name]["links"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert all(set(link["tags"]) <= set(whole["tags"]) for whole in MADE.values())
    (alerts,) = MADE[name]["annotations"]["list"]
    assert 'alertname=~"Tallygate.*"' in alerts["expr"]
    assert len({panel["id"] for panel in MADE[name]["panels"]}) == len(MADE[name]["panels"])


def test_a_decision_has_the_same_colour_everywhere() -> None:
    """Green is allowed, orange is refused, red is our failure, on every board."""
    expected = {
        "allow": "green",
        "ok": "green",
        "deny": "orange",
        "error": "red",
        "dependency_down": "red",
        "lost": "red",
    }
    panels = [panel for read in READ.values() for panel in read.panels]
    for name, colour in expected.items():
        assert {panel.colours[name] for panel in panels if name in panel.colours} == {colour}


def test_a_board_is_read_with_its_variables_put_in() -> None:
    """What the reader returns is what Grafana would ask: values for variables, names for series, `All` for the rest."""
    read = board(MADE["customer"], {"customer": "acme", "__range": "2d"}, window="7s")
    (asked,) = next(panel for panel in read.panels if panel.title == "Checks by decision").targets
    assert asked.expression == (
        'sum by (decision) (rate(tallygate_customer_checks_total{namespace=~".*", customer="acme"}[7s]))'
    )
    assert asked.name({"decision": "deny", "plan": "pro"}) == "deny"
    everybody = next(panel for panel in read.panels if panel.title == "Who uses most")
    assert "[2d]" in everybody.targets[0].expression
    assert everybody.section == "All customers"
    with pytest.raises(KeyError, match="customer"):
        board(MADE["customer"], {})


def test_compose_gives_grafana_every_board() -> None:
    """The folder of the boards is mounted where the provider looks, and the home page is one of them."""
    service = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]["grafana"]
    mounted = {(CONTAINER / parts[0]).resolve(): parts[1] for parts in (one.split(":") for one in service["volumes"])}
    (provider,) = yaml.safe_load((CONTAINER / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert provider["options"]["path"] == mounted[BOARDS]
    assert (CONTAINER / "grafana" / "dashboards.yaml") in mounted
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == mounted[BOARDS]
    assert home.stem in MADE
