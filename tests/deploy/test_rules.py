"""Rules of Prometheus speak of series that exist, fire and clear as they should, and lead whoever is woken to help."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.manifests import K8S

from tallygate.decision.decision import Reason
from tallygate.devservers.prometheus import promtool
from tallygate.metrics import Metrics, SupervisorMetrics, WorkerMetrics

ROOT = Path(__file__).parents[2]
FILES = sorted((K8S / "base" / "rules").glob("*.yaml"))
TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
BASE_URL = "https://tallygate.dev/runbooks#"


def rules() -> Iterator[dict[str, Any]]:
    """Return every rule of every file."""
    for path in FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def series() -> dict[str, set[str]]:
    """Return the labels of each name that Prometheus will know of our series."""
    script = runpy.run_path(str(ROOT / ".ci" / "metrics.py"))
    known: dict[str, set[str]] = {}
    for metrics in (Metrics("1"), SupervisorMetrics(), WorkerMetrics("1")):
        for each in script["series"](metrics):
            family = next(iter(each.describe()))
            suffixes = {"counter": ["_total"], "info": ["_info"], "histogram": ["_bucket", "_count", "_sum"]}
            for suffix in suffixes.get(family.type, [""]):
                bound = {"le"} if suffix == "_bucket" else set()
                known[family.name + suffix] = {*script["labels"](each), *bound}
    return known


def sections() -> dict[str, str]:
    """Return the text of each section of the runbooks by its anchor."""
    parts = re.split(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), flags=re.MULTILINE)[1:]
    return {title.lower().replace(" ", "-"): text for title, text in zip(parts[::2], parts[1::2], strict=True)}


def shown() -> Iterator[tuple[str, bool]]:
    """Return what the tests show: the alerts that fire at a moment, and those that did before and do no more."""
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            before: set[str] = set()
            for moment in case["promql_expr_test"]:
                labels = " ".join(sample["labels"] for sample in moment["exp_samples"])
                now = set(re.findall(r'alertname="(\w+)"', labels))
                yield from ((alert, True) for alert in now)
                yield from ((alert, False) for alert in before - now)
                before |= now


@pytest.mark.usefixtures("prometheus_programs")
async def test_prometheus_takes_every_rule() -> None:
    """Each expression, template and name is one that Prometheus itself reads."""
    status, said = await promtool("check", "rules", *map(str, FILES))
    assert status == 0, said


@pytest.mark.usefixtures("prometheus_programs")
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
async def test_alerts_fire_and_clear(path: Path) -> None:
    """Given what goes wrong, minute by minute, the alerts that are named fire, no other does, and they end."""
    status, said = await promtool("test", "rules", str(path))
    assert status == 0, said


@pytest.mark.usefixtures("prometheus_programs")
async def test_an_alert_that_does_not_fire_would_be_found(tmp_path: Path) -> None:
    """The tests above can fail: with a higher threshold, one of them does."""
    for source in FILES:
        (tmp_path / source.name).write_text(source.read_text().replace("leads) > 1", "leads) > 2"))
    text = (Path(__file__).parent / "rules" / "processes.yaml").read_text()
    (tmp_path / "test.yaml").write_text(text.replace("../../../deploy/k8s/base/rules/", ""))
    status, said = await promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert status != 0
    assert "TallygateTwoLeaders" in said


@pytest.mark.parametrize("fires", [True, False], ids=["fires", "clears"])
def test_every_alert_is_shown(*, fires: bool) -> None:
    """None is left out of those tests, neither its beginning nor its end."""
    assert {alert for alert, did_fire in shown() if did_fire is fires} == ALERTS.keys()


def test_rules_name_only_what_exists() -> None:
    """Every series is one of ours with these labels, every reason one there is, and what is read is recorded."""
    known = series()
    reasons = {reason.value for reason in Reason} | {"internal_error", "kept_aside", "expired"}
    for rule in rules():
        expression = rule["expr"]
        assert set(re.findall(r"\btallygate_\w+", expression)) <= known.keys()
        assert set(re.findall(r"\btallygate:[\w:]+", expression)) <= RECORDED
        for name, matchers in re.findall(r"(tallygate_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)[=!]", matchers)) <= known[name]
        for given in re.findall(r'reason=~?"([^"]+)"', expression):
            assert set(given.split("|")) <= reasons


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_leads_to_its_runbook(alert: str) -> None:
    """Who is woken reads what it is, how bad, and what to do; the section names the alert and has all three parts."""
    rule = ALERTS[alert]
    assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    base, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert base + "#" == BASE_URL
    section = sections()[anchor]
    assert f"`{alert}`" in section
    assert all(f"**{part}**" in section for part in ("The caller sees", "Confirm", "Do"))


def test_no_runbook_is_of_no_alert() -> None:
    """A section whose alert is gone goes too."""
    assert sections().keys() == {rule["annotations"]["runbook_url"].removeprefix(BASE_URL) for rule in ALERTS.values()}
    assert set(re.findall(r"`(Tallygate\w+)`", " ".join(sections().values()))) == ALERTS.keys()


def test_the_manifest_is_what_the_files_say() -> None:
    """The operator's PrometheusRule has every group of the plain files, as they stand."""
    made = runpy.run_path(str(ROOT / ".ci" / "rules.py"))["manifest"]()
    path = K8S / "base" / "prometheus-rule.yaml"
    assert path.read_text() == made, "run .ci/rules.py > deploy/k8s/base/prometheus-rule.yaml"
    groups = [group for file in FILES for group in yaml.safe_load(file.read_text())["groups"]]
    assert sorted(yaml.safe_load(made)["spec"]["groups"], key=str) == sorted(groups, key=str)
