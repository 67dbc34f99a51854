"""The port of a gRPC server that knows only bytes.

Promises, the same for every adapter (tests/contract/test_transport.py):

- a call to a path in the mapping reaches its handler; any other is UNIMPLEMENTED;
- a caller that goes away, or whose deadline passes, cancels the handler;
- a handler that raises is a gRPC error of that one call and harms no other;
- a request above `MAX_REQUEST_BYTES` is refused with RESOURCE_EXHAUSTED before it reaches the handler;
- `grpc.health.v1.Health` is served beside it; who watches is told of every change;
- `stop` refuses new calls and lets those under way finish.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tallygate.core.errors import InputError

UnaryHandler = Callable[[bytes], Awaitable[bytes]]
Handlers = Mapping[str, UnaryHandler]
"""Full method paths (`/package.Service/Method`) and what answers them."""

MAX_REQUEST_BYTES = 1024 * 1024
"""Envoy passes at most 60 KiB of headers, and no body unless told to."""

LISTEN_SETTING = "TALLYGATE_LISTEN"
_UNIX = "unix:"
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^:\s\[\]/]+):(?P<port>[0-9]{1,5})")
_LARGEST_PORT = 65535


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


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen: a Unix socket's `path`, or `host` and `port` (0 lets the system choose)."""

    host: str = ""
    port: int = 0
    path: str | None = None

    @classmethod
    def parse(cls, text: str, field: str = LISTEN_SETTING) -> "ListenAddress":
        """Read `host:port`, `[v6]:port` or `unix:/path`; raise InputError naming `field`."""
        if text.startswith(_UNIX):
            path = text.removeprefix(_UNIX)
            if not path.startswith("/"):
                raise InputError(field, f"{text!r} names no absolute path", "such as unix:/run/tallygate.sock")
            return cls(path=path)
        match = _HOST_AND_PORT.fullmatch(text)
        if match is None or int(match["port"]) > _LARGEST_PORT:
            raise InputError(field, f"{text!r} is no address", "such as 0.0.0.0:50051 or unix:/run/tallygate.sock")
        return cls(host=match["host"], port=int(match["port"]))

    def at(self, port: int) -> str:
        """Return the address as text, with the port that was really bound."""
        return f"{self.host}:{port}" if self.path is None else f"{_UNIX}{self.path}"
