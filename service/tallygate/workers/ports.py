"""The ports of workers, kept for them while they are restarted.

The ports are those that the system gives to outgoing connections, too: one of these could take a worker's port in the
moment in which nobody listens on it, and keep it. So the supervisor binds every port as well, and never listens: who
connects meanwhile is refused at once, as Envoy's retry needs it. Workers bind it too, by SO_REUSEPORT; where several
share one, the system deals out connections among them. Failure: InputError for a port that is in use.
"""

import socket

from tallygate.transport.listening import ListenAddress, bind


async def reserve(endpoint: str) -> socket.socket | None:
    """Return a socket that keeps the port for processes of the same user; None for a Unix socket, nobody takes that."""
    address = ListenAddress.parse(endpoint)
    if address.path is not None:
        return None
    # Alone first: workers share the port with us, which two supervisors must not.
    (await bind(address)).close()
    return await bind(address, may_share=True)
