"""The HTTP endpoint of operators: /metrics, /healthz (alive) and /readyz (able to decide).

Owns the routes and the small server. Does not own what readiness means (`lifecycle.py`).
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tallygate.core.errors import InputError
from tallygate.metrics import exposed


def probes_app(series: Collector, not_ready: Callable[[], list[str]]) -> Starlette:
    """Return the app; `not_ready` lists what readiness still waits for, empty when ready."""

    async def metrics(request: Request) -> Response:
        page, media_type = exposed(series, request.headers.get("accept", ""))
        return Response(page, media_type=media_type)

    async def alive(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_request: Request) -> Response:
        waiting = not_ready()
        body = {"status": "waiting" if waiting else "ready", "waiting_for": waiting}
        return JSONResponse(body, status_code=503 if waiting else 200)

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", alive), Route("/readyz", ready)])


class HttpServer:
    """Uvicorn inside the running loop, on a socket we bind, so that port 0 and bad addresses are ours to tell."""

    def __init__(self, app: Starlette, listen: str | socket.socket, setting: str) -> None:
        """Take the app, `host:port` or what `bind` returned for it, and the setting's name for error messages."""
        self._listen = listen
        self._setting = setting
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None
        self.address = listen if isinstance(listen, str) else _address_of(listen)

    async def start(self) -> None:
        """Bind and serve; raise InputError naming the setting when the address cannot be had."""
        bound = bind(self._listen, self._setting) if isinstance(self._listen, str) else self._listen
        self.address = _address_of(bound)
        self._task = asyncio.create_task(self._server.serve(sockets=[bound]), name="http")

    async def stop(self) -> None:
        """Finish what is in flight and close."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _QuietServer(uvicorn.Server):
    """Uvicorn that leaves the process's signals to `lifecycle`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _address_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"{host}:{port}"


def bind(listen: str, setting: str) -> socket.socket:
    """Return a listening socket for `host:port`; raise InputError naming `setting` when that fails."""
    host, port = host_and_port(listen, setting)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, for asyncio turns Nagle's algorithm (40 ms an answer) off only where it is.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(128)
    except (OSError, OverflowError, UnicodeError) as error:  # UnicodeError: the host cannot be a name
        bound.close()
        raise InputError(setting, f"cannot listen on {listen}: {error}") from None
    bound.settimeout(0)
    return bound


def host_and_port(listen: str, setting: str) -> tuple[str, int]:
    """Read `host:port` or `[v6]:port`; raise InputError naming `setting` for anything else."""
    host, separator, port = listen.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()):
        raise InputError(setting, f"{listen!r} is no address", "write host:port, such as 127.0.0.1:9464")
    return host.strip("[]"), int(port)
