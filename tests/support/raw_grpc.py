"""A caller that writes HTTP/2 frame by frame, so that it can send what no gRPC library would.

Answers settings and pings as a peer must, and nothing else by itself. Small bodies only: it knows of no flow control.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES = 9
_FRAME_BYTES = 16_384
DEADLINE_S = 20.0

Header = tuple[str, str]


def framed(message: bytes, flag: int = 0) -> bytes:
    """Return a gRPC message with its prefix."""
    return bytes((flag,)) + len(message).to_bytes(4, "big") + message


@dataclass
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_reset: bool = False
    has_ended: bool = False

    @property
    def http_status(self) -> int:
        """Return the HTTP status, 0 when none came."""
        return int(self.headers.get(":status", 0))

    @property
    def grpc_status(self) -> int | None:
        """Return the gRPC status, from headers or trailers."""
        text = self.headers.get("grpc-status")
        return None if text is None else int(text)


class RawCaller:
    """One HTTP/2 connection, and what was received on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connected stream."""
        self._reader = reader
        self._writer = writer
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._next_stream = 1
        self.answers: dict[int, Answer] = {}
        self.pongs = 0
        self.goaways: list[GoAwayFrame] = []
        self.is_closed = False
        self._writer.write(_PREFACE + SettingsFrame(0).serialize())

    def send(self, *frames: Frame) -> None:
        """Write frames as they are."""
        self._writer.write(b"".join(frame.serialize() for frame in frames))

    def begin(
        self,
        path: str,
        body: bytes | None,
        *headers: Header,
        method: str = "POST",
        content_type: str | None = "application/grpc",
        may_end: bool = True,
    ) -> int:
        """Send a request and return its stream; `body` None ends it with its headers."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "raw"), ("te", "trailers")]
        fields += [("content-type", content_type)] if content_type is not None else []
        block = self._encoder.encode([*fields, *headers])
        self.send(*_header_frames(stream, block, is_end=body is None and may_end))
        if body is not None:
            self.send(DataFrame(stream, body, flags=["END_STREAM"] if may_end else []))
        self.answers[stream] = Answer()
        return stream

    async def call(self, path: str, body: bytes | None, *headers: Header, **how: str | None) -> Answer:
        """Send a request and wait for its end. `how`: `method`, `content_type`."""
        stream = self.begin(path, body, *headers, **how)  # type: ignore[arg-type] # the two names are texts
        return await self.end_of(stream)

    async def end_of(self, stream: int) -> Answer:
        """Wait for the end of a stream; raise TimeoutError when it does not come."""
        await self.until(lambda: self.answers[stream].has_ended)
        return self.answers[stream]

    async def until_closed(self) -> None:
        """Read, and answer what has to be, until the server hangs up; raise TimeoutError when it does not."""
        with suppress(ConnectionError):
            await self.until(lambda: False)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Read until `is_true`; raise TimeoutError, or ConnectionError when the server hangs up before."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_true():
                if self.is_closed:
                    raise ConnectionError
                await self._read_frame()

    async def _read_frame(self) -> None:
        try:
            frame, length = Frame.parse_frame_header(memoryview(await self._reader.readexactly(_HEAD_BYTES)))
            frame.parse_body(memoryview(await self._reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_closed = True
            return
        self._take(frame)

    def _take(self, frame: Frame) -> None:
        answer = self.answers.get(frame.stream_id, Answer())
        match frame:
            case SettingsFrame() if "ACK" not in frame.flags:
                self.send(SettingsFrame(0, flags=["ACK"]))
            case PingFrame() if "ACK" in frame.flags:
                self.pongs += 1
            case PingFrame():
                self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
            case GoAwayFrame():
                self.goaways.append(frame)
            case HeadersFrame():
                answer.headers |= {_text(name): _text(value) for name, value in self._decoder.decode(frame.data)}
            case DataFrame():
                answer.body += frame.data
            case RstStreamFrame():
                answer.is_reset = answer.has_ended = True
        answer.has_ended = answer.has_ended or "END_STREAM" in frame.flags


@asynccontextmanager
async def raw_caller(port: int, host: str = "127.0.0.1") -> AsyncIterator[RawCaller]:
    """Connect to a port, in the clear."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield RawCaller(reader, writer)
    finally:
        writer.close()


def _header_frames(stream: int, block: bytes, *, is_end: bool) -> Sequence[Frame]:

    parts = [block[at : at + _FRAME_BYTES] for at in range(0, len(block), _FRAME_BYTES)]
    first = HeadersFrame(stream, parts[0], flags=["END_STREAM"] if is_end else [])
    frames: list[Frame] = [first, *(ContinuationFrame(stream, part) for part in parts[1:])]
    frames[-1].flags.add("END_HEADERS")
    return frames


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
