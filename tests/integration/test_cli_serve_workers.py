"""`tallygate serve` with several workers: where they listen, how they end, and what an operator sees meanwhile."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from support.commands import Shell
from support.processes import descendants, still_alive, watch
from support.servers import Database
from support.supervised import UNASKED, Supervised, ask, supervised

from tallygate.devservers.ports import LOOPBACK, free_port, free_ports

SETTLE = "/tallygate.v1.UsageService/Settle"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")


@pytest.fixture
def dsn(database: Database) -> str:
    """A database as the data plane may use it."""
    return database.data_plane_dsn


async def ended(service: Supervised) -> int:
    """Wait for the end of the supervisor; return its exit code."""
    async with asyncio.timeout(60):
        return await service.child.wait()


def may_run_on(pid: int) -> list[set[int]]:
    """Return the CPUs that each thread of a process may run on, its first thread's first."""
    threads = sorted(int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir())
    return [os.sched_getaffinity(thread) for thread in threads]


async def test_each_worker_has_an_endpoint_and_all_have_one_page(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """Three workers listen on three ports in a row; /metrics counts what each was asked, /readyz shows them."""
    first = free_ports(3)
    async with supervised(tmp_path, dsn, redis_url, workers=3, listen=f"{LOOPBACK}:{first}") as service:
        endpoints = await service.endpoints()
        assert endpoints == [f"{LOOPBACK}:{first + number}" for number in range(3)]
        for times, endpoint in enumerate(endpoints, start=1):
            await ask(endpoint, times)
        metrics = await service.metrics()
        assert metrics[UNASKED] == 1 + 2 + 3
        assert metrics["tallygate_check_duration_seconds_count"] == 6
        assert metrics['tallygate_workers{state="ready"}'] == 3
        assert metrics["tallygate_worker_restarts_total"] == 0
        assert metrics['tallygate_dependency_up{dependency="redis"}'] == 1
        assert (await service.http.get("/healthz")).json() == {"status": "alive"}
        assert len(set(await service.pids())) == 3
        served = next(line for line in service.log() if line["event"] == "workers serve")
        assert served["at"] == endpoints


async def test_workers_have_unix_sockets_of_their_own(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """A path gets each worker's number; one that was killed takes its path again."""
    async with supervised(tmp_path, dsn, redis_url, listen=f"unix:{tmp_path}/t.sock") as service:
        endpoints = await service.endpoints()
        assert endpoints == [f"unix:{tmp_path}/t.sock.{number}" for number in range(2)]
        killed = (await service.pids())[1]
        os.kill(killed, signal.SIGKILL)
        await service.until_ready(other_than={killed})
        for endpoint in endpoints:
            await ask(endpoint)


@linux_only
@pytest.mark.parametrize("transport", ["h2corn", "grpcio"])
async def test_the_threads_of_a_worker_share_a_cpu(tmp_path: Path, dsn: str, redis_url: str, transport: str) -> None:
    """Python's thread and HTTP/2's are kept on one CPU, so that neither wakes the other on another one."""
    async with supervised(tmp_path, dsn, redis_url, transport=transport, worker_cpus="one") as service:
        for pid in await service.pids():
            async with asyncio.timeout(30):
                while True:  # in a crowd they are let go now and then, for a moment
                    await service.http.get("/healthz")
                    first, *others = may_run_on(pid)
                    if len(first) == 1 and all(other == first for other in others):
                        break
            assert others


@linux_only
async def test_threads_run_anywhere_if_so_told(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """With `WORKER_CPUS=any` nothing is kept anywhere."""
    async with supervised(tmp_path, dsn, redis_url, worker_cpus="any") as service:
        for pid in await service.pids():
            assert {frozenset(cpus) for cpus in may_run_on(pid)} == {frozenset(os.sched_getaffinity(0))}


@pytest.mark.parametrize("transport", ["h2corn", "grpcio"])
async def test_a_killed_worker_is_back_and_no_counter_went_backwards(
    tmp_path: Path, dsn: str, redis_url: str, transport: str
) -> None:
    """SIGKILL costs nothing that was seen: the sum stands, goes on from there, and the restart is counted."""
    async with supervised(tmp_path, dsn, redis_url, transport=transport) as service:
        endpoints = await service.endpoints()
        await asyncio.gather(*(ask(endpoint, 5) for endpoint in endpoints))
        assert (await service.metrics())[UNASKED] == 10
        killed = (await service.pids())[1]
        os.kill(killed, signal.SIGKILL)
        await service.until_ready(other_than={killed})
        assert (await service.metrics())[UNASKED] == 10
        await ask(endpoints[1], 3)
        metrics = await service.metrics()
        assert metrics[UNASKED] == 13
        assert metrics["tallygate_worker_restarts_total"] == 1
        death = next(line for line in service.log() if line["event"] == "a worker is gone and is started again")
        assert (death["worker"], death["why"]) == (1, "it was killed by SIGKILL")


async def test_a_rolling_restart_loses_no_count(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """SIGHUP makes every process new; each tells its last numbers before it goes, and none counts as a crash."""
    async with supervised(tmp_path, dsn, redis_url) as service:
        endpoints, before = await service.endpoints(), set(await service.pids())
        await service.metrics()
        for endpoint in endpoints:
            await ask(endpoint, 4)
        os.kill(service.child.pid, signal.SIGHUP)
        await service.until_ready(other_than=before)
        metrics = await service.metrics()
        assert (metrics[UNASKED], metrics["tallygate_worker_restarts_total"]) == (8, 0)


async def test_a_rolling_restart_takes_up_new_settings(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """What changed in the settings file is in force after SIGHUP, without an end of the service."""
    async with supervised(tmp_path, dsn, redis_url) as service:
        with (tmp_path / "serve.toml").open("a") as config:
            config.write('log_level = "warning"\n')
        before = set(await service.pids())
        os.kill(service.child.pid, signal.SIGHUP)
        await service.until_ready(other_than=before)
        ready = [line["pid"] for line in service.log() if line["event"] == "ready"]
    assert set(ready) == before


@pytest.mark.parametrize("transport", ["h2corn", "grpcio"])
async def test_workers_share_one_address(tmp_path: Path, dsn: str, redis_url: str, transport: str) -> None:
    """Whoever connects reaches a worker, whichever is gone; each gets some, and all is counted."""
    settings = {"worker_endpoints": "shared", "listen": f"{LOOPBACK}:0", "transport": transport}
    async with supervised(tmp_path, dsn, redis_url, **settings) as service:
        (address,) = set(await service.endpoints())
        for number in range(2):
            killed = (await service.pids())[number]
            os.kill(killed, signal.SIGKILL)
            await ask(address)
            assert (await service.metrics())[UNASKED] == number + 1
            await service.until_ready(other_than={killed})
        await asyncio.gather(*(ask(address, 2) for _ in range(40)))
        assert (await service.metrics())[UNASKED] == 2 + 80


async def test_workers_share_the_port_of_the_services(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """Reports and access logs find somebody there while a worker is gone; calls are counted whoever takes them."""
    address, key = f"{LOOPBACK}:{free_port()}", "a key of the services, long enough to be one"
    counted = 'tallygate_services_calls_total{code="UNAUTHENTICATED",method="Settle"}'
    async with supervised(tmp_path, dsn, redis_url, services_listen=address, services_key=key) as service:
        for number in range(2):
            killed = (await service.pids())[number]
            os.kill(killed, signal.SIGKILL)
            await refused_settlements(address, 1)
            assert (await service.metrics())[counted] == number + 1
            await service.until_ready(other_than={killed})
        await refused_settlements(address, 20)
        assert (await service.metrics())[counted] == 22


async def refused_settlements(address: str, times: int) -> None:
    """Call the services so often without the key, each time over a connection of its own."""
    for _ in range(times):
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            settle: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(SETTLE)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await settle(b"", timeout=20, wait_for_ready=True)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_sigterm_ends_all_workers_cleanly(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """Every worker drains and ends by itself, the supervisor after them, with 0 and no complaint."""
    async with supervised(tmp_path, dsn, redis_url) as service:
        watched = watch(descendants(service.child.pid))
        os.kill(service.child.pid, signal.SIGTERM)
        assert await ended(service) == 0
        assert still_alive(watched, 10) == 0
        lines = service.log()
    assert {line["worker"] for line in lines if line["event"] == "draining"} == {0, 1}
    assert {line["level"] for line in lines} == {"info"}


@linux_only
async def test_a_second_signal_ends_all_at_once(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """Whoever does not want to wait for a drain of minutes signals again; no worker stays behind."""
    async with supervised(tmp_path, dsn, redis_url, drain_s=600) as service:
        watched = watch(descendants(service.child.pid))
        os.kill(service.child.pid, signal.SIGTERM)
        async with asyncio.timeout(60):
            while (await service.http.get("/readyz")).status_code == httpx.codes.OK:
                pass
        os.kill(service.child.pid, signal.SIGTERM)
        assert await ended(service) == -signal.SIGTERM
        assert still_alive(watched, 60) == 0


@linux_only
async def test_no_worker_outlives_its_supervisor(tmp_path: Path, dsn: str, redis_url: str) -> None:
    """A supervisor that is killed takes its workers with it, even one that hangs: their ports are free again."""
    async with supervised(tmp_path, dsn, redis_url) as service:
        pids = await service.pids()
        watched = watch(set(pids))
        os.kill(pids[0], signal.SIGSTOP)
        os.kill(service.child.pid, signal.SIGKILL)
        assert still_alive(watched, 60) == 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"LISTEN": f"{LOOPBACK}:0"}, "TALLYGATE_LISTEN: port 0"),
        ({"LISTEN": f"{LOOPBACK}:65535"}, "at most 65533"),
        ({"WORKERS": "0"}, "TALLYGATE_WORKERS"),
        ({"WORKER_ENDPOINTS": "some"}, "TALLYGATE_WORKER_ENDPOINTS"),
        ({"WORKER_ENDPOINTS": "shared", "LISTEN": "unix:/tmp/t.sock"}, "do not share a Unix socket"),
        ({"PEPPER": ""}, "TALLYGATE_PEPPER"),
        ({"REDIS_URL": "http://hunter2secret@host"}, "rediss://"),
        ({"METRICS_LISTEN": "nowhere"}, "TALLYGATE_METRICS_LISTEN"),
        ({"SERVICES_LISTEN": "nowhere"}, "TALLYGATE_SERVICES_LISTEN"),
        ({"SERVICES_LISTEN": f"{LOOPBACK}:0"}, "TALLYGATE_SERVICES_LISTEN: several workers share one port"),
        ({"SERVICES_LISTEN": "unix:/tmp/t.sock"}, "TALLYGATE_SERVICES_LISTEN: several workers share one port"),
        ({"SERVICES_KEY": "hunter2secret"}, "TALLYGATE_SERVICES_KEY"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_once(shell: Shell, settings: dict[str, str], complaint: str) -> None:
    """A wrong setting ends the start with 2; it is told by one process, not by each, and not tried again."""
    usual = {"WORKERS": "3", "LISTEN": f"{LOOPBACK}:{free_ports(3)}", "METRICS_LISTEN": f"{LOOPBACK}:0"}
    told = shell("serve", **(usual | settings)).refused()
    assert told.count(complaint) == 1
    assert "hunter2secret" not in told


def test_a_taken_port_of_a_worker_is_refused(shell: Shell) -> None:
    """The second worker's port belongs to somebody else: nothing is served rather than less than was asked for."""
    first = free_ports(2)
    with socket.create_server((LOOPBACK, first + 1)):
        settings = {"WORKERS": "2", "LISTEN": f"{LOOPBACK}:{first}", "METRICS_LISTEN": f"{LOOPBACK}:0"}
        told = shell("serve", **settings).refused()
    assert f"TALLYGATE_LISTEN: cannot listen on {LOOPBACK}:{first + 1}" in told


@pytest.mark.parametrize("transport", ["h2corn", "grpcio"])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("endpoints", ["each", "shared"])
def test_pages_and_requests_do_not_share_a_port(shell: Shell, transport: str, workers: str, endpoints: str) -> None:
    """One port for both is refused before anything is served, however many processes would have listened on it."""
    address = f"{LOOPBACK}:{free_ports(2)}"
    settings = {"WORKERS": workers, "WORKER_ENDPOINTS": endpoints, "TRANSPORT": transport}
    told = shell("serve", LISTEN=address, METRICS_LISTEN=address, **settings).refused()
    assert told.count(f"TALLYGATE_LISTEN: cannot listen on {address}") == 1
    assert "a worker is started" not in told


def test_services_are_not_where_a_worker_checks(shell: Shell) -> None:
    """The usual port of the services may be that of a second worker: then it is said where they could be."""
    first = free_ports(3)
    settings = {"WORKERS": "2", "LISTEN": f"{LOOPBACK}:{first}", "SERVICES_LISTEN": f"0.0.0.0:{first + 1}"}
    said = f"0.0.0.0:{first + 1} is an address that a worker checks at (such as 0.0.0.0:{first + 2}"
    for command in (("serve",), ("config", "check")):
        told = shell(*command, METRICS_LISTEN=f"{LOOPBACK}:0", **settings).refused()
        assert told.count(f"TALLYGATE_SERVICES_LISTEN: {said}") == 1


def test_the_check_beforehand_finds_it_too(shell: Shell) -> None:
    """`config check` refuses what `serve` would."""
    settings = {"WORKERS": "2", "LISTEN": f"{LOOPBACK}:0"}
    assert "port 0" in shell("config", "check", **settings).refused()
    assert shell("config", "check", **settings, WORKER_ENDPOINTS="shared").code == 0
