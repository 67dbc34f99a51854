"""The ports of workers, kept for them while they are restarted.

The ports are those that the system gives to outgoing connections, too: one of these could take a worker's port in the
moment in which nobody listens on it, and keep it. So the supervisor binds every port as well, and never listens: who
connects meanwhile is refused at once, as Envoy's retry needs it. Workers bind it too, by SO_REUSEPORT; where several
share one, the system deals out connections among them. Nobody else does, not even where SO_REUSEADDR lets him bind:
the system refuses him when he listens. Failure: InputError for a port that is in use, or kept already.
"""

import socket

from tallygate.transport.listening import LISTEN_SETTING, ListenAddress, bind


async def reserve(endpoint: str, setting: str = LISTEN_SETTING) -> socket.socket | None:
    """Return a socket that keeps the port for processes of the same user; None for a Unix socket, nobody takes that.

    `setting` is what an error names.
    """
    address = ListenAddress.parse(endpoint, setting)
    if address.path is not None:
        return None
    await _refuse_shared(address)
    kept = await bind(address, may_share=True)
    # Needed to bind beside connections that ended just now. Left on, whoever has it too could listen here.
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return kept


async def _refuse_shared(address: ListenAddress) -> None:
    """Raise InputError for a port that we would share: workers do so with us, two supervisors or two settings not."""
    with await bind(address) as alone:
        try:
            alone.listen()
        except OSError:
            raise address.unavailable() from None
