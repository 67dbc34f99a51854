"""Free TCP ports of 127.0.0.1, for servers that cannot be asked to choose one themselves.

A port found free may be taken before the server has it; so a start on a chosen port is tried again.
"""

import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import TypeVar

from tallygate.devservers.process import ServerStartError

LOOPBACK = "127.0.0.1"
_ATTEMPTS = 5
_TAKEN = "ddress already in use"

Started = TypeVar("Started")


def free_port() -> int:
    """Return a port nobody listens on at this moment."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int) -> int:
    """Return the first of `count` ports, one after the other, on which nobody listens at this moment."""
    while True:
        first = free_port()
        with ExitStack() as probes, suppress(OSError, OverflowError):
            for port in range(first, first + count):
                probes.enter_context(socket.create_server((LOOPBACK, port)))
            return first


async def on_port(port: int, start: Callable[[int], Awaitable[Started]]) -> Started:
    """Call `start` with `port`, or, when it is 0, with free ports until one was still free."""
    for _ in range(0 if port else _ATTEMPTS):
        try:
            return await start(free_port())
        except ServerStartError as error:
            if _TAKEN not in str(error):
                raise
    return await start(port or free_port())
