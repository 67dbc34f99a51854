"""The adapters by the name that the setting has for them; each is imported only where it serves."""

from typing import Literal, Protocol

from tallygate.transport.listening import Listen
from tallygate.transport.tls import TlsFiles
from tallygate.transport.transport import Handlers, Transport

AdapterName = Literal["h2corn", "grpcio"]


class Adapter(Protocol):
    """Builds a transport, not started; raises InputError for what cannot be listened on."""

    def __call__(self, listen: Listen, handlers: Handlers, tls: TlsFiles | None = None, /) -> Transport:
        """Take where to listen, what to serve, and with what TLS."""
        ...


def adapter(name: AdapterName) -> Adapter:
    """Return the adapter of this name."""
    # Imported here: each brings a library of several MiB, and every worker would hold both.
    if name == "grpcio":
        from tallygate.transport.grpcio import GrpcioTransport  # noqa: PLC0415

        return GrpcioTransport
    from tallygate.transport.h2corn import H2cornTransport  # noqa: PLC0415

    return H2cornTransport
