"""What operators may switch on, in the running system of two workers: customers, exemplars and traces of decisions."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.gateway import WORKER_ENDPOINTS
from support.otlp import Receiver, attributes
from support.world import Account, World, plans

from tallygate.cli.system import running_system
from tallygate.devservers.ports import LOOPBACK, free_ports
from tallygate.devservers.prometheus import EmbeddedPrometheus, scrape_config

pytestmark = pytest.mark.usefixtures("prometheus_programs")
_PATIENCE = "60s"
_WITH_TRACES = ("- {exact: dpop}", "- {exact: dpop}\n                          - {exact: traceparent}")
_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """A receiver of traces."""
    monkeypatch.setenv("NO_PROXY", "*")
    async with Receiver().running() as receiver:
        yield receiver


@pytest.fixture
async def watched(receiver: Receiver, data_dir: Path) -> AsyncIterator[World]:
    """Two workers that name one customer, and trace what is part of a trace."""
    settings = {
        "WORKERS": "2",
        "LISTEN": f"{LOOPBACK}:{free_ports(2)}",
        "LIMITER_TIMEOUT_S": _PATIENCE.rstrip("s"),
        "METRICS_CUSTOMERS": "1",
        "TRACES_ENDPOINT": receiver.url,
        "TRACES_RATIO": "0",
        "DRAIN_S": "0",
    }
    config = WORKER_ENDPOINTS.replace("0.2s", _PATIENCE).replace(*_WITH_TRACES)
    async with (
        running_system(data_dir / "system", plans(), settings=settings, envoy_config=config) as system,
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        yield World(system, http)


@pytest.fixture
async def prometheus(watched: World, data_dir: Path) -> AsyncIterator[EmbeddedPrometheus]:
    """A Prometheus that scrapes the workers' page."""
    config = scrape_config({"tallygate": watched.system.metrics_url})
    async with EmbeddedPrometheus(config, data_dir=data_dir / "prometheus") as server:
        yield server


async def test_what_is_switched_on_is_seen(watched: World, receiver: Receiver, prometheus: EmbeddedPrometheus) -> None:
    """Prometheus reads customers and exemplars of both workers, and a collector the trace of a decision.

    In one test, for the system takes longer to start than all of it.
    """
    began_s = time.time()
    busy, idle = await watched.account("large"), await watched.account("large")
    assert await watched.hammer(idle.secret, 10, 4) == {"200": 10}
    await until_named(watched, busy)
    await customers_add_up(watched, prometheus, busy)
    await buckets_name_decisions(watched, prometheus, began_s)
    await a_trace_is_continued(watched, receiver, busy)


def checks_of(customer: str) -> str:
    """Return the series of a customer's requests that passed."""
    return f'tallygate_customer_checks_total{{customer="{customer}",decision="allow",plan="large",reason="ok"}}'


async def until_named(world: World, account: Account) -> None:
    """Send requests until both workers count them under the customer's own name."""
    series = checks_of(account.customer.id)

    async def round_() -> str:
        before = (await world.metrics()).get(series, 0)
        assert await world.hammer(account.secret, 40, 8) == {"200": 40}
        return str((await world.metrics()).get(series, 0) - before)

    await world.until("40.0", round_, deadline_s=60)


async def customers_add_up(world: World, prometheus: EmbeddedPrometheus, busy: Account) -> None:
    """One customer is named and all others are one: together they are everybody, in checks and in units."""
    assert await prometheus.until(f"{checks_of(busy.customer.id)} >= 40")
    page = await world.metrics()
    assert page[checks_of("other")] >= 10
    named = {name.split('"')[1] for name in page if name.startswith("tallygate_customer_checks_total{")}
    assert named == {busy.customer.id, "other"}
    for ours, whole in (("customer_checks", "checks"), ("customer_units", "units")):
        sums = [
            sum(value for name, value in page.items() if name.startswith(f"tallygate_{each}_total{{"))
            for each in (ours, whole)
        ]
        assert sums[0] == sums[1] > 0
    share = 1 - (await world.left(busy.secret))["monthly"] / 5000
    series = f'tallygate_customer_limit_used_ratio{{customer="{busy.customer.id}",limit="monthly",plan="large"}}'
    assert page[series] == pytest.approx(share)
    assert await prometheus.until(f"{series} > {share - 1e-9}")


async def buckets_name_decisions(world: World, prometheus: EmbeddedPrometheus, began_s: float) -> None:
    """Prometheus keeps, of buckets, the ids of decisions that fell into them; whoever asks for plain text gets none."""
    selector = "tallygate_check_duration_seconds_bucket"
    await prometheus.until(f"{selector} > 0")
    found = await prometheus.exemplars(selector, from_s=began_s, to_s=time.time() + 60)
    assert found
    for exemplar in found:
        assert re.fullmatch("[0-9a-f]{32}", exemplar.labels["decision_id"])
        assert exemplar.value <= float(exemplar.labels["le"])
    assert "decision_id" not in (await world.http.get(world.system.metrics_url)).text


async def a_trace_is_continued(world: World, receiver: Receiver, account: Account) -> None:
    """A request that is part of a trace adds its decision to it, and what that waited for; others add nothing."""
    parent = "00f067aa0ba902b7"
    answer = await world.get(account.secret, headers={"traceparent": f"00-{_TRACE}-{parent}-01"})
    assert answer.status_code == httpx.codes.OK
    await receiver.until(lambda receiver: len(receiver.spans) >= 3)
    assert [(span.trace_id.hex(), span.name) for span in sorted(receiver.spans, key=lambda span: span.name)] == [
        (_TRACE, "license"),
        (_TRACE, "limits"),
        (_TRACE, "tallygate.check"),
    ]
    (check,) = receiver.named("tallygate.check")
    assert check.parent_span_id.hex() == parent
    told = attributes(check)
    assert (told["tallygate.decision"], told["tallygate.plan"]) == ("allow", "large@1")
    assert {span.parent_span_id for span in receiver.spans} == {check.parent_span_id, check.span_id}
    assert account.secret.encode() not in b"".join(receiver.bodies)

    async def sent() -> str:
        return str((await world.metrics()).get('tallygate_trace_spans_total{result="sent"}'))

    await world.until("3.0", sent)
