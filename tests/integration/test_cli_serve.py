"""`tallygate serve`: what it refuses to start with, how it waits, and how it stops."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from support.commands import Shell
from support.servers import Database

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running

PEPPER = "a pepper of tests, long enough to be one"
GONE = "postgresql://user:hunter2secret@{}:{}/none?sslmode=disable"


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"LISTEN": "nowhere"}, "TALLYGATE_LISTEN"),
        ({"LISTEN": "127.0.0.1:99999"}, "TALLYGATE_LISTEN"),
        ({"METRICS_LISTEN": "nowhere"}, "TALLYGATE_METRICS_LISTEN"),
        ({"METRICS_LISTEN": "203.0.113.1:0"}, "TALLYGATE_METRICS_LISTEN"),
        ({"SERVICES_LISTEN": "nowhere"}, "TALLYGATE_SERVICES_LISTEN"),
        ({"SERVICES_KEY": "hunter2secret"}, "TALLYGATE_SERVICES_KEY"),
        ({"POSTGRES_DSN": "hunter2secret"}, "postgres_dsn"),
        ({"REDIS_URL": "http://hunter2secret@host"}, "redis"),
        ({"PEPPER": ""}, "TALLYGATE_PEPPER"),
        ({"DRAIN_S": "soon"}, "TALLYGATE_DRAIN_S"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_at_the_start(shell: Shell, settings: dict[str, str], complaint: str) -> None:
    """A wrong setting ends the process with 2 and its name; it does not start half."""
    addresses = {"LISTEN": f"{LOOPBACK}:0", "METRICS_LISTEN": f"{LOOPBACK}:0"}
    told = shell("serve", **(addresses | settings)).err
    assert complaint in told
    assert "Traceback" not in told
    assert "hunter2secret" not in told
    assert shell("serve", **(addresses | settings)).code == 2


@pytest.mark.parametrize("name", ["LISTEN", "METRICS_LISTEN", "SERVICES_LISTEN"])
def test_a_taken_port_is_refused(shell: Shell, name: str) -> None:
    """Two services do not share a port silently."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        ran = shell("serve", **({"LISTEN": f"{LOOPBACK}:0", "METRICS_LISTEN": f"{LOOPBACK}:0"} | {name: address}))
    assert ran.code == 2
    assert f"TALLYGATE_{name}: cannot listen on {address}" in ran.err
    assert "Traceback" not in ran.err


@asynccontextmanager
async def serving(directory: Path, dsn: str, redis_url: str) -> AsyncIterator[tuple[Child, httpx.AsyncClient]]:
    """Run `serve` until it is alive; return it and a client of its probes."""
    metrics = f"{LOOPBACK}:{free_port()}"
    settings = {
        "postgres_dsn": dsn,
        "redis_url": redis_url,
        "pepper": PEPPER,
        "listen": f"{LOOPBACK}:0",
        "metrics_listen": metrics,
        "services_listen": "off",
        "drain_s": 0,
    }
    config = directory / "serve.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    command = (sys.executable, "-m", "tallygate", "--config", str(config), "serve")
    program = Program("tallygate serve", command, directory, directory / "serve.log")

    async def is_alive(_child: Child) -> bool:
        try:
            return (await http.get("/healthz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async with (
        httpx.AsyncClient(base_url=f"http://{metrics}", timeout=10, trust_env=False) as http,
        running(program, is_alive, start_deadline_s=60, stop_deadline_s=30) as child,
    ):
        yield child, http


async def stopped(child: Child) -> int:
    """Ask a process to stop, as Kubernetes does, and return its exit code."""
    os.kill(child.pid, signal.SIGTERM)
    async with asyncio.timeout(30):
        return await child.wait()


def log_of(directory: Path) -> list[dict[str, str]]:
    """Return the lines of the log; each must be a JSON object of its own."""
    return [json.loads(line) for line in (directory / "serve.log").read_text().splitlines()]


async def test_it_waits_for_postgres_and_is_seen_waiting(tmp_path: Path, redis_url: str) -> None:
    """Without its database the process is alive, not ready, and stops when asked; no password is logged."""
    dsn = GONE.format(LOOPBACK, free_port())
    async with serving(tmp_path, dsn, redis_url) as (child, http):
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["waiting_for"]) == (503, ["licenses", "transport"])
        assert await stopped(child) == 0
    assert "hunter2secret" not in (tmp_path / "serve.log").read_text()
    assert not [line for line in log_of(tmp_path) if line["event"] == "ready"]


async def test_it_serves_with_the_rights_of_the_data_plane_and_stops_cleanly(
    tmp_path: Path, database: Database, redis_url: str
) -> None:
    """The narrow login is enough; SIGTERM ends it with 0 after saying so, and nothing is left to complain."""
    async with serving(tmp_path, database.data_plane_dsn, redis_url) as (child, http):
        async with asyncio.timeout(30):
            while (await http.get("/readyz")).status_code != httpx.codes.OK:
                pass
        assert await stopped(child) == 0
    lines = log_of(tmp_path)
    assert [line["event"] for line in lines if line["event"] in {"ready", "draining"}] == ["ready", "draining"]
    assert {line["level"] for line in lines} == {"info"}


async def test_lost_redis_at_the_start_keeps_nobody_waiting(tmp_path: Path, database: Database) -> None:
    """Plans say what happens without counters, so the process is ready without them, and shows what is missing."""
    redis_url = f"redis://{LOOPBACK}:{free_port()}"
    async with serving(tmp_path, database.data_plane_dsn, redis_url) as (_, http):
        async with asyncio.timeout(30):
            while (await http.get("/readyz")).status_code != httpx.codes.OK:
                pass
            while 'tallygate_dependency_up{dependency="redis"} 0.0' not in (await http.get("/metrics")).text:
                pass
    warnings = [line for line in log_of(tmp_path) if line["level"] == "warning"]
    assert [line["dependency"] for line in warnings] == ["redis"]
