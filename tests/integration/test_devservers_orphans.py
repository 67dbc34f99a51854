"""Nothing is left running, however the parent ends; and the same as a plain user."""

import json
import os
import signal
import site
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from support.processes import descendants, runs_as_nobody, still_alive, watch, words_in_reach_of_others

import tallygate
from tallygate.devservers.postgres import EmbeddedPostgres
from tallygate.devservers.valkey import EmbeddedValkey

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")

_TESTS = Path(__file__).parents[1]
_PATHS = [str(Path(tallygate.__file__).parents[1]), str(_TESTS), *site.getsitepackages()]
_DEADLINE_S = 30
_SECRET = "a-secret-of-the-parent"


@contextmanager
def three_servers(
    data_dir: Path, python: str = sys.executable, user: str | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the program that starts all three, in a process group of its own; kill it at the end."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(_PATHS),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(data_dir),
        "TALLYGATE_PEPPER": _SECRET,
    }
    with subprocess.Popen(
        [python, str(_TESTS / "support" / "three_servers.py"), str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=data_dir,
        start_new_session=True,
        user=user,
        extra_groups=[] if user else None,
    ) as parent:
        try:
            assert parent.stdout
            yield parent, json.loads(parent.stdout.readline())
        finally:
            parent.kill()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_server_outlives_its_parent(data_dir: Path, end: signal.Signals) -> None:
    """However `tallygate dev` ends, no Postgres, Valkey or Envoy process, nor a child of one, remains."""
    with three_servers(data_dir) as (parent, _):
        offspring = descendants(parent.pid)
        assert len(offspring) > 3, "Postgres has processes of its own"
        watched = watch(offspring)
        os.killpg(parent.pid, end)
        assert still_alive(watched, _DEADLINE_S) == 0


def test_ctrl_c_stops_the_servers_in_order_and_not_by_itself(data_dir: Path) -> None:
    """Ctrl-C in the terminal reaches the parent only, which then shuts Postgres down cleanly."""
    with three_servers(data_dir) as (parent, _):
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(_DEADLINE_S) == 130
    log = (data_dir / "postgres" / "postgres.log").read_text()
    assert log.count("received fast shutdown request") == 1
    assert "database system is shut down" in log


async def test_what_was_written_survives_a_hard_kill_of_the_parent(data_dir: Path) -> None:
    """After SIGKILL the next start on the directory needs no help and has all rows and keys."""
    with three_servers(data_dir) as (parent, urls):
        connection = await asyncpg.connect(urls["dsn"], timeout=10)
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        connection.terminate()
        client = redis.asyncio.from_url(urls["redis"])
        await client.set("kept", "42")
        await client.aclose()
        parent.kill()
        parent.wait(_DEADLINE_S)  # but not for the servers to go: that is for the next start to do
        async with EmbeddedPostgres(data_dir / "postgres") as postgres, EmbeddedValkey(data_dir / "valkey") as valkey:
            connection = await asyncpg.connect(postgres.dsn(), timeout=10)
            answers = [await connection.fetchval("SELECT answer FROM kept")]
            await connection.close()
            client = redis.asyncio.from_url(valkey.url)
            answers.append(await client.incrby("kept", 0))
            await client.aclose()
    assert answers == [42, 42]


def test_no_secret_stands_on_a_command_line_or_in_an_environment(data_dir: Path) -> None:
    """Passwords of the servers, and secrets of the parent, cannot be read from the process list."""
    with three_servers(data_dir) as (parent, urls):
        passwords = [urls[name].partition("://")[2].partition(":")[2].partition("@")[0] for name in ("dsn", "redis")]
        seen = b"".join(words_in_reach_of_others(pid) for pid in descendants(parent.pid))
    assert all(passwords)
    for secret in (*passwords, _SECRET):
        assert secret.encode() not in seen


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test runs as a plain user already")
def test_a_plain_user_needs_nothing_from_root(data_dir: Path) -> None:
    """A user with a home of its own and no rights starts and stops all three."""
    data_dir = data_dir / "home"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, *_nobody())
    python = _python_of_nobody()
    with three_servers(data_dir, python, user="nobody") as (parent, _):
        offspring = descendants(parent.pid)
        owners = {(Path("/proc") / str(pid)).stat().st_uid for pid in offspring}
        watched = watch(offspring)
        parent.kill()
        assert still_alive(watched, _DEADLINE_S) == 0
    assert owners == {_nobody()[0]}


def _nobody() -> tuple[int, int]:
    import pwd  # noqa: PLC0415 - there is none on Windows

    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _python_of_nobody() -> str:
    """Return an interpreter of this version that user nobody may run and that reads this project."""
    path = repr(_PATHS)
    check = f"import sys; sys.path[:0] = {path}; import tallygate.devservers.envoy, support.three_servers"
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        if runs_as_nobody([python, "-B", "-c", check]):
            return python
    pytest.skip(f"user nobody can run no {name} that reads this project's folder: they are closed to other users")
