"""Answers put together from pieces that were serialized before.

Owns the three facts of protobuf's wire format that this takes: a message inside another stands behind its field
number (`number << 3 | 2`) and its length, both as varints, seven bits a byte, the lowest first; a message written in
pieces, one after the other, is the same message; no text's bytes look at its neighbours'. Which fields there are is
left to the generated code of `protos/tallygate/envoy/v3`: field numbers come from there, and a `Blank` is cut out of
what it wrote. Memory is bounded. For one event loop.
"""

from collections.abc import Callable
from functools import lru_cache

from google.protobuf.message import Message

_LENGTH_DELIMITED = 2
_LONGEST_REMEMBERED = 512
_HEADS = 4096


@lru_cache(_HEADS)
def head(field_number: int, length: int) -> bytes:
    """Return what stands before a message of `length` bytes in this field of another."""
    return _varint(field_number << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*octets, number))


class Blank:
    """A message with one text left open.

    What stands around the text depends on its length alone, and is remembered for each length.
    """

    __slots__ = ("_around", "_message")

    def __init__(self, message: Callable[[str], Message]) -> None:
        """Take what makes the message of a text; it must hold the text once, and as it is."""
        self._message = message
        self._around: dict[int, tuple[bytes, bytes]] = {}

    def fill(self, text: str) -> bytes:
        """Return the message of `text`, which is ASCII, or else as `message` has it."""
        length = len(text)
        if length > _LONGEST_REMEMBERED or not text.isascii():
            return self._message(text).SerializeToString()
        before, after = self._around.get(length) or self._learn(length)
        return before + text.encode() + after

    def _learn(self, length: int) -> tuple[bytes, bytes]:
        """Find what stands around a text of this length: what two messages with different texts share."""
        one, other = (self._message(letter * length).SerializeToString() for letter in "~^")
        end = next((at for at in range(len(one), 0, -1) if one[at - 1] != other[at - 1]), len(one))
        before, after = one[: end - length], one[end:]
        if other != before + b"^" * length + after and length:
            raise AssertionError("the message does not hold the text once, as it is")
        self._around[length] = before, after
        return before, after
