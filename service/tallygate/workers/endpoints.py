"""Where each worker listens, when each has an endpoint of its own.

Pure. Failure: InputError for an address that does not leave room for all of them.
"""

from collections.abc import Sequence

from tallygate.core.errors import InputError
from tallygate.transport.listening import LISTEN_SETTING, SERVICES_SETTING, ListenAddress

_LARGEST_PORT = 65535
_ANYWHERE = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 - told apart from others, not listened on


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


def refuse_services(listen: str, checks: Sequence[str]) -> None:
    """Raise InputError for a services' address that several workers, who check at `checks`, cannot share.

    They can all be told neither a Unix socket nor any port; and it must not be one of theirs.
    """
    address = ListenAddress.parse(listen, SERVICES_SETTING)
    if address.path is not None or address.port == 0:
        mend = "such as 0.0.0.0:50062"
        raise InputError(SERVICES_SETTING, "several workers share one port, which has to be named", mend)
    other = beside(listen, checks)
    if other != listen:
        mend = f"such as {other}, or TALLYGATE_LISTEN elsewhere"
        raise InputError(SERVICES_SETTING, f"{listen} is an address that a worker checks at", mend)


def beside(listen: str, checks: Sequence[str]) -> str:
    """Return `listen`, or, where that is an address of a worker, the same with the port after those of all."""
    address = ListenAddress.parse(listen, SERVICES_SETTING)
    taken = [check for check in map(ListenAddress.parse, checks) if check.path is None]
    is_taken = any(_overlap(address, check) for check in taken)
    return address.at(max(check.port for check in taken) + 1) if is_taken else listen


def _overlap(one: ListenAddress, other: ListenAddress) -> bool:
    return one.port == other.port and (one.host == other.host or not _ANYWHERE.isdisjoint({one.host, other.host}))
