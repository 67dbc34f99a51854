"""The client of an API behind Envoy: HTTP/1.1 requests at a fixed rate, from a process of its own.

An open loop: request number n is due n / rate seconds after the start, whatever became of those before it, and its
latency counts from then. When every connection is busy it waits, and that wait is part of its latency: nothing that a
slow server delays goes unseen. With rate 0 it is a closed loop that asks again as soon as it is answered, which finds
the most a server can do. Latencies of anything but a 200 do not count; such answers are reported.

One thread, sockets behind `select`, which waits to the microsecond. Failure: a connection that breaks ends it.
"""

import asyncio
import ctypes
import gc
import json
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.http2_load import cpu_s
from benchmarks.measure import quantile

_SILENCE_S = 10.0
_READ_BYTES = 65_536
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who is asked, by whom (tokens take turns, none for nobody), how often a second, for how long."""

    address: str
    tokens: Sequence[str]
    rate: float
    seconds: float
    connections: int = 64
    pids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Met:
    """What clients met: latencies from when each request was due, how late it left, CPU us a request by process."""

    calls: int
    calls_per_s: float
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    late_p50_us: float
    late_p99_us: float
    cpu_us: list[float]
    own_cpu_us: float
    statuses: dict[str, int] = field(default_factory=dict)


class Client:
    """One connection, at most one request in flight on it."""

    def __init__(self, address: str) -> None:
        """Connect."""
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=_SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due_at = 0.0
        self._answer = b""

    def fileno(self) -> int:
        """Return what `select` waits for."""
        return self.socket.fileno()

    def read(self) -> str:
        """Return the status of a whole answer, nothing while there is more to come."""
        chunk = self.socket.recv(_READ_BYTES)
        if not chunk:
            raise ConnectionError("the connection was closed")
        answer = self._answer = self._answer + chunk
        head_end = answer.find(b"\r\n\r\n")
        if head_end < 0:
            return ""
        _, _, after = answer[:head_end].lower().partition(b"content-length:")
        if len(answer) < head_end + 4 + int(after.split(b"\r\n", 1)[0] or 0):
            return ""
        self._answer = b""
        return answer[9:12].decode()


def requests(tokens: Sequence[str]) -> list[bytes]:
    """Return a small GET with each token."""
    head = b"GET /v1/things HTTP/1.1\r\nhost: api.example.com\r\naccept: */*\r\nuser-agent: benchmark/1\r\n"
    return [head + b"authorization: Bearer %b\r\n\r\n" % token.encode() for token in tokens]


def drive(traffic: Traffic) -> Met:
    """Send all that is due and wait for its answers."""
    clients = [Client(traffic.address) for _ in range(traffic.connections)]
    asked = requests(traffic.tokens or [""])
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)  # or the kernel wakes it up to 50 us late
    gc.disable()
    _exchange(clients, asked, rate=0, seconds=0.2)
    before, own, started = [cpu_s(pid) for pid in traffic.pids], time.process_time(), time.perf_counter()
    took_s, late_s, statuses = _exchange(clients, asked, rate=traffic.rate, seconds=traffic.seconds)
    elapsed_s, own_s, made = time.perf_counter() - started, time.process_time() - own, len(late_s)
    used = [(cpu_s(pid) - was) * 1e6 / made for pid, was in zip(traffic.pids, before, strict=True)]
    return Met(
        calls=made,
        calls_per_s=made / elapsed_s,
        p50_us=quantile(took_s, 0.5) * 1e6,
        p99_us=quantile(took_s, 0.99) * 1e6,
        p999_us=quantile(took_s, 0.999) * 1e6,
        max_us=max(took_s) * 1e6,
        late_p50_us=quantile(late_s, 0.5) * 1e6,
        late_p99_us=quantile(late_s, 0.99) * 1e6,
        cpu_us=used,
        own_cpu_us=own_s * 1e6 / made,
        statuses=dict(statuses),
    )


def _exchange(
    clients: Sequence[Client], asked: Sequence[bytes], *, rate: float, seconds: float
) -> tuple[list[float], list[float], Counter[str]]:
    """Return seconds each request took, seconds each left late, and how often each status came."""
    idle, busy, clock = deque(clients), set[Client](), time.perf_counter
    took_s, late_s, statuses = list[float](), list[float](), Counter[str]()
    started, sent = clock(), 0
    ends_at, total = started + seconds, int(rate * seconds) if rate else sys.maxsize
    while True:
        now = clock()
        while idle and sent < total and (due_at := started + sent / rate if rate else now) <= now:
            if not rate and now >= ends_at:
                total = sent
                break
            client = idle.popleft()
            client.due_at = due_at
            client.socket.sendall(asked[sent % len(asked)])
            busy.add(client)
            sent += 1
            now = clock()
            late_s.append(now - due_at)
        if sent >= total and not busy:
            return took_s, late_s, statuses
        until_due_s = max(0.0, started + sent / rate - clock()) if rate and idle and sent < total else _SILENCE_S
        ready, _, _ = select.select(busy, (), (), until_due_s)
        if not ready and until_due_s == _SILENCE_S:
            raise TimeoutError("no answer")
        for client in ready:
            if status := client.read():
                statuses[status] += 1
                if status == "200":
                    took_s.append(clock() - client.due_at)
                busy.discard(client)
                idle.append(client)


async def met(traffic: Traffic) -> Met:
    """Drive from a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.open_loop"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    async with asyncio.timeout(traffic.seconds + 60):
        printed, wrong = await process.communicate(json.dumps(asdict(traffic)).encode())
    if process.returncode:
        raise RuntimeError(wrong.decode())
    return Met(**json.loads(printed))


if __name__ == "__main__":
    print(json.dumps(asdict(drive(Traffic(**json.load(sys.stdin))))))
