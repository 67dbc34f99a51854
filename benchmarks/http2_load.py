"""The load generator: gRPC calls over HTTP/2 from a process of its own, at a few microseconds of CPU a call.

Owns frames made beforehand, what is in flight, and the reading of answers. Does not own what is asked: questions are
the bytes of a CheckRequest, before and after the id of the request, so that each call can have its own and none is
a repeat (h2load sends one body only). A closed loop: an answered call makes room for the next. Every answer's
`grpc-status` is read, and every message is searched for what an allowed one holds. CPU of the processes named is what
the kernel counted for all their threads between the first call and the last.

One thread, blocking sockets behind a selector. Failure: a connection that breaks, or a stream that is reset, ends it.
"""

import asyncio
import json
import random
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from struct import Struct

from benchmarks.measure import quantile

SERVICE_PATH = "/envoy.service.auth.v3.Authorization/Check"
MARK = b"x-tallygate-plan"
"""What only an answer that allows holds."""
_LONGEST_S = 120.0
_SILENCE_S = 20.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE = 1, 2, 4
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_FRAME = Struct(">IBI")  # length and kind, flags, stream
_SETTING = Struct(">HI")
_WORD = Struct(">I")
_UNKNOWN, _USUAL_TABLE_BYTES = -1, 4096
_DEFAULT_WINDOW, _LARGEST_WINDOW = 65_535, 2**31 - 1
_READ_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: so many calls, so many at once, over so many connections, after some that do not count.

    `questions` are the two parts of a request around its id, in hexadecimal; without the second no id is sent.
    """

    address: str
    questions: Sequence[tuple[str, str | None]]
    calls: int
    in_flight: int
    connections: int = 4
    warm_up: int = 500
    pids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Poured:
    """What came of it: CPU us a call of each process and of the generator, latencies, calls allowed, why not others."""

    calls: int
    elapsed_s: float
    cpu_us: list[float]
    own_cpu_us: float
    p50_us: float
    p99_us: float
    p999_us: float
    allowed: int
    statuses: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def calls_per_s(self) -> float:
        """Return calls a second."""
        return self.calls / self.elapsed_s


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of all threads of a process, as the kernel counted them."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def _escaped(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")


class Connection:
    """One HTTP/2 connection that keeps `depth` calls in flight while there are calls to make."""

    def __init__(self, load: Load, depth: int, todo: Iterable[int], tally: "Tally") -> None:
        """Connect, say hello and wait for the server's settings."""
        self._load = load
        self._depth = depth
        self._todo = iter(todo)
        self._tally = tally
        host, _, port = load.address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=_SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = ((_HEADER_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (_INITIAL_WINDOW_SIZE, _LARGEST_WINDOW))
        hello = _frame(_SETTINGS, 0, 0, b"".join(_SETTING.pack(*one) for one in settings))
        window = _frame(_WINDOW_UPDATE, 0, 0, _WORD.pack(_LARGEST_WINDOW - _DEFAULT_WINDOW))
        self.socket.sendall(_PREFACE + hello + window)
        self._rest = b""
        self._window, self._owed = _DEFAULT_WINDOW, depth
        self._stream = 1
        self._sent_at: dict[int, float] = {}
        self._table_size = _UNKNOWN
        while self._is_unsettled():
            self.read()
        self._templates: list[tuple[bytes, int]] = self._prepare(self._table_size)

    def _is_unsettled(self) -> bool:
        return self._table_size == _UNKNOWN

    def _prepare(self, table_size: int) -> list[tuple[bytes, int]]:
        """Return, for each question, all bytes of a call but its numbers, and the bytes that count for the window."""
        from hpack import Encoder  # noqa: PLC0415 - a package of the extra `dev`, needed here only

        encoder = Encoder()
        encoder.header_table_size = min(table_size, _USUAL_TABLE_BYTES)
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", SERVICE_PATH),
            (":authority", "tallygate"),
            ("te", "trailers"),
            ("grpc-timeout", "200m"),
            ("content-type", "application/grpc"),
            ("x-envoy-internal", "true"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-envoy-expected-rq-timeout-ms", "200"),
        ]
        first = encoder.encode(headers)
        self.socket.sendall(_frame(_HEADERS, _END_HEADERS | _END_STREAM, self._stream, first))  # teaches the table
        self._sent_at[self._stream] = 0.0
        self._stream += 2
        block = encoder.encode(headers)
        return [self._template(block, *question) for question in self._load.questions]

    def _template(self, block: bytes, before: str, after: str | None) -> tuple[bytes, int]:
        head, tail = bytes.fromhex(before), bytes.fromhex(after or "")
        size = len(head) + len(tail) + (ID_BYTES if after is not None else 0)
        headers = _frame(_HEADERS, _END_HEADERS, 0, block)
        data = _FRAME.pack((size + 5) << 8 | _DATA, _END_STREAM, 0)
        message = b"\0" + _WORD.pack(size) + head
        parts = [_escaped(headers[:5]), b"%(s)b", _escaped(headers[9:]), _escaped(data[:5]), b"%(s)b"]
        parts += [_escaped(message), b"%(i)b" if after is not None else b"", _escaped(tail)]
        return b"".join(parts), size + 5

    def fill(self) -> None:
        """Send as many calls as there is room for, in one write."""
        parts, now, templates = [], time.perf_counter(), self._templates
        while self._owed:
            number = next(self._todo, None)
            if number is None:
                self._owed = 0
                break
            text, size = templates[number % len(templates)]
            if size > self._window:
                self._todo = _put_back(number, self._todo)
                break
            stream = self._stream
            parts.append(text % {b"s": _WORD.pack(stream), b"i": b"%020d" % (_FIRST_ID + number)})
            self._sent_at[stream] = now
            self._window -= size
            self._stream = stream + 2
            self._owed -= 1
        if parts:
            self.socket.sendall(b"".join(parts))

    @property
    def is_idle(self) -> bool:
        """Return whether every call sent has been answered."""
        return not self._sent_at

    def again(self, todo: Iterable[int]) -> None:
        """Take more calls to make."""
        self._todo, self._owed = iter(todo), self._depth

    def read(self) -> None:
        """Take in what has come, in one loop: a call for each frame would cost as much as all else."""
        chunk = self.socket.recv(_READ_BYTES)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        if self._rest:
            chunk = self._rest + chunk
        at, end, now, tally, unpack = 0, len(chunk), time.perf_counter(), self._tally, _FRAME.unpack_from
        while end - at >= _FRAME.size:
            word, flags, stream = unpack(chunk, at)
            last = at + 9 + (word >> 8)
            if last > end:
                break
            kind = word & 0xFF
            if kind == _DATA:
                if chunk.find(MARK, at, last) >= 0:
                    tally.allowed += 1
                else:
                    tally.refused(chunk[at:last])
            if kind <= _HEADERS:
                if flags & _END_STREAM:
                    tally.took_s.append(now - self._sent_at.pop(stream))
                    tally.trailers[chunk[at + 9 : last] if kind else b""] += 1
                    self._owed += 1
            else:
                self._control(kind, flags, stream, chunk[at + 9 : last])
            at = last
        self._rest = chunk[at:]

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW_UPDATE and stream == 0:
            self._window += _WORD.unpack(payload)[0]
        elif kind == _SETTINGS and not flags & _ACK:
            told = dict(_SETTING.iter_unpack(payload))
            self._table_size = told.get(_HEADER_TABLE_SIZE, _USUAL_TABLE_BYTES)
            self.socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY or (kind == _RESET and stream in self._sent_at):
            raise ConnectionError(f"the server ended stream {stream}: {payload.hex()}")


ID_BYTES = 20
_FIRST_ID = random.SystemRandom().randrange(10**18)


def _put_back(number: int, todo: Iterable[int]) -> Iterator[int]:
    yield number
    yield from todo


@dataclass(slots=True)
class Tally:
    """What all connections have been answered."""

    took_s: list[float] = field(default_factory=list)
    trailers: Counter[bytes] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    allowed: int = 0

    def refused(self, answer: bytes) -> None:
        """Note why, as the body for the API's caller says it; an empty frame is no answer."""
        _, found, after = answer.partition(b'"reason":')
        if found:
            self.reasons[after.lstrip(b' "').partition(b'"')[0].decode()] += 1

    def begin(self) -> None:
        """Forget everything."""
        self.took_s.clear()
        self.trailers.clear()
        self.reasons.clear()
        self.allowed = 0

    def statuses(self) -> dict[str, int]:
        """Return how many calls ended with each `grpc-status`."""
        from hpack import Decoder  # noqa: PLC0415 - as above

        found: Counter[str] = Counter()
        for block, times in self.trailers.items():
            headers = {bytes(name): bytes(value) for name, value in Decoder().decode(block, raw=True)}
            found[headers.get(b"grpc-status", b"none").decode()] += times
        return dict(found)


def pour(load: Load) -> Poured:
    """Make all calls."""
    tally, numbers = Tally(), count()
    depths = [len(range(each, load.in_flight, load.connections)) for each in range(load.connections)]
    connections = [Connection(load, depth, (), tally) for depth in depths if depth]
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        while not all(connection.is_idle for connection in connections):
            _turn(selector)
        _send(islice(numbers, load.warm_up), load.warm_up, connections, selector, tally)
        before, own, started = [cpu_s(pid) for pid in load.pids], time.process_time(), time.perf_counter()
        _send(islice(numbers, load.calls), load.calls, connections, selector, tally)
        elapsed_s, own_s = time.perf_counter() - started, time.process_time() - own
        used = [(cpu_s(pid) - was) * 1e6 / load.calls for pid, was in zip(load.pids, before, strict=True)]
    return Poured(
        calls=load.calls,
        elapsed_s=elapsed_s,
        cpu_us=used,
        own_cpu_us=own_s * 1e6 / load.calls,
        p50_us=quantile(tally.took_s, 0.5) * 1e6,
        p99_us=quantile(tally.took_s, 0.99) * 1e6,
        p999_us=quantile(tally.took_s, 0.999) * 1e6,
        allowed=tally.allowed,
        statuses=tally.statuses(),
        reasons=dict(tally.reasons),
    )


def _send(
    todo: Iterator[int],
    calls: int,
    connections: Sequence[Connection],
    selector: selectors.BaseSelector,
    tally: Tally,
) -> None:
    tally.begin()
    started = time.perf_counter()
    for connection in connections:
        connection.again(todo)
        connection.fill()
    while len(tally.took_s) < calls:
        _turn(selector)
        if time.perf_counter() - started > _LONGEST_S:
            raise TimeoutError(f"{len(tally.took_s)} of {calls} calls answered")


def _turn(selector: selectors.BaseSelector) -> None:
    ready = selector.select(_SILENCE_S)
    if not ready:
        raise TimeoutError("no answer")
    for key, _ in ready:
        key.data.read()
        key.data.fill()


async def poured(load: Load) -> Poured:
    """Make all calls from a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.http2_load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    async with asyncio.timeout(_LONGEST_S + _SILENCE_S):
        printed, wrong = await process.communicate(json.dumps(asdict(load)).encode())
    if process.returncode:
        raise RuntimeError(wrong.decode())
    return Poured(**json.loads(printed))


if __name__ == "__main__":
    print(json.dumps(asdict(pour(Load(**json.load(sys.stdin))))))
