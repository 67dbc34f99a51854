"""The transport over grpc.aio: the reference implementation of gRPC, slower than it could be.

Runs on the event loop it is started on. Failure: an address or a TLS file that cannot be used stops the start with
an InputError; afterwards a broken connection ends its own calls only.
"""

from collections.abc import AsyncIterator, Mapping
from typing import NoReturn, TypeAlias

import grpc

from tallygate.core.errors import InputError
from tallygate.transport.health import HEALTH_SERVICE, Health
from tallygate.transport.listening import LISTEN_SETTING, Listen, address_of, clear_path, is_for_one_process
from tallygate.transport.status import as_call_error
from tallygate.transport.tls import TlsFiles, refuse_unix
from tallygate.transport.transport import MAX_METADATA_BYTES, MAX_REQUEST_BYTES, Handlers, UnaryHandler

_OPTIONS = (
    # Envoy's keepalive on an idle connection is no attack; without this it is answered by GOAWAY.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    # Told to the peer; gRPC 1.85 itself takes more.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # Calls that wait to be begun: above gRPC's own thousand it would cancel them by chance.
    ("grpc.server.max_pending_requests", 65_536),
    ("grpc.server.max_pending_requests_hard_limit", 65_536),
    # No max_concurrent_streams: calls above it fail; Envoy's circuit breaker is where that is bounded.
)
CODES = {code.value[0]: code for code in grpc.StatusCode}

# The stubs' generics do not exist at run time.
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
MethodHandler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class GrpcioTransport:
    """Serves unary handlers by grpc.aio."""

    def __init__(
        self,
        listen: Listen,
        handlers: Handlers,
        tls: TlsFiles | None = None,
        *,
        more: "Mapping[str, MethodHandler] | None" = None,
        setting: str = LISTEN_SETTING,
    ) -> None:
        """Take where to listen, what to serve and with what TLS; raise InputError for no address, naming `setting`.

        `more` are methods of any kind, as gRPC itself has them, by their full path.

        gRPC cannot listen on a socket of others: given one, it binds a second to the same port, for which that one
        needs SO_REUSEPORT and must not listen itself.
        """
        self._listen = address_of(listen, setting)
        self._may_share = not isinstance(listen, str)
        if not isinstance(listen, str) and not is_for_one_process(listen):
            raise InputError(setting, "grpcio shares a port by SO_REUSEPORT only", "set TALLYGATE_TRANSPORT=h2corn")
        self._tls = tls
        refuse_unix(tls, self._listen.path)
        self._handlers = dict(handlers)
        self._more = dict(more or {})
        self._health = Health(path.split("/")[1] for path in (*self._handlers, *self._more))
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Return where it listens, with the real port."""
        return self._listen.at(self._port)

    @property
    def port(self) -> int:
        """Return the TCP port, 0 on a Unix socket."""
        return self._port

    async def start(self) -> None:
        """Listen; raise InputError when the address cannot be had or the TLS files cannot be used."""
        credentials = None if self._tls is None else _credentials(self._tls)
        await clear_path(self._listen)
        # Two processes on one port would share it silently, and one of them would starve.
        server = grpc.aio.server(options=(*_OPTIONS, ("grpc.so_reuseport", int(self._may_share))))
        server.add_generic_rpc_handlers((_Methods(self._handlers, self._more, self._health),))
        where = self._listen.at(self._listen.port)
        try:
            port = (
                server.add_insecure_port(where) if credentials is None else server.add_secure_port(where, credentials)
            )
        except RuntimeError:
            await server.stop(None)
            raise self._listen.unavailable() from None
        self._port = 0 if self._listen.path else port
        await server.start()
        self._server = server

    def set_serving(self, is_serving: bool) -> None:  # noqa: FBT001 - it is the one thing set
        """Tell health checks, and who watches, whether to send calls here."""
        self._health.set_serving(is_serving)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those under way finish within `grace_s` seconds, cancel the rest."""
        self._health.close()
        if self._server is not None:
            await self._server.stop(grace_s)


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a method path."""

    def __init__(self, handlers: Handlers, more: "Mapping[str, MethodHandler]", health: Health) -> None:
        served = {**handlers, f"/{HEALTH_SERVICE}/Check": health.answer}
        self._methods = {path: _unary(path, handler) for path, handler in served.items()} | dict(more)
        self._methods[f"/{HEALTH_SERVICE}/Watch"] = _watch(health)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "MethodHandler | None":
        return self._methods.get(handler_call_details.method)


def _unary(path: str, handler: UnaryHandler) -> MethodHandler:
    async def answer(request: bytes, context: Context) -> bytes:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - gRPC would tell its text to the caller
            await _abort(context, error, path)

    return grpc.unary_unary_rpc_method_handler(answer)


async def _abort(context: Context, error: Exception, path: str) -> NoReturn:
    told = as_call_error(error, path)
    await context.abort(CODES[told.status], told.message)


def _watch(health: Health) -> MethodHandler:
    async def watch(request: bytes, _context: Context) -> AsyncIterator[bytes]:
        async for status in health.answers(request):
            yield status

    return grpc.unary_stream_rpc_method_handler(watch)


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    tls.check()
    client_ca = None if tls.client_ca is None else tls.client_ca.read_bytes()
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)
