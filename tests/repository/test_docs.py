"""Documents that are made from the code, or name things of the code, stay true to it."""

import re
import runpy
from pathlib import Path

import pytest

from tallygate.decision.decision import Reason
from tallygate.metrics import LABELS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_configuration_page_is_what_the_settings_say() -> None:
    """Every setting is documented with its real default."""
    made = runpy.run_path(str(ROOT / ".ci" / "configuration.py"))["page"]()
    assert (ROOT / "docs" / "configuration.md").read_text() == made, "run .ci/configuration.py > docs/configuration.md"


def test_the_metrics_page_is_what_the_metrics_say() -> None:
    """Every series is documented with its real labels, type and rule, and every label with what it may hold."""
    script = runpy.run_path(str(ROOT / ".ci" / "metrics.py"))
    assert (ROOT / "docs" / "metrics.md").read_text() == script["page"](), "run .ci/metrics.py > docs/metrics.md"
    named = {
        label
        for _, metrics in script["PARTS"]
        for each in script["series"](metrics)
        for label in script["labels"](each)
    }
    assert named == set(LABELS)


def test_every_reason_has_a_heading_in_failure_modes() -> None:
    """Whoever meets a reason in a metric or a body finds what it means under that very word."""
    headings = re.findall(r"^### `(\w+)`", (ROOT / "docs" / "failure-modes.md").read_text(), re.MULTILINE)
    allowed = {Reason.OK, Reason.OVERAGE, Reason.SHADOW}
    assert set(headings) == {reason.value for reason in Reason if reason not in allowed} | {"internal_error"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """A link to a file of the repository leads to one."""
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_files_the_readme_names_exist() -> None:
    """The table that walks a request through the code names files that are there."""
    named = re.findall(r"`((?:\w+/)+\w+\.(?:py|lua))`", (ROOT / "README.md").read_text())
    assert named
    assert [name for name in named if not (ROOT / "service" / "tallygate" / name).exists()] == []


def test_every_promise_names_the_tests_that_hold_it() -> None:
    """Each of the product's twelve invariants has a row, and every file it names is there."""
    text = (ROOT / "docs" / "request-path.md").read_text()
    rows = re.findall(r"^\| (\d+)\. [^|]+\| ([^|]+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 13))
    named = {number: re.findall(r"`(tests/[^`]+)`", tests) for number, tests in rows}
    assert all(named.values())
    assert [path for paths in named.values() for path in paths if not (ROOT / path).is_file()] == []
