"""Watching processes from outside, without asking them: who descends from whom, and when they are gone."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROC = Path("/proc")


def descendants(pid: int) -> set[int]:
    """Return the children of `pid`, their children, and so on."""
    parents = {int(entry.name): _parent(entry) for entry in _PROC.glob("[0-9]*")}
    found: set[int] = set()
    newest = {pid}
    while newest:
        newest = {child for child, parent in parents.items() if parent in newest} - found
        found |= newest
    return found


def parent_of(pid: int) -> int:
    """Return the parent of a process, 0 when it is gone."""
    return _parent(_PROC / str(pid))


def watch(pids: set[int]) -> list[int]:
    """Return a file descriptor for each process, readable from the moment it ends."""
    return [os.pidfd_open(pid) for pid in pids]


def still_alive(watched: list[int], deadline_s: float) -> int:
    """Wait until all watched processes have ended; return how many had not at the deadline."""
    poll = select.poll()
    for descriptor in watched:
        poll.register(descriptor, select.POLLIN)
    left = set(watched)
    end = time.monotonic() + deadline_s
    while left and (rest := end - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(rest * 1000):
            poll.unregister(descriptor)
            left.discard(descriptor)
    for descriptor in watched:
        os.close(descriptor)
    return len(left)


@contextmanager
def paused(directory: Path) -> Iterator[None]:
    """Stop every process that works in or below `directory`, as one that hangs; let them go on afterwards."""
    pids = sorted(pid for pid in descendants(os.getpid()) if _works_below(pid, directory.resolve()))
    assert pids, f"nothing works in {directory}"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def words_in_reach_of_others(pid: int) -> bytes:
    """Return the command line and the environment of a process."""
    return b"".join((_PROC / str(pid) / name).read_bytes() for name in ("cmdline", "environ"))


def runs_as_nobody(command: list[str]) -> bool:
    """Say whether user `nobody` is able to run `command`; for root only."""
    try:
        return subprocess.run(command, user="nobody", extra_groups=[], timeout=20, check=False, cwd="/").returncode == 0
    except OSError:
        return False


def _works_below(pid: int, directory: Path) -> bool:
    try:
        return (_PROC / str(pid) / "cwd").readlink().is_relative_to(directory)
    except OSError:
        return False  # gone meanwhile


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0  # gone meanwhile
