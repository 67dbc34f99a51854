"""`tallygate worker`, or the same work beside the REST API, as a process."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from support.rest import PEPPER
from support.servers import Database

from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running


@asynccontextmanager
async def process(
    directory: Path, database: Database, redis_url: str, *arguments: str, **more: str
) -> AsyncIterator[tuple[Child, str]]:
    """Run `tallygate …` with these settings until it answers on the port of its first setting; return that, too."""
    listen = f"{LOOPBACK}:{free_port()}"
    name = "metrics_listen" if arguments[0] == "worker" else "admin_listen"
    values = {
        "postgres_dsn": database.dsn, "redis_url": redis_url, "pepper": PEPPER, name: listen, "usage_round_s": "0.2",
    } | more  # fmt: skip
    config = directory / "worker.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    command = (sys.executable, "-m", "tallygate", "--config", str(config), *arguments)
    async with httpx.AsyncClient(base_url=f"http://{listen}", timeout=20, trust_env=False) as http:

        async def is_ready(_child: Child) -> bool:
            try:
                return (await http.get("/healthz")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        program = Program(f"tallygate {arguments[0]}", command, directory, directory / "log")
        async with running(program, is_ready, start_deadline_s=60, stop_deadline_s=10) as child:
            yield child, f"http://{listen}"
