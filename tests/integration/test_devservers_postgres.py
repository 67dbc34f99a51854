"""Postgres as a child process: data kept, password asked, stale files, who it runs as."""

import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from support.processes import descendants
from support.servers import with_login

from tallygate.core.errors import InputError
from tallygate.devservers import directory
from tallygate.devservers.postgres import EmbeddedPostgres, ExistingPostgres, PostgresServer
from tallygate.devservers.process import Identity, ServerStartError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs to become another")


async def ask(dsn: str, query: str) -> object:
    """Return the one value `query` gives."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def close_to_others(folder: Path) -> None:
    """Let nobody but the owner pass through."""
    folder.chmod(0o700)


def owners_below(folder: Path) -> set[int]:
    """Return the users who own something in `folder`."""
    return {path.stat().st_uid for path in folder.rglob("*")}


async def test_a_restart_keeps_data_and_password(data_dir: Path) -> None:
    """Stop and start: the same rows, reached with the same login."""
    async with EmbeddedPostgres(data_dir, is_durable=False) as first:
        await ask(first.dsn(), "CREATE TABLE kept AS SELECT 42 AS answer")
        before = first.dsn()
    async with EmbeddedPostgres(data_dir, is_durable=False) as second:
        assert await ask(second.dsn(), "SELECT answer FROM kept") == 42
    assert before.partition("@")[0] == second.dsn().partition("@")[0]


async def test_the_cluster_is_utf8_in_the_c_locale(postgres_server: PostgresServer) -> None:
    """Text sorts and encodes alike on every machine, and times are UTC."""
    expected = {"server_encoding": "UTF8", "TimeZone": "UTC", "password_encryption": "scram-sha-256"}
    found = {name: await ask(postgres_server.dsn(), f"SHOW {name}") for name in expected}
    assert found == expected
    query = "SELECT datcollate FROM pg_database WHERE datname = 'postgres'"
    assert await ask(postgres_server.dsn(), query) == "C"


async def test_another_local_user_does_not_get_in(postgres_server: PostgresServer) -> None:
    """The server listens on loopback and wants its password."""
    assert await ask(postgres_server.dsn(), "SHOW listen_addresses") == "127.0.0.1"
    assert await ask(postgres_server.dsn(), "SHOW unix_socket_directories") == ""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(with_login(postgres_server.dsn(), "postgres", "guess"), "SELECT 1")


async def test_a_durable_server_flushes_and_one_for_tests_does_not(
    data_dir: Path, postgres_server: PostgresServer
) -> None:
    """`tallygate dev` keeps its data through a power cut; tests do not pay for that."""
    async with EmbeddedPostgres(data_dir) as durable:
        assert await ask(durable.dsn(), "SHOW fsync") == "on"
    assert await ask(postgres_server.dsn(), "SHOW fsync") == "off"


async def test_the_password_and_the_log_are_closed_to_others(data_dir: Path) -> None:
    """Only the owner reads them."""
    async with EmbeddedPostgres(data_dir, is_durable=False) as server:
        modes = {
            path.name: path.stat().st_mode & 0o777 for path in (data_dir / "cluster" / "password", server.log_path)
        }
    assert modes == {"password": 0o600, "postgres.log": 0o600}


async def test_a_stale_pid_file_is_no_hindrance(data_dir: Path) -> None:
    """After a hard kill the number in postmaster.pid may belong to some other process by now."""
    async with EmbeddedPostgres(data_dir, is_durable=False):
        pid_file = data_dir / "cluster" / "data" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    with _bystander(Path("/")) as bystander:
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]))
        async with EmbeddedPostgres(data_dir, is_durable=False) as server:
            assert await ask(server.dsn(), "SELECT 1") == 1
        assert bystander.poll() is None


async def test_a_directory_with_a_live_server_is_refused(data_dir: Path) -> None:
    """Two servers never write one cluster; the message names who has it."""
    async with EmbeddedPostgres(data_dir, is_durable=False) as first:
        with pytest.raises(InputError, match=rf"--data-dir: already in use by process {os.getpid()}\b"):
            await EmbeddedPostgres(data_dir).__aenter__()
        assert await ask(first.dsn(), "SELECT 1") == 1


async def test_a_server_that_outlived_its_parent_is_not_robbed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the lock free but a process still at work in the cluster, nothing is removed or started."""
    monkeypatch.setattr(directory, "_LEAVING_DEADLINE_S", 0)
    cluster = data_dir / "cluster" / "data"
    cluster.mkdir(parents=True)
    (cluster / "postmaster.pid").write_text("1")
    with (
        _bystander(cluster) as bystander,
        pytest.raises(InputError, match=f"already in use by process {bystander.pid}"),
    ):
        await EmbeddedPostgres(data_dir).__aenter__()
    assert (cluster / "postmaster.pid").exists()


