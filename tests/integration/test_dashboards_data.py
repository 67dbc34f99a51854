"""After a real run through a real Envoy, a real Prometheus has an answer to every question of every dashboard.

Nothing breaks in this run: what counts failures must be there at 0. Traffic goes on while the panels are asked.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from deploy.dashboards.expressions import Board, boards

from tallygate._proto.v1 import usage_pb2 as wire
from tallygate.cli.system import System, running_system
from tallygate.devservers.ports import LOOPBACK, free_ports
from tallygate.devservers.prometheus import EmbeddedPrometheus, Sample, scrape_config
from tallygate.plans.parse import parse
from tallygate.services.usage_service import SERVICE

pytestmark = pytest.mark.usefixtures("prometheus_programs")

_RULES = Path(__file__).parents[2] / "deploy" / "k8s" / "base" / "rules"
_WORKERS = 2
_DEADLINE_S, _ANSWERED_S = 20.0, 150.0
_SHOWN = {"__range": "1h"}
_PLANS = """
routes:
  - {match: "* /v1/**"}
plans:
  - {key: small, name: Small, limits: [{name: monthly, quota: 9, period: billing}]}
  - key: large
    name: Large
    price: {amount: "490.00", currency: USD, every: year}
    limits: [{name: monthly, quota: 4, period: billing, on_exceed: overage}]
    overage: {requests: {model: per_unit, unit: "0.01"}}
  - {key: tried, name: Tried, limits: [{name: trial, credits: 2, mode: shadow}]}
  - {key: leased, name: Leased, limits: [{name: all, credits: 1000000, exactness: leased}]}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The running system, what watches it, and who calls."""

    system: System
    prometheus: EmbeddedPrometheus
    http: httpx.AsyncClient
    refused: str
    """The id of a customer whose quota is used up."""

    async def play(self) -> None:
        """Let every sample customer, and somebody whom nobody knows, ask a few times; tell of usage once."""
        tokens = [seed.token for seed in self.system.seeds]
        for token in [*tokens * 3, "nobody's"]:
            await self.http.get("/v1/things", headers={"authorization": f"Bearer {token}"})
        async with grpc.aio.insecure_channel(self.system.environment["SERVICES_LISTEN"]) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Report")
            shown = (("authorization", f"Bearer {self.system.environment['SERVICES_KEY']}"),)
            await method(wire.ReportRequest().SerializeToString(), metadata=shown, timeout=_DEADLINE_S)

    def boards(self, **values: str) -> list[Board]:
        """Return the dashboards of the customer who is refused, or with other values."""
        return list(boards({"customer": self.refused, **_SHOWN, **values}, window="30s"))

    async def unanswered(self, questions: Mapping[str, str]) -> dict[str, str]:
        """Play and ask until each has an answer; return those that had none in the end, by what they are of."""
        missing = dict(questions)
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWERED_S):
                while missing:
                    await self.play()
                    for name, asked in list(missing.items()):
                        if _drawn(await self.prometheus.query(asked)):
                            del missing[name]
        return missing


def _drawn(samples: list[Sample]) -> bool:
    return any(math.isfinite(sample.value) for sample in samples)


@pytest.fixture(scope="module")
async def run(servers_dir: Path) -> AsyncIterator[Run]:
    """Return everything running: two workers, a sample customer on each plan, an export, the rules, a namespace."""
    here = servers_dir / "dashboards"
    here.mkdir(mode=0o711)
    exports = here / "exports.toml"
    exports.write_text(f'[exports.archive]\nkind = "files"\ndirectory = "{here / "usage"}"\n')
    settings = {
        "WORKERS": str(_WORKERS),
        "LISTEN": f"{LOOPBACK}:{free_ports(_WORKERS)}",
        "METRICS_CUSTOMERS": "10",
        "EXPORTS_FILE": str(exports),
    }
    async with running_system(here / "system", parse(_PLANS, "dashboards.yaml"), settings=settings) as system:
        jobs = {"tallygate": system.metrics_url, "tallygate-worker": system.worker_metrics_url}
        config = scrape_config(jobs, rule_files=sorted(_RULES.glob("*.yaml")), labels={"namespace": "shop"})
        refused = (await system.control.customers.show("sample-small")).id
        async with (
            EmbeddedPrometheus(config, data_dir=here / "prometheus") as prometheus,
            httpx.AsyncClient(base_url=system.gateway_url, timeout=_DEADLINE_S, trust_env=False) as http,
        ):
            yield Run(system, prometheus, http, refused)


@pytest.mark.timeout(300)
async def test_every_panel_has_data(run: Run) -> None:
    """Each expression of each panel, and of each variable, returns something that can be drawn."""
    questions = {}
    for board in run.boards():
        for panel in board.panels:
            for place, target in enumerate(panel.targets):
                questions[f"{board.title}: {panel.title}: {place}"] = target.expression
        for variable in board.variables:
            questions[f"{board.title}: ${variable.name}"] = f"count by ({variable.label}) ({variable.selector})"
    assert len(questions) > 80
    assert await run.unanswered(questions) == {}


@pytest.mark.timeout(300)
async def test_variables_have_values(run: Run) -> None:
    """Each offers what there is to choose."""
    found: dict[str, set[str]] = {}
    for board in run.boards():
        for variable in board.variables:
            asked = f"count by ({variable.label}) ({variable.selector})"
            await run.unanswered({variable.name: asked})
            values = {sample.labels[variable.label] for sample in await run.prometheus.query(asked)}
            found.setdefault(variable.name, set()).update(values)
    assert found.pop("customer") >= {run.refused}
    assert found == {
        "namespace": {"shop"},
        "job": {"tallygate", "tallygate-worker"},
        "plan": {"small", "large", "tried", "leased"},
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("variable", "value", "title"),
    [
        ("namespace", "shop", "CPU"),
        ("job", "tallygate-worker", "CPU"),
        ("plan", "large", "Units per second by plan"),
        ("customer", "", "Limits over time"),
    ],
)
async def test_variables_choose(run: Run, variable: str, value: str, title: str) -> None:
    """With one value chosen a panel has its data, with one that is nobody's it has none."""

    def asked(chosen: str) -> str:
        panels = [panel for board in run.boards(**{variable: chosen}) for panel in board.panels]
        return next(panel.targets[0].expression for panel in panels if panel.title == title)

    assert await run.unanswered({title: asked(value or run.refused)}) == {}
    assert await run.prometheus.query(asked("nobody's")) == []


async def test_alerts_can_be_marked(run: Run) -> None:
    """Prometheus takes the question for alerts that fired, and none of this run does."""
    for board in run.boards():
        for expression in board.annotations:
            assert await run.prometheus.query(expression) == []
