"""Any shipped Envoy configuration at work: `gateway` with what that file needs besides an address of Tallygate.

Certificates for the one that speaks TLS, a socket, an upstream in gRPC; the others need nothing.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from support.certificates import Authority, Pair
from support.gateway import Decide, Gateway, Received, config_of, gateway

from tallygate.devservers.ports import LOOPBACK
from tallygate.transport.tls import TlsFiles

MTLS, UNIX_SOCKET, GRPC_UPSTREAM = "08-mtls", "09-unix-socket", "07-grpc-upstream"
_METHOD, _COUNT = "/things.v1.Things/Get", "/things.v1.Things/Count"


@asynccontextmanager
async def deployed(
    name: str,
    decide: Decide,
    *,
    waits: str = "15s",
    config: str | None = None,
    tls: TlsFiles | None = None,
    authority: Authority | None = None,
    run_dir: Path | None = None,
) -> AsyncIterator[Gateway]:
    """Start a shipped configuration, or what a test made of it, in front of a pipeline that decides so.

    `tls` is what Tallygate serves with, and `authority` whom Envoy believes and has its certificate from.
    What Envoy leaves is gone in the end, unless a `run_dir` is given.
    """
    async with AsyncExitStack() as resources:
        # A path of its own, and short: a socket's name has at most 107 bytes.
        directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="tg-")))
        text = config or config_of(name)
        things = Things()
        told: dict[str, Any] = {}
        if name == UNIX_SOCKET:
            told["listen"] = f"unix:{directory}/tallygate.sock"
        elif name == MTLS:
            authority = authority or Authority(directory, "ca")
            told["tls"] = tls or _tls(authority)
            text = with_certificates(text, authority.sign("envoy"), authority.certificate)
        elif name == GRPC_UPSTREAM:
            told["upstream_port"] = await resources.enter_async_context(things.serving())
        api = await resources.enter_async_context(
            gateway(text, run_dir or directory / "envoy", decide, waits=waits, **told)
        )
        if name == GRPC_UPSTREAM:
            things.received = api.received
        yield api


def _tls(authority: Authority) -> TlsFiles:
    server = authority.sign("tallygate.internal")
    return TlsFiles(server.certificate, server.key, authority.certificate)


def with_certificates(config: str, client: Pair, authority: Path) -> str:
    """Return the configuration with these files in place of those it names."""
    names = {"envoy.pem": client.certificate, "envoy.key": client.key, "ca.pem": authority}
    for name, path in names.items():
        assert f"/etc/envoy/tls/{name}" in config
        config = config.replace(f"/etc/envoy/tls/{name}", str(path))
    return config


class Things:
    """An API in gRPC: `Get` answers with what it was sent, `Count` with three messages. Remembers the calls."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self.received: list[Received] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve at a port, which is returned."""
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Get": grpc.unary_unary_rpc_method_handler(self._get),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
        }
        server = grpc.aio.server()
        server.add_registered_method_handlers("things.v1.Things", handlers)
        port = server.add_insecure_port(f"{LOOPBACK}:0")
        await server.start()
        try:
            yield port
        finally:
            await server.stop(0)

    async def _get(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self._remember(_METHOD, context)
        return request

    async def _count(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        self._remember(_COUNT, context)
        for number in range(3):
            yield request + str(number).encode()

    def _remember(self, path: str, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        metadata = context.invocation_metadata() or ()
        self.received.append(Received(path, [(name, str(value)) for name, value in metadata]))


async def get_thing(api: Gateway, *metadata: tuple[str, str]) -> bytes:
    """Call `Get` with this metadata; raise grpc.aio.AioRpcError when it is refused."""
    async with grpc.aio.insecure_channel(api.address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_METHOD)
        return await method(b"thing", metadata=metadata, timeout=20)


async def count_things(api: Gateway, *metadata: tuple[str, str]) -> list[bytes]:
    """Call `Count` with this metadata."""
    async with grpc.aio.insecure_channel(api.address) as channel:
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(_COUNT)
        return [message async for message in method(b"", metadata=metadata, timeout=20)]
