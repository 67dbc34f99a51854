"""The operators' endpoint: alive, ready, metrics; and addresses that cannot be had."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry

from tallygate.core.errors import InputError
from tallygate.metrics import ExemplifiedSpread
from tallygate.probes import HttpServer, bind, probes_app

SETTING = "TALLYGATE_METRICS_LISTEN"


def _a_metric() -> CollectorRegistry:
    registry = CollectorRegistry()
    ExemplifiedSpread("a_metric", "Help.", (1,), registry, lambda: 7).observe_of(0.5, "d1")
    return registry


@asynccontextmanager
async def serving(waiting: list[str], listen: str = "127.0.0.1:0") -> AsyncIterator[httpx.AsyncClient]:
    """Serve the probes; readiness waits for what stands in `waiting`."""
    server = HttpServer(probes_app(_a_metric(), lambda: waiting), listen, SETTING)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://{server.address}", timeout=10, trust_env=False) as http:
            yield http
    finally:
        await server.stop()


async def test_readiness_is_503_until_nothing_is_waited_for() -> None:
    """Kubernetes sends no requests to a process that cannot decide, and the operator reads why."""
    waiting = ["licenses", "transport"]
    async with serving(waiting) as http:
        answers = [await http.get("/readyz")]
        waiting.clear()
        answers.append(await http.get("/readyz"))
    assert [answer.status_code for answer in answers] == [503, 200]
    assert answers[0].json() == {"status": "waiting", "waiting_for": ["licenses", "transport"]}
    assert answers[1].json() == {"status": "ready", "waiting_for": []}


async def test_a_waiting_process_is_alive() -> None:
    """A process that waits for Postgres is not killed for it."""
    async with serving(["licenses"]) as http:
        answer = await http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "*/*", "application/openmetrics-text2", "; ,"])
async def test_metrics_are_in_the_format_prometheus_reads(accept: str) -> None:
    """Plain text under the content type that names its version, for whoever does not ask for more."""
    async with serving([]) as http:
        answer = await http.get("/metrics", headers={"accept": accept})
    assert 'a_metric_bucket{le="1.0"} 1.0\n' in answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
        "text/plain, application/openmetrics-text; version=what",
    ],
)
async def test_exemplars_are_for_who_asks_for_openmetrics(accept: str) -> None:
    """Prometheus asks so, and finds the decision that fell into a bucket; whatever version it names."""
    async with serving([]) as http:
        answer = await http.get("/metrics", headers={"accept": accept})
    assert 'a_metric_bucket{le="1.0"} 1.0 # {decision_id="d1"} 0.5 7\n' in answer.text
    assert answer.text.endswith("# EOF\n")
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"


async def test_nothing_else_is_served() -> None:
    """No other path, and nothing that changes anything."""
    async with serving([]) as http:
        assert (await http.get("/")).status_code == 404
        assert (await http.post("/metrics")).status_code == 405


async def test_stopping_frees_the_address_and_leaves_signals_alone() -> None:
    """After a stop the port can be had again; a server that never started can be stopped too."""
    idle = HttpServer(probes_app(CollectorRegistry(), list), "127.0.0.1:0", SETTING)
    await idle.stop()
    server = HttpServer(probes_app(CollectorRegistry(), list), "127.0.0.1:0", SETTING)
    await server.start()
    await server.stop()
    async with serving([], server.address) as http:
        assert (await http.get("/healthz")).status_code == 200


async def test_two_scrapes_at_once_are_answered() -> None:
    """Prometheus and a person may look at the same time."""
    async with serving([]) as http:
        answers = await asyncio.gather(*(http.get("/metrics") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize(
    "listen", ["", "9464", "localhost:", "localhost:http", "127.0.0.1:65536", "127.0.0.1:²", "256.0.0.1:1", "a..b:80"]
)
async def test_a_wrong_address_is_told_with_the_settings_name(listen: str) -> None:
    """An address that cannot be used is bad input under its setting's name, not a traceback."""
    with pytest.raises(InputError, match=SETTING):
        await HttpServer(probes_app(CollectorRegistry(), list), listen, SETTING).start()


async def test_a_taken_address_is_told() -> None:
    """Two processes cannot share a port unnoticed."""
    taken = bind("127.0.0.1:0", SETTING)
    with taken, pytest.raises(InputError, match="cannot listen on"):
        bind("{}:{}".format(*taken.getsockname()), SETTING)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_in_brackets() -> None:
    """`[::1]:0` is bound as such."""
    with bind("[::1]:0", SETTING) as bound:
        assert bound.getsockname()[0] == "::1"