async def test_an_initialisation_cut_short_is_done_again(data_dir: Path) -> None:
    """Half a cluster, left by a kill during the first start, is never taken for a whole one."""
    unfinished = data_dir / "cluster" / "unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18")
    async with EmbeddedPostgres(data_dir, is_durable=False) as server:
        assert await ask(server.dsn(), "SELECT 1") == 1
    assert not unfinished.exists()


async def test_a_failing_start_quotes_the_log(data_dir: Path) -> None:
    """What is wrong is in the message, not only in a file; and the directory is free again."""
    async with EmbeddedPostgres(data_dir, is_durable=False):
        pass
    version = data_dir / "cluster" / "data" / "PG_VERSION"
    made_by = version.read_text()
    version.write_text("9\n")
    with pytest.raises(ServerStartError, match=r"is not compatible|incompatible"):
        await EmbeddedPostgres(data_dir, is_durable=False).__aenter__()
    version.write_text(made_by)
    async with EmbeddedPostgres(data_dir, is_durable=False) as server:
        assert await ask(server.dsn(), "SELECT 1") == 1


async def test_a_taken_port_that_was_asked_for_is_told(data_dir: Path, postgres_server: EmbeddedPostgres) -> None:
    """A port that was named is not silently replaced by another."""
    with pytest.raises(ServerStartError, match="Address already in use"):
        await EmbeddedPostgres(data_dir, port=postgres_server.port, is_durable=False).__aenter__()


@as_root
@pytest.mark.parametrize("identities", [("unprivileged", "nobody"), ("nobody", "unprivileged")])
async def test_root_runs_it_as_another_and_may_change_its_mind(
    data_dir: Path, identities: tuple[Identity, Identity]
) -> None:
    """In a user namespace or as nobody: the same data, handed over when a machine allows the other only."""
    for identity in identities:
        async with EmbeddedPostgres(data_dir, is_durable=False, identity=identity) as server:
            await ask(server.dsn(), "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer")
            assert await ask(server.dsn(), "SELECT answer FROM kept") == 42
            owner = (data_dir / "cluster" / "data").stat().st_uid
            assert (owner == 0) == (identity == "unprivileged" and _may_use_namespaces())


@as_root
async def test_root_needs_no_open_directories_where_namespaces_are_allowed(data_dir: Path) -> None:
    """Below a directory closed to everyone else it runs as user 1000 of a namespace, files stay root's."""
    if not _may_use_namespaces():
        pytest.skip("this kernel or container forbids user namespaces")
    close_to_others(data_dir)
    before = descendants(os.getpid())
    async with EmbeddedPostgres(data_dir, is_durable=False):
        started = descendants(os.getpid()) - before
        maps = {(Path("/proc") / str(pid) / "uid_map").read_text().split()[0] for pid in started}
        owners = owners_below(data_dir)
    assert maps == {"1000"}
    assert owners == {0}


@as_root
async def test_nobody_is_told_which_directory_it_cannot_reach(data_dir: Path) -> None:
    """Where only user nobody is left and a parent is closed, the message says so."""
    close_to_others(data_dir)
    with pytest.raises(ServerStartError, match=r"user nobody cannot reach .*cluster"):
        await EmbeddedPostgres(data_dir, identity="nobody").__aenter__()


async def test_a_running_server_is_used_through_the_same_interface(postgres_server: PostgresServer) -> None:
    """`ExistingPostgres` gives the DSN of any database, and does not stop what it did not start."""
    async with ExistingPostgres(postgres_server.dsn("somewhere")) as existing:
        same: PostgresServer = existing
        assert await ask(same.dsn(), "SELECT current_database()") == "postgres"
    assert await ask(postgres_server.dsn(), "SELECT 1") == 1
    assert existing.dsn("a b") == postgres_server.dsn("a b")


def _bystander(cwd: Path) -> subprocess.Popen[bytes]:
    """Start a process that does nothing until its input ends, which leaving its `with` block does."""
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]
    return subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE)


def _may_use_namespaces() -> bool:
    try:
        return subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return True
