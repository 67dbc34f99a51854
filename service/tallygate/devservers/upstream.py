"""The sample upstream API: answers every request with what it received, as JSON.

Owns a small HTTP/1.1 server inside the calling event loop, and the log of requests. It is written on
asyncio's streams rather than a framework because it shares the machine with what is measured. Not for
production: it listens on 127.0.0.1 and leaves idle connections to its client. Failure: a request it cannot
read is answered 400 and the connection closed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TextIO

from tallygate.devservers.ports import LOOPBACK

_HEAD_LIMIT_BYTES = 256 * 1024
_BODY_DEADLINE_S = 30
_HEX = 16
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_NO_MORE: Mapping[str, str] = MappingProxyType({})
_WANTED, _WANTED_STATUS = "x-answer-", "x-answer-status"


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    version: str
    headers: dict[str, str]

    def as_json(self) -> str:
        return json.dumps({"method": self.method, "path": self.path, "headers": self.headers})

    @property
    def wanted_status(self) -> HTTPStatus:
        """Return the status it asks for; raise ValueError for one that is none."""
        return HTTPStatus(int(self.headers.get(_WANTED_STATUS, HTTPStatus.OK)))

    @property
    def wanted_headers(self) -> dict[str, str]:
        named = {name.removeprefix(_WANTED): value for name, value in self.headers.items() if name.startswith(_WANTED)}
        return {name: value for name, value in named.items() if name != "status"}

    @property
    def has_answer(self) -> bool:
        return self.method != "HEAD" and self.wanted_status not in _WITHOUT_BODY

    @property
    def is_last(self) -> bool:
        return self.version != "HTTP/1.1" or self.headers.get("connection", "").lower() == "close"


class SampleUpstream:
    """Echoes method, path with query, and headers (name → value, repeated ones joined by `, `).

    Its answer is what the caller asks for: `x-answer-status: 503` fails, `x-answer-x-units: 7` adds `x-units: 7`.
    With a `log_path` every request is one line of JSON there, written before it is answered.
    """

    def __init__(self, port: int = 0, log_path: Path | None = None) -> None:
        """Take the port, 0 for any free one; nothing is started yet."""
        self.host = LOOPBACK
        self.port = port
        self._log_path = log_path
        self._log: TextIO | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            if self._log_path is not None:
                self._log_path.parent.mkdir(parents=True, exist_ok=True)
                self._log = resources.enter_context(self._log_path.open("a", buffering=1))
            self.port = await resources.enter_async_context(self._serving())
            self._resources = resources.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    @property
    def url(self) -> str:
        """Return `http://host:port`."""
        return f"http://{self.host}:{self.port}"

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._accept, self.host, self.port, limit=_HEAD_LIMIT_BYTES)
        try:
            port: int = server.sockets[0].getsockname()[1]
            yield port
        finally:
            server.close()
            for conversation in self._conversations:
                conversation.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.ensure_future(self._converse(reader, writer))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read_request(reader):
                echo = request.as_json()
                if self._log is not None:
                    self._log.write(echo + "\n")
                writer.write(_answer(request.wanted_status, echo, request.wanted_headers, has_body=request.has_answer))
                await writer.drain()
                if request.is_last:
                    return
        except (ValueError, asyncio.LimitOverrunError):
            writer.write(_answer(HTTPStatus.BAD_REQUEST, '{"error":"this is not a request I can read"}'))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client went away in the middle, or sent no more
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """Return the next request, its body read and dropped; None when the client has no more."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    request = _parse(head.decode("latin-1"))
    await _skip_body(reader, request.headers)
    return request


def _parse(head: str) -> _Request:
    """Read request line and fields; raise ValueError when they are none."""
    request_line, *lines = head[:-4].split("\r\n")
    method, path, version = request_line.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            message = "a field without a colon"
            raise ValueError(message)
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _Request(method, path, version, headers)


async def _skip_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    if "transfer-encoding" in headers:
        async with asyncio.timeout(_BODY_DEADLINE_S):
            while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], _HEX):
                await _skip(reader, size + 2)
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers
    elif "content-length" in headers:
        async with asyncio.timeout(_BODY_DEADLINE_S):
            await _skip(reader, int(headers["content-length"]))


async def _skip(reader: asyncio.StreamReader, size_bytes: int) -> None:
    while size_bytes > 0:
        size_bytes -= len(await reader.readexactly(min(size_bytes, _HEAD_LIMIT_BYTES)))


def _answer(status: HTTPStatus, body: str, more: Mapping[str, str] = _NO_MORE, *, has_body: bool = True) -> bytes:
    content = body.encode()
    fields = {"content-type": "application/json", "content-length": str(len(content)), **more}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (content if has_body else b"")
