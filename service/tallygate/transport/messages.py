"""The one message of a unary request, taken out of gRPC's length-prefixed framing.

Pure. A request is `flag (1 byte) | length (4 bytes, big-endian) | message`, and nothing after it. Failure: CallError
with the status that gRPC's documents name; memory is bounded by `MAX_REQUEST_BYTES` whatever is claimed or packed.
"""

import zlib

from tallygate.transport.status import CallError, Status
from tallygate.transport.transport import MAX_REQUEST_BYTES

PREFIX_BYTES = 5
MAX_BODY_BYTES = PREFIX_BYTES + MAX_REQUEST_BYTES
ACCEPTED_ENCODINGS = b"identity, deflate, gzip"
_COMPRESSED = 1
# zlib's own numbers: a gzip header, and that of the zlib format, which is what gRPC names deflate.
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}


def too_large() -> CallError:
    """Return what a call with too large a message ends with."""
    return CallError(Status.RESOURCE_EXHAUSTED, f"the message is larger than {MAX_REQUEST_BYTES} bytes")


def check_encoding(encoding: bytes | None) -> None:
    """Raise CallError, UNIMPLEMENTED, for a `grpc-encoding` that is not understood."""
    if encoding not in {None, b"identity", *_WINDOW_BITS}:
        raise CallError(Status.UNIMPLEMENTED, "this compression is not supported")


def unframed(body: bytes | bytearray, encoding: bytes | None) -> bytes:
    """Return the message of a whole request body; `encoding` is the call's `grpc-encoding`. Raises CallError."""
    if encoding is None and len(body) - PREFIX_BYTES == int.from_bytes(body[1:PREFIX_BYTES], "big") and not body[0]:
        return bytes(body[PREFIX_BYTES:])
    check_encoding(encoding)
    _check_frame(body)
    message = bytes(body[PREFIX_BYTES:])
    return _unpacked(message, encoding) if body[0] == _COMPRESSED else message


def is_too_large(body: bytes | bytearray) -> bool:
    """Say whether what has come of a body so far is, or claims to become, larger than allowed."""
    return len(body) > MAX_BODY_BYTES or int.from_bytes(body[1:PREFIX_BYTES], "big") > MAX_REQUEST_BYTES


def framed(message: bytes) -> bytes:
    """Return a message with its prefix, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _check_frame(body: bytes | bytearray) -> None:
    if not body:
        raise CallError(Status.UNIMPLEMENTED, "a unary call has one message, this has none")
    if len(body) < PREFIX_BYTES:
        raise CallError(Status.INTERNAL, "the request ends within a message")
    if is_too_large(body):
        raise too_large()
    if body[0] not in {0, _COMPRESSED}:
        raise CallError(Status.INTERNAL, "the message has an unknown flag")
    missing = PREFIX_BYTES + int.from_bytes(body[1:PREFIX_BYTES], "big") - len(body)
    if missing > 0:
        raise CallError(Status.INTERNAL, "the request ends within a message")
    if missing < 0:
        raise CallError(Status.UNIMPLEMENTED, "a unary call has one message, this has more")


def _unpacked(message: bytes, encoding: bytes | None) -> bytes:
    bits = _WINDOW_BITS.get(encoding or b"")
    if bits is None:
        raise CallError(Status.INTERNAL, "the message is marked compressed, the call names no compression")
    unpacking = zlib.decompressobj(bits)
    try:
        unpacked = unpacking.decompress(message, MAX_REQUEST_BYTES + 1)
    except zlib.error:
        raise CallError(Status.INTERNAL, "the message cannot be decompressed") from None
    if len(unpacked) > MAX_REQUEST_BYTES:
        raise too_large()
    if not unpacking.eof or unpacking.unused_data:
        raise CallError(Status.INTERNAL, "the message cannot be decompressed")
    return unpacked
