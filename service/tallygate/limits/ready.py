"""Calls of `acquire.lua` made ready: the bytes of an acquisition, written once and sent with one id after another.

Owns what is kept of acquisitions already seen. Does not own their layout (`script`) nor sending. Whoever asks
gives the same charges, subject and usage again, the same objects, for requests of a kind; these are known by
their identity, for to compare or hash them would cost more than it saves. What a period ended is told by the
script itself ("stale"), and made ready anew. For one event loop.
"""

from collections.abc import Iterable

from tallygate.limits.limiter import Acquisition
from tallygate.limits.present import Present
from tallygate.limits.script import Call, Form, Mode
from tallygate.storage.redis_pipeline import pack_command

_KEPT = 10_000
_LENGTHS = 4
"""Ids of so many lengths are kept ready: Envoy's have 36 letters, a decision's 32."""
_NO_LETTER = "\x01"
"""Stands for each letter of an id. Where it is elsewhere too, the bytes do not fit together, and are not kept."""


class ReadyCall:
    """One acquisition as bytes, but for the id of the request."""

    __slots__ = ("_acquisition", "_digest", "_form", "_pieces", "_plain", "_present")

    def __init__(self, acquisition: Acquisition, digest: bytes, present: Present) -> None:
        """Lay it out; raise ValueError for what cannot be counted exactly. `digest` is the script's, in hexadecimal."""
        self._acquisition = acquisition
        self._digest = digest
        self._present = present
        self._form = Form(acquisition)
        self._plain = b""
        self._pieces: dict[int, list[bytes]] = {}

    def is_of(self, acquisition: Acquisition) -> bool:
        """Say whether this is that acquisition's, whatever the request's id."""
        own = self._acquisition
        return (
            own.charges is acquisition.charges
            and own.subject is acquisition.subject
            and own.usage is acquisition.usage
            and own.route is acquisition.route
            and own.plan is acquisition.plan
            and own.receipt_s == acquisition.receipt_s
            and own.unsettled is acquisition.unsettled
        )

    def command(self, mode: Mode, request_id: str | None) -> bytes:
        """Return the bytes that run it by the script's digest."""
        if mode != "acquire":
            return self._packed(mode, request_id)
        if request_id is None:
            self._plain = self._plain or self._packed(mode, None)
            return self._plain
        name = request_id.encode()
        pieces = self._pieces.get(len(name))
        return self._cut(request_id, name) if pieces is None else name.join(pieces)

    def call(self, mode: Mode, request_id: str | None) -> Call:
        """Return its KEYS and ARGV."""
        return self._form.call(mode, request_id, self._present)

    def renew(self) -> None:
        """Forget the bytes: a period they name is over."""
        self._pieces.clear()
        self._plain = b""

    def _cut(self, request_id: str, name: bytes) -> bytes:
        """Return the bytes for this id, and keep what goes between ids of its length, which stand in them too."""
        packed = self._packed("acquire", request_id)
        if name and len(self._pieces) < _LENGTHS:
            no_name = _NO_LETTER * len(name)
            pieces = self._packed("acquire", no_name).split(no_name.encode())
            if name.join(pieces) == packed:
                self._pieces[len(name)] = pieces
        return packed

    def _packed(self, mode: Mode, request_id: str | None) -> bytes:
        keys, arguments = self.call(mode, request_id)
        return pack_command((b"EVALSHA", self._digest, len(keys), *keys, *arguments))


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
