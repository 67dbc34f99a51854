"""`tallygate admin` as a process: how it starts, what it logs, how it stops; and where secrets never are."""

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
from support.leak_reports import GithubSigner
from support.rest import PEPPER, PLANS, client, dumped, everything_stored
from support.servers import Database

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running

SIGNER = GithubSigner("key-1")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"ADMIN_LISTEN": "nowhere"}, "TALLYGATE_ADMIN_LISTEN"),
        ({"ADMIN_LISTEN": "127.0.0.1:99999"}, "TALLYGATE_ADMIN_LISTEN"),
        ({"ADMIN_REQUESTS_PER_S": "0"}, "TALLYGATE_ADMIN_REQUESTS_PER_S"),
        ({"LEAK_KEYS": "hunter2secret"}, "TALLYGATE_LEAK_KEYS"),
        ({"LEAK_POLICY": "ignore"}, "TALLYGATE_LEAK_POLICY"),
        ({"REDIS_URL": ""}, "TALLYGATE_REDIS_URL"),
        ({"PEPPER": ""}, "TALLYGATE_PEPPER"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_at_the_start(shell: Shell, settings: dict[str, str], complaint: str) -> None:
    """A wrong setting ends the process with 2 and its name, and shows no secret."""
    ran = shell("admin", **({"ADMIN_LISTEN": f"{LOOPBACK}:0"} | settings))
    assert ran.code == 2
    assert complaint in ran.err
    assert "Traceback" not in ran.err
    assert "hunter2secret" not in ran.err


def test_a_taken_port_is_refused(shell: Shell) -> None:
    """Two services do not share a port silently."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        ran = shell("admin", ADMIN_LISTEN="{}:{}".format(*taken.getsockname()))
    assert ran.code == 2
    assert "TALLYGATE_ADMIN_LISTEN" in ran.err


@asynccontextmanager
async def serving(directory: Path, database: Database, redis_url: str) -> AsyncIterator[tuple[Child, str]]:
    """Run `tallygate admin` and return it with its URL."""
    listen = f"{LOOPBACK}:{free_port()}"
    values = {
        "postgres_dsn": database.dsn, "redis_url": redis_url, "pepper": PEPPER, "admin_listen": listen,
        "log_level": "debug", "leak_keys": json.dumps({"public_keys": [SIGNER.public_key()]}),
    }  # fmt: skip
    config = directory / "admin.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    command = (sys.executable, "-m", "tallygate", "--config", str(config), "admin")
    program = Program("tallygate admin", command, directory, directory / "admin.log")
    async with httpx.AsyncClient(base_url=f"http://{listen}", timeout=20, trust_env=False) as http:

        async def is_ready(_child: Child) -> bool:
            try:
                return (await http.get("/healthz")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        async with running(program, is_ready, start_deadline_s=60, stop_deadline_s=10) as child:
            yield child, f"http://{listen}"


async def stopped(child: Child) -> int:
    """Ask a process to stop, as Kubernetes does, and return its exit code."""
    os.kill(child.pid, signal.SIGTERM)
    async with asyncio.timeout(30):
        return await child.wait()


async def test_no_secret_is_logged_or_stored(tmp_path: Path, shell: Shell, database: Database, redis_url: str) -> None:
    """Whatever is done with tokens and keys, their secrets are in no log line and in no row (invariant 10)."""
    key = str(shell("admin-keys", "create", "root", "--role", "admin", "--json").json["key"])
    plans = tmp_path / "plans.yaml"
    plans.write_text(PLANS)
    async with serving(tmp_path, database, redis_url) as (child, url), client(url, key) as admin:
        shell("plans", "apply", str(plans), PEPPER=PEPPER)
        await admin.post("/v1/customers", json={"key": "acme"})
        await admin.post("/v1/subscriptions", json={"customer": "acme", "plan": "pro"})
        once = {"idempotency-key": "order-1"}
        issued = await admin.post("/v1/tokens", json={"customer": "acme"}, headers=once)
        token = issued.json()["token"]
        await admin.post("/v1/tokens", json={"customer": "acme"}, headers=once)
        rotated = await admin.post(
            f"/v1/tokens/{issued.json()['id']}/rotate", json={"grace_s": 60}, headers={"idempotency-key": "order-2"}
        )
        other = rotated.json()["token"]
        mistakes = [
            await admin.get(f"/v1/tokens/{token}"),
            await admin.get("/v1/tokens", params={"name": token, "cursor": token}),
            await admin.post("/v1/tokens/inspect", json={"token": token, "oddity": token}),
            await admin.post("/v1/customers", json={"key": token}),
            await admin.post("/v1/explain", json={"token": token, "method": "GET", "path": "nowhere"}),
            await admin.post("/v1/tokens/inspect", content=f'{{"token": "{token}', headers={"content-type": "text/x"}),
        ]
        assert all(answer.is_client_error for answer in mistakes)
        assert token not in "".join(answer.text for answer in mistakes)
        question = {"token": token, "method": "GET", "path": "/v1/things"}
        await admin.post("/v1/explain", json=question, headers={"idempotency-key": "order-3"})
        report = dumped([{"token": other, "type": token, "url": f"https://x.example/{token}", "source": token}])
        headers = SIGNER.headers(report) | {"content-type": "application/json", "idempotency-key": "order-4"}
        reported = await admin.post("/v1/leaks", content=report, headers=headers)
        assert reported.json()[0]["label"] == "true_positive"
        assert await stopped(child) == 0
    log = (tmp_path / "admin.log").read_text()
    assert '"ready"' in log
    assert "Traceback" not in log
    stored = await everything_stored(database)
    for secret in (token, other, key, PEPPER):
        assert secret not in log
        assert secret.encode() not in stored


async def test_a_request_under_way_is_finished(
    tmp_path: Path, shell: Shell, database: Database, redis_url: str
) -> None:
    """A deploy interrupts nobody: what had arrived before SIGTERM is answered."""
    key = str(shell("admin-keys", "create", "root", "--role", "admin", "--json").json["key"])
    async with serving(tmp_path, database, redis_url) as (child, url):
        host, _, port = url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = dumped({"key": "acme"})
        head = (
            f"POST /v1/customers HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n"
        )
        writer.write(head.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")  # the request is under way
        os.kill(child.pid, signal.SIGTERM)
        writer.write(body)
        async with asyncio.timeout(20):
            answer = await reader.read()
            assert b"HTTP/1.1 201" in answer
            assert await child.wait() == 0
        writer.close()
