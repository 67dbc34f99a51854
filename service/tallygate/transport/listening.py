"""Where a server listens: the address as it is written, and the socket that is bound to it.

Every adapter listens by these rules: two servers never share an address in silence, a Unix socket that a dead
process left is replaced, one that is in use is not. Failure: InputError naming the setting.
"""

import asyncio
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tallygate.core.errors import InputError

LISTEN_SETTING = "TALLYGATE_LISTEN"
SERVICES_SETTING = "TALLYGATE_SERVICES_LISTEN"
BACKLOG = 1024
_PROBE_TIMEOUT_S = 1.0
_KEEPALIVE_IDLE_S = 60
_UNIX = "unix:"
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^:\s\[\]/]+):(?P<port>[0-9]{1,5})")
_LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen: a Unix socket's `path`, or `host` and `port` (0 lets the system choose); `setting` says so."""

    host: str = ""
    port: int = 0
    path: str | None = None
    setting: str = LISTEN_SETTING

    @classmethod
    def parse(cls, text: str, field: str = LISTEN_SETTING) -> "ListenAddress":
        """Read `host:port`, `[v6]:port` or `unix:/path`; raise InputError naming `field`."""
        if text.startswith(_UNIX):
            path = text.removeprefix(_UNIX)
            if not path.startswith("/"):
                raise InputError(field, f"{text!r} names no absolute path", "such as unix:/run/tallygate.sock")
            return cls(path=path, setting=field)
        match = _HOST_AND_PORT.fullmatch(text)
        if match is None or int(match["port"]) > _LARGEST_PORT:
            raise InputError(field, f"{text!r} is no address", "such as 0.0.0.0:50051 or unix:/run/tallygate.sock")
        return cls(host=match["host"], port=int(match["port"]), setting=field)

    def at(self, port: int) -> str:
        """Return the address as text, with the port that was really bound."""
        return f"{self.host}:{port}" if self.path is None else f"{_UNIX}{self.path}"

    def unavailable(self) -> InputError:
        """Return the error for an address that cannot be had."""
        where = self.at(self.port)
        return InputError(self.setting, f"cannot listen on {where}", "is it in use, or not of this machine?")


Listen: TypeAlias = str | socket.socket
"""An address (`host:port`, `[v6]:port`, `unix:/path`), or a TCP socket that is bound already.

A socket is how processes serve one port together. With SO_REUSEPORT it is taken to be this server's alone and stops
listening when the server stops; without, others are taken to accept from it too, and it is left as it is. The
caller keeps it, and closes it.
"""


def address_of(listen: Listen, setting: str = LISTEN_SETTING) -> ListenAddress:
    """Return where to listen; raise InputError naming `setting` for what is no address, or no bound TCP socket."""
    if isinstance(listen, str):
        return ListenAddress.parse(listen, setting)
    families = {socket.AF_INET: "{}", socket.AF_INET6: "[{}]"}
    if listen.family not in families or listen.type != socket.SOCK_STREAM or not listen.getsockname()[1]:
        raise InputError(setting, "the inherited socket is no bound TCP socket")
    host, port = listen.getsockname()[:2]
    return ListenAddress(families[listen.family].format(host), port, setting=setting)


def is_for_one_process(sock: socket.socket) -> bool:
    """Say whether a bound socket shares its port by SO_REUSEPORT: then every process has one of its own."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


async def bind(address: ListenAddress, *, may_share: bool = False) -> socket.socket:
    """Return a socket bound to `address`; raise InputError when it cannot be had.

    With `may_share` other sockets that are bound so may have the same port.
    """
    try:
        if address.path is not None:
            await clear_path(address)
            return _bound(socket.AF_UNIX, address.path)
        return await _bound_to_host(address, may_share=may_share)
    except OSError:
        raise address.unavailable() from None


async def clear_path(address: ListenAddress) -> None:
    """Remove the Unix socket that a dead process left; raise InputError when one answers, or it is a file."""
    if address.path is None:
        return
    path = Path(address.path)
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_unix_connection(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        _remove_socket(path, address.setting)
    except (OSError, TimeoutError):
        raise address.unavailable() from None
    else:
        writer.close()
        raise address.unavailable()


def _remove_socket(path: Path, setting: str) -> None:
    if not path.is_socket():
        raise InputError(setting, f"{path} is there and is no socket", "choose another path")
    path.unlink(missing_ok=True)


async def _bound_to_host(address: ListenAddress, *, may_share: bool) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host.strip("[]"), address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    problem: OSError | None = None
    for family, _, _, _, name in found:
        try:
            return _bound(family, name, may_share=may_share)
        except OSError as error:
            problem = error
    raise problem or OSError("the name has no address")


def _bound(family: int, name: str | tuple[Any, ...], *, may_share: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(may_share))
            # Accepted connections inherit these: a peer that vanished must not be kept for ever.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
        sock.bind(name)
    except BaseException:
        sock.close()
        raise
    return sock
