"""One supervised child: readiness, the end that is certain, and what a failing start tells."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import descendants, still_alive, watch

from tallygate.devservers import process as process_module
from tallygate.devservers.process import Child, Program, ServerStartError, run_to_end, running

_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


def program(data_dir: Path, code: str) -> Program:
    """Return a program that runs `code` in Python."""
    command = (sys.executable, "-I", "-S", "-c", code)
    return Program(name="Example", command=command, directory=data_dir, log_path=data_dir / "example.log")


async def has_spoken(child: Child) -> bool:
    """Call a child ready when it has written something."""
    return bool(child.output())


async def never(_: Child) -> bool:
    """Call no child ready."""
    return False


async def test_a_child_that_ignores_the_signal_is_killed(data_dir: Path) -> None:
    """A stop ends within its deadline, whatever the child thinks of it."""
    async with running(program(data_dir, _STUBBORN), has_spoken, start_deadline_s=20, stop_deadline_s=0.01) as child:
        watched = watch({child.pid})
    assert still_alive(watched, 0.1) == 0
    assert await child.wait() == -9


async def test_a_child_that_dies_while_starting_is_quoted(data_dir: Path) -> None:
    """The error holds the end of this run's log, and nothing of the runs before."""
    (data_dir / "example.log").write_text("an older run\n")
    dying = program(data_dir, "print('the reason'); raise SystemExit(3)")
    with pytest.raises(ServerStartError, match="Example ended with status 3") as caught:
        await start_in_vain(dying, deadline_s=20)
    assert "  the reason" in str(caught.value)
    assert "an older run" not in str(caught.value)
    assert "an older run" in (data_dir / "example.log").read_text()


async def test_a_child_never_ready_is_stopped_at_the_deadline(data_dir: Path) -> None:
    """Waiting for readiness ends, and leaves nothing behind."""
    before = descendants(os.getpid())
    with pytest.raises(ServerStartError, match=r"was not ready within 0\.1 s(.|\n)*it wrote nothing"):
        await start_in_vain(program(data_dir, "import signal; signal.pause()"), deadline_s=0.1)
    assert descendants(os.getpid()) == before


async def test_a_start_that_is_cancelled_leaves_nothing(data_dir: Path) -> None:
    """Ctrl-C before readiness stops the child as well."""
    before = descendants(os.getpid())
    asked = asyncio.Event()

    async def ask(_: Child) -> bool:
        asked.set()
        return False

    async def start() -> None:
        async with running(program(data_dir, _STUBBORN), ask, start_deadline_s=60, stop_deadline_s=0.01):
            pass

    starting = asyncio.create_task(start())
    await asked.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert descendants(os.getpid()) == before


async def test_a_program_run_to_its_end_gives_status_and_output(data_dir: Path) -> None:
    """What initdb and `envoy --mode validate` say comes back."""
    assert await run_to_end(program(data_dir, "print('done'); raise SystemExit(4)"), 20) == (4, "done")


def test_a_child_whose_parent_died_before_it_could_ask_does_not_start() -> None:
    """Between fork and the request to die with the parent there is a moment; it is not a gap."""
    launch = str(Path(process_module.__file__).with_name("launch.py"))
    not_our_pid = str(os.getppid())
    arguments = [sys.executable, "-I", "-S", launch, not_our_pid, "15", "caller", "/", sys.executable, "-c", "print(1)"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (126, "")
    assert "the process that started this server is gone" in done.stderr


async def start_in_vain(what: Program, *, deadline_s: float) -> None:
    """Start `what`, which must fail."""
    async with running(what, never, start_deadline_s=deadline_s, stop_deadline_s=1):
        pytest.fail("it must not become ready")
