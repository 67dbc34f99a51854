"""Where each worker listens, when each has an endpoint of its own.

Pure. Failure: InputError for an address that does not leave room for all of them.
"""

from tallygate.core.errors import InputError
from tallygate.transport.listening import LISTEN_SETTING, ListenAddress

_LARGEST_PORT = 65535


def endpoints(listen: str, workers: int) -> list[str]:
    """Return the address of each worker: for several, port + number or `unix:/path.number`, numbers from 0.

    Raises InputError for no address, for port 0, of which nobody could tell Envoy, and for ports above the last.
    """
    address = ListenAddress.parse(listen)
    if workers == 1:
        return [listen]
    if address.path is not None:
        return [f"{listen}.{number}" for number in range(workers)]
    if address.port == 0:
        raise InputError(LISTEN_SETTING, "port 0 is one port, every worker needs one", "name the first of the ports")
    if address.port + workers - 1 > _LARGEST_PORT:
        mend = f"at most {_LARGEST_PORT - workers + 1}"
        raise InputError(LISTEN_SETTING, f"{workers} workers need as many ports from {address.port} on", mend)
    return [address.at(address.port + number) for number in range(workers)]


def refuse_unshareable(listen: str) -> None:
    """Raise InputError for an address that workers cannot share."""
    if ListenAddress.parse(listen).path is not None:
        mend = "write host:port, or TALLYGATE_WORKER_ENDPOINTS=each for a socket each"
        raise InputError(LISTEN_SETTING, "workers do not share a Unix socket", mend)
