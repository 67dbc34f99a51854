"""What all boards have around their panels: variables, links to one another, alerts as annotations, the JSON.

Owns uids and tags: they never change, for bookmarks and links of others hold them.
"""

import json
from collections.abc import Sequence
from typing import Any

from deploy.dashboards.panels import BAD, SOURCE, Section
from deploy.dashboards.series import HERE
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

_TAG = "tallygate"
_FIRING = {
    "name": "Alerts",
    "datasource": SOURCE.to_json(),
    "enable": True,
    "iconColor": BAD,
    "expr": f'ALERTS{{alertname=~"Tallygate.*", alertstate="firing", {HERE}}}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{severity}} {{dependency}}{{policy}}{{export}}{{plan}}",
    "tagKeys": "severity",
    "step": "30s",
}
"""As Grafana stores it; the SDK's annotation does not know the fields of Prometheus."""


def framed(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[dashboard.QueryVariable],
    sections: Sequence[tuple[str, Section]],
    *,
    shown: str = "3h",
) -> str:
    """Return a board's JSON; `variables` are its own beside those of all, `shown` is the time it begins with."""
    board = (
        dashboard.Dashboard(f"Tallygate / {title}")
        .uid(f"tallygate-{uid}")
        .description(description)
        .tags([_TAG])
        .timezone("browser")
        .time(f"now-{shown}", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(_others())
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(choices("namespace", "Installation", "tallygate_build_info"))
    )
    for variable in variables:
        board = board.with_variable(variable)
    for name, panels in sections:
        board = board.with_row(dashboard.Row(name))
        for panel in panels:
            board = board.with_panel(panel)
    made: dict[str, Any] = json.loads(JSONEncoder().encode(board.build()))
    made["annotations"] = {"list": [_FIRING]}
    for place, panel in enumerate(made["panels"], start=1):
        panel["id"] = place
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def choice(name: str, label: str, series: str) -> dashboard.QueryVariable:
    """Return a variable of the values of the label `name` in what this selector finds: one of them."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": f"label_values({series}, {name})", "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def choices(name: str, label: str, series: str, *, everything: str | None = ".*") -> dashboard.QueryVariable:
    """Return the same for several, at first all.

    `everything` is the regular expression for all, where it should also match what lacks the label; None lists them.
    """
    chosen = VariableOption(selected=True, text=["All"], value=["$__all"])
    variable = choice(name, label, series).multi(True).include_all(True).current(chosen)
    return variable if everything is None else variable.all_value(everything)


def _others() -> dashboard.DashboardLink:
    """Return the links to the other boards, which keep the time and what is chosen."""
    link = dashboard.DashboardLink("Tallygate").type(DashboardLinkType.DASHBOARDS).tags([_TAG])
    return link.include_vars(True).keep_time(True)
