"""Write the dashboards: `python -m deploy.dashboards`, or `make dashboards`. A test fails when they are stale."""

from collections.abc import Mapping

from deploy.dashboards import customer, data_plane, overview, plans_and_revenue
from deploy.dashboards.expressions import BOARDS


def made() -> Mapping[str, str]:
    """Return each board's file name and JSON."""
    parts = {
        "overview": overview,
        "plans-and-revenue": plans_and_revenue,
        "customer": customer,
        "data-plane": data_plane,
    }
    return {f"{name}.json": part.board() for name, part in parts.items()}


if __name__ == "__main__":
    BOARDS.mkdir(exist_ok=True)
    for name, text in made().items():
        (BOARDS / name).write_text(text)
