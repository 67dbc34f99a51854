"""How a call ends that is not answered: gRPC's status codes, the exception that carries one, and its text on the wire.

Pure, but for the log line that tells of a handler that failed. Nothing of a foreign exception is told to a
caller or written to the log but its type and place: its message may quote a request.
"""

from enum import IntEnum
from pathlib import PurePath
from traceback import extract_tb

import structlog

_log = structlog.get_logger("tallygate.transport")
_PRINTABLE = range(0x20, 0x7F)


class Status(IntEnum):
    """The codes that a transport answers with, as gRPC numbers them."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class CallError(Exception):
    """Ends a call with a status and a message that the caller reads; a handler may raise it."""

    def __init__(self, status: Status, message: str) -> None:
        """Take the status, not OK, and a text that may be shown to anybody."""
        self.status = status
        self.message = message
        super().__init__(f"{status.name}: {message}")


def as_call_error(error: Exception, path: str) -> CallError:
    """Return what the caller is told of a handler's exception; note one that no caller is to blame for."""
    if isinstance(error, CallError):
        return error
    frame = extract_tb(error.__traceback__)[-1]
    place = f"{PurePath(frame.filename).name}:{frame.lineno}"
    _log.error("a handler failed", path=path, kind=type(error).__name__, place=place)
    return CallError(Status.INTERNAL, "internal error")


def percent_encoded(message: str) -> bytes:
    """Return the value of `grpc-message`: UTF-8, with all but printable ASCII, and `%`, as %XX."""
    return b"".join(
        bytes((byte,)) if byte in _PRINTABLE and byte != ord("%") else b"%%%02X" % byte for byte in message.encode()
    )
