"""The port of a gRPC server that knows only bytes.

Promises, the same for every adapter (tests/contract/test_transport*.py):

- a call to a path in the mapping reaches its handler; any other is UNIMPLEMENTED;
- a caller that goes away, or whose deadline passes, cancels the handler; the server keeps the deadline itself;
- a handler that raises CallError ends its call with that status; anything else it raises is INTERNAL, and the caller
  learns no more; neither harms another call;
- a request above `MAX_REQUEST_BYTES`, unpacked, is RESOURCE_EXHAUSTED before it reaches the handler; gzip and deflate
  are read;
- whatever is no gRPC call, or not one message, ends that call alone; where gRPC's own library is laxer, its adapter is;
- `grpc.health.v1.Health` is served beside it; who watches is told of every change, and let go by a stop;
- ten thousand calls may be under way at once; a keepalive, however frequent, is answered;
- an address is never shared in silence; TLS, and clients' certificates, are asked for by `TlsFiles`;
- `stop` refuses new calls and connections, says GOAWAY, and lets those under way finish.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

UnaryHandler = Callable[[bytes], Awaitable[bytes]]
Handlers = Mapping[str, UnaryHandler]
"""Full method paths (`/package.Service/Method`) and what answers them."""

MAX_REQUEST_BYTES = 1024 * 1024
"""Envoy passes at most 60 KiB of headers, and no body unless told to."""

MAX_METADATA_BYTES = 16 * 1024
"""Headers of one call as HPACK counts them; gRPC's own default limit."""


class Transport(Protocol):
    """A server of unary calls; started once, stopped once."""

    @property
    def address(self) -> str:
        """Return where it listens, with the real port: `127.0.0.1:50051`, or `unix:/path`."""
        ...

    @property
    def port(self) -> int:
        """Return the TCP port, 0 on a Unix socket."""
        ...

    async def start(self) -> None:
        """Listen; health is NOT_SERVING until told otherwise. Raise InputError when the address cannot be had."""
        ...

    def set_serving(self, is_serving: bool) -> None:  # noqa: FBT001 - it is the one thing set
        """Tell health checks, and who watches, whether to send calls here."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those under way finish within `grace_s` seconds, cancel the rest."""
        ...
