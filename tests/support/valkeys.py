"""Small Valkeys with any configuration, and clusters of them: real processes on free ports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tallygate.devservers.binaries import valkey_binary
from tallygate.devservers.ports import LOOPBACK, free_port
from tallygate.devservers.process import Child, Program, running

START_DEADLINE_S = 30.0
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


@asynccontextmanager
async def valkey(directory: Path, configuration: str, *options: str, port: int = 0) -> AsyncIterator[int]:
    """Run a Valkey with a configuration that names `{port}` and may name `{bus}`; yield its port once it answers."""
    port = port or free_port()
    path = _configured(directory, configuration.format(port=port, bus=free_port()))
    program = Program("Valkey", (str(valkey_binary()), str(path), *options), directory, directory / "log")

    async def answers(_: Child) -> bool:
        client = Redis(host=LOOPBACK, port=port)
        try:
            return bool(await command(client, "PING"))
        except RedisError:
            return False
        finally:
            await client.aclose()

    async with running(program, answers, start_deadline_s=20, stop_deadline_s=10):
        yield port


def _configured(directory: Path, configuration: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "valkey.conf"
    path.write_text(f"bind {LOOPBACK}\ndir {directory}\nsave ''\n{configuration}")
    return path


@asynccontextmanager
async def cluster(directory: Path, *, replicas: int = 0) -> AsyncIterator[list[Redis]]:
    """Run a cluster of three primaries and so many replicas of the first; yield their clients, primaries first."""
    configuration = "port {port}\ncluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 1500\n"
    async with AsyncExitStack() as stack:
        nodes = [valkey(directory / str(number), configuration) for number in range(3 + replicas)]
        ports = [await stack.enter_async_context(node) for node in nodes]
        clients = [Redis(host=LOOPBACK, port=port, decode_responses=True) for port in ports]
        for client in clients:
            stack.push_async_callback(client.aclose)
        await _form(clients)
        yield clients


def cluster_url_of(clients: list[Redis]) -> str:
    """Return the URL of a cluster that names all its nodes."""
    ports = [client.connection_pool.connection_kwargs["port"] for client in clients]
    return "redis+cluster://" + ",".join(f"{LOOPBACK}:{port}" for port in ports)


async def _form(clients: list[Redis]) -> None:
    """Make a cluster of empty nodes and wait until each of them says it is one."""
    for epoch, (client, (first, last)) in enumerate(zip(clients, SLOTS, strict=False), start=1):
        await command(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
        await command(client, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for client in clients[1:]:
        node = await client.config_get("port", "cluster-port")
        await command(clients[0], "CLUSTER", "MEET", LOOPBACK, str(node["port"]), str(node["cluster-port"]))
    for client in clients:
        await until(client, "cluster_state:ok", "CLUSTER", "INFO")
        await until(client, f"cluster_known_nodes:{len(clients)}", "CLUSTER", "INFO")
    first_id = await command(clients[0], "CLUSTER", "MYID")
    for client in clients[3:]:
        await command(client, "CLUSTER", "REPLICATE", str(first_id))
        await until(client, "master_link_status:up", "INFO", "REPLICATION")


async def command(client: Redis, *words: str | int) -> object:
    """Send a command redis-py has no name for on a single node."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]


async def until(client: Redis, expected: str, *words: str | int) -> None:
    """Return once the answer to a command, as it is on the wire, holds `expected`."""
    async with asyncio.timeout(START_DEADLINE_S):
        while expected not in await text(client, *words):
            pass


async def text(client: Redis, *words: str | int) -> str:
    """Return the answer to a command as text, a line for each field of one that has fields."""
    answer = await command(client, *words)
    return "\n".join(f"{name}:{value}" for name, value in answer.items()) if isinstance(answer, dict) else str(answer)
