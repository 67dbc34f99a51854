"""Calls of `acquire.lua` made ready: the bytes of an acquisition, written once and sent with one id after another.

Owns what is kept of acquisitions already seen. Does not own their layout (`script`) nor sending. Whoever asks
gives the same charges, subject and usage again, the same objects, for requests of a kind; these are known by
their identity, for to compare or hash them would cost more than it saves. What a period ended is told by the
script itself ("stale"), and made ready anew. For one event loop.
"""

from collections.abc import Iterable

from tallygate.limits.keys import idempotency_prefix
from tallygate.limits.limiter import Acquisition
from tallygate.limits.present import Present
from tallygate.limits.script import Call, Form, Mode
from tallygate.storage.redis_pipeline import pack_command

_KEPT = 10_000
_NO_ID = "-"


class ReadyCall:
    """One acquisition as bytes, but for the id of the request."""

    __slots__ = ("_acquisition", "_after", "_before", "_digest", "_form", "_plain", "_prefix", "_present")

    def __init__(self, acquisition: Acquisition, digest: bytes, present: Present) -> None:
        """Lay it out; raise ValueError for what cannot be counted exactly. `digest` is the script's, in hexadecimal."""
        self._acquisition = acquisition
        self._digest = digest
        self._present = present
        self._form = Form(acquisition)
        self._prefix = idempotency_prefix(acquisition.subject.customer).encode()
        self._before = self._after = self._plain = b""

    def is_of(self, acquisition: Acquisition) -> bool:
        """Say whether this is that acquisition's, whatever the request's id."""
        own = self._acquisition
        return (
            own.charges is acquisition.charges
            and own.subject is acquisition.subject
            and own.usage is acquisition.usage
            and own.route is acquisition.route
        )

    def command(self, mode: Mode, request_id: str | None) -> bytes:
        """Return the bytes that run it by the script's digest."""
        if mode == "peek" or self._form.has_holds:
            keys, arguments = self.call(mode, request_id)
            return pack_command((b"EVALSHA", self._digest, len(keys), *keys, *arguments))
        if request_id is None:
            if not self._plain:
                self._plain = self._packed(None)
            return self._plain
        if not self._before:
            self._before, _, self._after = self._packed(_NO_ID).partition(self._key(_NO_ID.encode()))
        return self._before + self._key(request_id.encode()) + self._after

    def call(self, mode: Mode, request_id: str | None) -> Call:
        """Return its KEYS and ARGV."""
        return self._form.call(mode, request_id, self._present)

    def renew(self) -> None:
        """Forget the bytes: a period they name is over."""
        self._before = self._after = self._plain = b""

    def _packed(self, request_id: str | None) -> bytes:
        keys, arguments = self.call("acquire", request_id)
        return pack_command((b"EVALSHA", self._digest, len(keys), *keys, *arguments))

    def _key(self, request_id: bytes) -> bytes:
        return b"$%d\r\n%b%b\r\n" % (len(self._prefix) + len(request_id), self._prefix, request_id)


class ReadyCalls:
    """The acquisitions seen lately."""

    def __init__(self, digest: bytes, present: Present) -> None:
        """Make calls of the script with this digest."""
        self._digest = digest
        self._present = present
        self._kept: dict[int, ReadyCall] = {}

    def of(self, acquisition: Acquisition) -> ReadyCall:
        """Return the call; raise ValueError for what cannot be counted exactly."""
        # There is one empty tuple: those without charges are told apart by their subject.
        key = id(acquisition.charges or acquisition.subject)
        found = self._kept.get(key)
        if found is None or not found.is_of(acquisition):
            found = ReadyCall(acquisition, self._digest, self._present)
            if len(self._kept) >= _KEPT:
                self._forget(list(self._kept)[: _KEPT // 2])
            self._kept[key] = found
        return found

    def _forget(self, keys: Iterable[int]) -> None:
        for key in keys:
            del self._kept[key]
