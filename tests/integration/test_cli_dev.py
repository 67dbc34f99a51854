"""`tallygate dev`: the whole system from one command; however it ends, it leaves nothing behind."""

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from support.commands import Shell
from support.processes import descendants, still_alive, watch, words_in_reach_of_others

from tallygate.devservers.ports import LOOPBACK

_DEADLINE_S = 60
_TOKEN = re.compile(r"tg_live_[0-9A-Za-z]{36}")


@asynccontextmanager
async def dev(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start `tallygate dev` with these arguments; it is killed at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tallygate", "dev", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def output(process: asyncio.subprocess.Process, until: str = "") -> str:
    """Return what it prints, up to a line with `until`, or to its end."""
    assert process.stdout
    said = ""
    async with asyncio.timeout(_DEADLINE_S):
        while line := (await process.stdout.readline()).decode():
            said += line
            if until and until in line:
                return said
    assert not until, said
    return said


@asynccontextmanager
async def running(data_dir: Path, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run `dev` until it says how to stop it; return it and what it said. The block ends it; none of it may remain."""
    async with dev("--data-dir", str(data_dir), "--port", "0", **environment) as process:
        said = await output(process, until="Ctrl-C stops everything.")
        watched = watch(descendants(process.pid))
        yield process, said
        assert process.returncode is not None
        assert still_alive(watched, _DEADLINE_S) == 0


async def ended(process: asyncio.subprocess.Process, number: signal.Signals) -> int:
    """Send a signal and return the exit code."""
    process.send_signal(number)
    async with asyncio.timeout(_DEADLINE_S):
        return await process.wait()


def exports(env_file: Path) -> dict[str, str]:
    """Return what the environment file exports."""
    lines = [shlex.split(line) for line in env_file.read_text().splitlines()]
    assert {words[0] for words in lines} == {"export"}
    return dict(words[1].split("=", 1) for words in lines)


def left_in(directory: Path) -> list[Path]:
    """Return what a directory holds, but for the empty one that workers of one user share."""
    shared = directory / f"tallygate-{os.geteuid()}"
    return [path for path in directory.iterdir() if path != shared or list(path.iterdir())]


async def in_shell(env_file: Path, command: str) -> str:
    """Run a command in a shell that has sourced the environment file; return what it prints."""
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"source {shlex.quote(str(env_file))} && {command}"),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    printed, _ = await shell.communicate()
    assert shell.returncode == 0
    return printed.decode()


async def test_it_runs_all_and_survives_a_kill(data_dir: Path) -> None:
    """Up, usable from another shell, killed with -9, up again on the same data, ended by SIGTERM: nothing remains."""
    home = data_dir / "dev"
    async with running(home, TALLYGATE_METRICS_CUSTOMERS="5") as (process, said):
        variables = exports(home / "env")
        assert stat.S_IMODE((home / "env").stat().st_mode) == 0o600
        assert {
            f"TALLYGATE_{name}" for name in ("POSTGRES_DSN", "REDIS_URL", "PEPPER", "GATEWAY_URL", "METRICS_URL")
        } <= (variables.keys())
        tokens = _TOKEN.findall(said)
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            url = variables["TALLYGATE_GATEWAY_URL"] + "/v1/things"
            assert f"curl -i {url}" in said
            answers = [await http.get(url, headers={"authorization": f"Bearer {token}"}) for token in tokens]
            shown = (await http.get(variables["TALLYGATE_METRICS_URL"])).text
            assert 'tallygate_customer_checks_total{customer="' in shown, "as the environment wants it"
            assert "tallygate_worker_leads" in (await http.get(variables["TALLYGATE_WORKER_METRICS_URL"])).text
        assert [answer.json()["headers"]["x-tallygate-plan"] for answer in answers[:3]] == [
            "free@1",
            "pro@1",
            "enterprise@1",
        ]
        listed = json.loads(await in_shell(home / "env", "tallygate tokens list --json"))["items"]
        assert len(listed) == 3
        told = await in_shell(home / "env", f"tallygate explain --token {tokens[0]} GET /v1/things --json")
        assert json.loads(told)["reason"] == "ok"
        seen = b"".join(words_in_reach_of_others(pid) for pid in descendants(process.pid))
        for name in ("POSTGRES_DSN", "REDIS_URL", "PEPPER"):
            assert variables[f"TALLYGATE_{name}"].encode() not in seen
        assert await ended(process, signal.SIGKILL) == -signal.SIGKILL

    async with running(home) as (process, said):
        again = json.loads(await in_shell(home / "env", "tallygate tokens list --json"))["items"]
        assert {token["id"] for token in listed} < {token["id"] for token in again}
        assert [token["status"] for token in again].count("active") == 3
        fresh = _TOKEN.findall(said)
        assert not set(tokens) & set(fresh), "tokens are rotated, for their secrets are kept nowhere"
        told = json.loads(await in_shell(home / "env", f"tallygate explain --token {fresh[2]} GET /v1/things --json"))
        monthly = told["limits"][-1]
        assert monthly["amount"] - monthly["remaining"] == 2, "one counted before the kill, one that would be now"
        assert await ended(process, signal.SIGTERM) == 0
    assert not (home / "env").exists()


async def test_one_directory_and_one_port_have_one_system(data_dir: Path) -> None:
    """A second `dev` on the same directory or port is refused with 2 and disturbs nobody; Ctrl-C ends all."""
    async with running(data_dir / "dev") as (process, _):
        gateway = exports(data_dir / "dev" / "env")["TALLYGATE_GATEWAY_URL"]
        for directory, port, complaint in (
            ("dev", "0", "already in use by process"),
            ("other", gateway.rpartition(":")[2], "--port"),
        ):
            async with dev("--data-dir", str(data_dir / directory), "--port", port) as second:
                said = await output(second)
                assert (await second.wait(), complaint in said) == (2, True), said
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            assert (await http.get(gateway)).status_code == 401
        assert await ended(process, signal.SIGINT) == 0
    assert not (data_dir / "dev" / "env").exists()


async def test_ctrl_c_while_it_starts_leaves_nothing(data_dir: Path) -> None:
    """Whoever changes their mind while servers are starting is left with none of them."""
    async with dev("--data-dir", str(data_dir / "dev"), "--port", "0") as process:
        waiting = asyncio.ensure_future(process.wait())
        async with asyncio.timeout(_DEADLINE_S):
            while not (children := descendants(process.pid)):
                await asyncio.wait({waiting}, timeout=0.01)
        watched = watch(children)
        await ended(process, signal.SIGINT)
        assert "Traceback" not in await output(process)
        assert still_alive(watched, _DEADLINE_S) == 0
    assert not (data_dir / "dev" / "env").exists()


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=" ".join)
async def test_smoke_proves_the_system_and_goes(data_dir: Path, options: tuple[str, ...]) -> None:
    """`dev --smoke` prints each request with what came back, exits 0, and leaves neither process nor file."""
    async with dev("--smoke", *options, TMPDIR=str(data_dir)) as process:
        said = await output(process)
        assert await process.wait() == 0, said
    assert "Envoy 1.40." in said
    assert re.search(r"all [0-9]+ as they should be", said)
    assert "WRONG" not in said
    assert not _TOKEN.search(said)
    assert left_in(data_dir) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "cannot be read"), ("plans: 7", "plans"), ("routes: []", "has no plans")],
    ids=["missing", "wrong", "empty"],
)
def test_a_wrong_plan_file_starts_nothing(
    bare_shell: Shell, tmp_path: Path, content: str | None, complaint: str
) -> None:
    """Exit 2 before any server is started."""
    if content is not None:
        (tmp_path / "plans.yaml").write_text(content)
    ran = bare_shell("dev", "--data-dir", str(tmp_path / "dev"), "--plans", str(tmp_path / "plans.yaml"))
    assert complaint in ran.refused()
    assert not (tmp_path / "dev").exists()


def test_a_directory_that_is_none_is_bad_input(bare_shell: Shell, tmp_path: Path) -> None:
    """A file where the directory should be: exit 2."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "--data-dir" in bare_shell("dev", "--data-dir", str(path)).refused()


def test_a_port_that_is_taken_is_told_before_anything_starts(bare_shell: Shell, data_dir: Path) -> None:
    """The complaint names the port, not a log file of Envoy, and no server was started for it."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        complaint = bare_shell("dev", "--data-dir", str(data_dir / "dev"), "--port", str(port)).refused()
    assert f"--port: {port}" in complaint
    assert not (data_dir / "dev" / "postgres").exists()
