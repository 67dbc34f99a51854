"""The transport as a real Envoy meets it, on every adapter: TLS, a Unix socket, timeouts, restarts, health."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support.certificates import Authority, Pair
from support.gateway import MINIMAL, patient
from support.transports import ANYWHERE

from tallygate._proto.envoy.v3 import external_auth_pb2 as wire
from tallygate.devservers.envoy import EmbeddedEnvoy
from tallygate.devservers.envoy_config import Address, parse, with_endpoints
from tallygate.devservers.ports import LOOPBACK
from tallygate.envoy.check import SERVICE_PATH
from tallygate.transport.adapters import Adapter
from tallygate.transport.tls import TlsFiles
from tallygate.transport.transport import Transport

ALLOWED, DENIED, UNANSWERED = 204, 403, 503
PATIENT = patient(MINIMAL)
PERMISSION_DENIED = 7


class Decides:
    """A Check that allows all but `/denied`, and never answers `/stuck`."""

    def __init__(self) -> None:
        """Start with nothing asked."""
        self.asked = 0

    async def __call__(self, request: bytes) -> bytes:
        """Answer a CheckRequest."""
        self.asked += 1
        path = wire.CheckRequest.FromString(request).attributes.request.http.path
        if path == "/stuck":
            await asyncio.Event().wait()
        answer = wire.CheckResponse()
        answer.status.code = PERMISSION_DENIED if path == "/denied" else 0
        return answer.SerializeToString()


@pytest.fixture
def decides() -> Decides:
    """Return a fresh handler."""
    return Decides()


@asynccontextmanager
async def served(make: Adapter, decides: Decides, listen: str, tls: TlsFiles | None = None) -> AsyncIterator[Transport]:
    """Serve the handler while the context lasts."""
    transport = make(listen, {SERVICE_PATH: decides}, tls)
    await transport.start()
    transport.set_serving(True)
    try:
        yield transport
    finally:
        await transport.stop(0)


@asynccontextmanager
async def envoy_asking(
    run_dir: Path, address: Address | list[Address], cluster: dict[str, Any] | None = None, config: str = PATIENT
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a shipped Envoy, answering 204 itself to what is allowed; `cluster` is added to tallygate's."""
    parsed = parse(with_endpoints(config, listeners={"gateway": (LOOPBACK, 0)}, clusters={"tallygate": address}))
    resources = parsed["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": {"prefix": "/"}, "direct_response": {"status": ALLOWED}}
    ]
    next(one for one in resources["clusters"] if one["name"] == "tallygate").update(cluster or {})
    async with (
        EmbeddedEnvoy(yaml.safe_dump(parsed), run_dir=run_dir, concurrency=1) as envoy,
        httpx.AsyncClient(base_url=envoy.url("gateway"), timeout=20) as client,
    ):
        yield client


def transport_socket(authority: Authority, client: Pair | None = None) -> dict[str, Any]:
    """Return how Envoy speaks TLS to a cluster: whom it trusts, and what it shows."""
    context: dict[str, Any] = {"validation_context": {"trusted_ca": {"filename": str(authority.certificate)}}}
    if client is not None:
        shown = {"certificate_chain": client.certificate, "private_key": client.key}
        context["tls_certificates"] = [{name: {"filename": str(path)} for name, path in shown.items()}]
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    return {
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": kind, "common_tls_context": context},
        }
    }


async def statuses(client: httpx.AsyncClient, *paths: str) -> list[int]:
    """Ask for all paths at once."""
    return [answer.status_code for answer in await asyncio.gather(*(client.get(path) for path in paths))]


@pytest.mark.parametrize("socket", ["port", "file"])
async def test_envoy_is_answered(make: Adapter, decides: Decides, tmp_path: Path, data_dir: Path, socket: str) -> None:
    """Envoy's question reaches the handler and its answer Envoy, by TCP and by a Unix socket."""
    path = tmp_path / "check.sock"
    listen = ANYWHERE if socket == "port" else f"unix:{path}"
    async with served(make, decides, listen) as transport:
        address: Address = (LOOPBACK, transport.port) if socket == "port" else path
        async with envoy_asking(data_dir, address) as client:
            assert await statuses(client, "/", "/denied", "/") == [ALLOWED, DENIED, ALLOWED]


