"""The transport over h2corn: HTTP/2 in Rust, on a thread of its own, and gRPC by `asgi` on our event loop.

Listens on a socket that is bound here, so that addresses, and their errors, are those of every adapter. Failure: an
address or a TLS file that cannot be used stops the start with an InputError; afterwards a broken connection ends its
own calls only.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h2corn
import structlog

from tallygate.transport.asgi import GrpcApp
from tallygate.transport.health import Health
from tallygate.transport.listening import BACKLOG, Listen, address_of, bind, is_for_one_process
from tallygate.transport.tls import TlsFiles, refuse_unix
from tallygate.transport.transport import MAX_METADATA_BYTES, MAX_REQUEST_BYTES, Handlers

_log = structlog.get_logger("tallygate.transport")
# A bound against abuse. Envoy's circuit breaker, 1,024 requests unless told otherwise, is where this is limited.
_MAX_STREAMS = 65_536
# We end what outlasts the grace of `stop`, so h2corn has to wait longer than any grace.
_LONGEST_GRACE_S = 3_600.0
_CLOSE_DEADLINE_S = 5.0
_MAX_HEADER_BLOCK_BYTES = 64 * MAX_METADATA_BYTES
# What is kept of a call whose body is not read yet: the largest message and its prefix fit.
_STREAM_WINDOW_BYTES = 2 * MAX_REQUEST_BYTES


class H2cornTransport:
    """Serves unary handlers by h2corn."""

    def __init__(self, listen: Listen, handlers: Handlers, tls: TlsFiles | None = None) -> None:
        """Take where to listen, what to serve and with what TLS; raise InputError for no address."""
        self._listen = listen
        self._where = address_of(listen)
        self._tls = tls
        refuse_unix(tls, self._where.path)
        self._health = Health(path.split("/")[1] for path in handlers)
        self._app = GrpcApp(handlers, self._health)
        self._socket: socket.socket | None = None
        self._server: h2corn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Return where it listens, with the real port."""
        return self._where.at(self._port)

    @property
    def port(self) -> int:
        """Return the TCP port, 0 on a Unix socket."""
        return self._port

    async def start(self) -> None:
        """Listen; raise InputError when the address cannot be had or the TLS files cannot be used."""
        if self._tls is not None:
            self._tls.check()
        sock = await bind(self._where) if isinstance(self._listen, str) else self._listen.dup()
        try:
            await self._serve(sock)
        except BaseException:
            sock.close()
            raise
        self._socket = sock
        self._port = 0 if self._where.path is not None else sock.getsockname()[1]

    def set_serving(self, is_serving: bool) -> None:  # noqa: FBT001 - it is the one thing set
        """Tell health checks, and who watches, whether to send calls here."""
        self._health.set_serving(is_serving)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those under way finish within `grace_s` seconds, cancel the rest."""
        self._health.close()
        if self._server is None or self._serving is None:
            return
        self._server.shutdown()
        self._stop_listening()
        done, _ = await asyncio.wait({self._serving}, timeout=grace_s)
        if not done:
            self._app.cancel_calls()
            await asyncio.wait({self._serving}, timeout=_CLOSE_DEADLINE_S)

    async def _serve(self, sock: socket.socket) -> None:
        try:
            sock.listen(BACKLOG)  # here, and not at `bind`: between two servers the first to listen has the address
        except OSError:
            raise self._where.unavailable() from None
        server = h2corn.Server(self._app, _config(sock, self._tls))
        with _without_preempting():
            serving = asyncio.create_task(server.serve(), name="h2corn")
            await server.wait_started()
        serving.add_done_callback(_tell_of_failure)
        self._server, self._serving = server, serving

    def _stop_listening(self) -> None:
        if self._socket is None:
            return
        if self._where.path is not None:
            # First: once nobody listens the next process takes the path, and that one must stay.
            Path(self._where.path).unlink(missing_ok=True)
        if isinstance(self._listen, str) or is_for_one_process(self._socket):
            # h2corn keeps a duplicate until it has drained: who connects meanwhile would wait in vain.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None


@contextmanager
def _without_preempting() -> Iterator[None]:
    """Let threads that are made meanwhile not preempt others when they wake.

    h2corn's thread is woken by each answer. By Linux's default it interrupts the very thread that answers, to send
    that one answer and sleep again: two switches a call, a tenth of its cost.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _config(sock: socket.socket, tls: TlsFiles | None) -> h2corn.Config:
    return h2corn.Config(
        bind=(f"fd://{sock.fileno()}",),
        grpc=True,
        http1=False,
        access_log=False,
        log_format="json",
        lifespan="off",
        runtime_threads=1,
        date_header=False,
        certfile=None if tls is None else tls.certificate,
        keyfile=None if tls is None else tls.key,
        ca_certs=None if tls is None else tls.client_ca,
        cert_reqs="none" if tls is None or tls.client_ca is None else "required",
        max_concurrent_streams=_MAX_STREAMS,
        h2_max_header_list_size=MAX_METADATA_BYTES,
        # Above it the connection is closed, and every call on it fails.
        h2_max_header_block_size=_MAX_HEADER_BLOCK_BYTES,
        limit_request_fields=0,
        h2_initial_stream_window_size=_STREAM_WINDOW_BYTES,
        timeout_graceful_shutdown=_LONGEST_GRACE_S,
        # An idle connection is never closed: a request that crosses with the GOAWAY would be refused a user.
        timeout_keep_alive=0,
    )


def _tell_of_failure(serving: "asyncio.Task[None]") -> None:
    if not serving.cancelled() and serving.exception() is not None:
        _log.error("the transport failed", kind=type(serving.exception()).__name__)