@pytest.mark.parametrize("asks_client", [False, True], ids=["TLS", "mTLS"])
async def test_envoy_is_answered_by_tls(
    make: Adapter, decides: Decides, tmp_path: Path, data_dir: Path, *, asks_client: bool
) -> None:
    """Envoy speaks TLS to the server, and shows its own certificate where one is asked for."""
    authority = Authority(tmp_path, "authority")
    server, client_pair = authority.sign("server"), authority.sign("envoy")
    tls = TlsFiles(server.certificate, server.key, authority.certificate if asks_client else None)
    async with served(make, decides, ANYWHERE, tls) as transport:
        secured = transport_socket(authority, client_pair if asks_client else None)
        async with envoy_asking(data_dir, (LOOPBACK, transport.port), secured) as client:
            assert await statuses(client, "/", "/denied") == [ALLOWED, DENIED]


async def test_an_envoy_without_a_certificate_is_not_answered(
    make: Adapter, decides: Decides, tmp_path: Path, data_dir: Path
) -> None:
    """Where clients have to show a certificate, an Envoy that has none gets no answer, and lets nobody pass."""
    authority = Authority(tmp_path, "authority")
    server = authority.sign("server")
    tls = TlsFiles(server.certificate, server.key, authority.certificate)
    async with (
        served(make, decides, ANYWHERE, tls) as transport,
        envoy_asking(data_dir, (LOOPBACK, transport.port), transport_socket(authority)) as client,
    ):
        assert await statuses(client, "/") == [UNANSWERED]
    assert decides.asked == 0


async def test_a_storm_of_timeouts_costs_only_the_calls_that_were_late(
    make: Adapter, decides: Decides, data_dir: Path
) -> None:
    """Envoy gives up 500 checks after its 0.2 s each; those that come then are answered as if nothing had been."""
    async with (
        served(make, decides, ANYWHERE) as transport,
        envoy_asking(data_dir, (LOOPBACK, transport.port), config=MINIMAL) as client,
    ):
        for _ in range(5):
            assert set(await statuses(client, *["/stuck"] * 100)) == {UNANSWERED}
        async with asyncio.timeout(60):
            while await statuses(client, "/", "/denied") != [ALLOWED, DENIED]:
                pass  # on a starved machine 0.2 s are short for these, too


async def test_envoy_finds_a_server_that_was_restarted(make: Adapter, decides: Decides, data_dir: Path) -> None:
    """A server that stops and comes back on its port is asked again, without a restart of Envoy."""
    async with (
        served(make, decides, ANYWHERE) as transport,
        envoy_asking(data_dir, (LOOPBACK, transport.port)) as client,
    ):
        assert await statuses(client, "/") == [ALLOWED]
        await transport.stop(5)
        assert await statuses(client, "/") == [UNANSWERED]
        async with served(make, decides, transport.address):
            assert await statuses(client, "/") == [ALLOWED]


async def test_envoys_own_health_checks_are_answered(make: Adapter, decides: Decides, data_dir: Path) -> None:
    """Envoy's gRPC health check moves calls from a server that is about to stop to one that serves."""
    health_checks = {
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [
            {
                "timeout": "15s",
                "interval": "0.05s",
                "no_traffic_interval": "0.05s",
                "healthy_threshold": 1,
                "unhealthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
    }
    async with served(make, decides, ANYWHERE) as one, served(make, Decides(), ANYWHERE) as other:
        addresses: list[Address] = [(LOOPBACK, one.port), (LOOPBACK, other.port)]
        async with (
            envoy_asking(data_dir, addresses, health_checks) as client,
            asyncio.timeout(20),
        ):
            while await statuses(client, "/") != [ALLOWED]:
                pass
            other.set_serving(False)
            asked = 0
            while decides.asked - asked != 20:  # until twenty in a row reach the one that serves
                asked = decides.asked
                assert await statuses(client, *["/"] * 20) == [ALLOWED] * 20
