"""Data directories: one user at a time, and who is still in one.

Owns the lock of a data directory and secrets kept in it. The lock is the kernel's (`flock`): it goes with
the process that holds it, however that ends. Failure: InputError for field `--data-dir`.
"""

import asyncio
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallygate.core.errors import InputError

_PROC = Path("/proc")
_LEAVING_DEADLINE_S = 10
_POLL_S = 0.02


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Make `directory` if needed and hold it for this process; raise InputError when another has it.

    A new directory is closed to reading by others but may be passed through, so that a Postgres that had
    to become user `nobody` reaches its own part.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InputError("--data-dir", f"{directory} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use_by(os.read(descriptor, 32).decode().strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def wait_until_left(directory: Path) -> None:
    """Wait for servers working in `directory` to go; raise InputError when one stays.

    A server whose parent was killed is still stopping when the next parent comes. What a dead server
    left behind, such as a pid file, may be removed afterwards.
    """
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + _LEAVING_DEADLINE_S
    while staying := _processes_in(directory):
        if clock() > give_up_at:
            raise _in_use_by(str(staying[0]))
        await asyncio.sleep(_POLL_S)


def secret_in(path: Path) -> str:
    """Return the secret kept in `path`, which is made with a random one, mode 0600, when absent.

    For one process at a time (`exclusive`). A kill in the middle leaves no half secret under that name.
    """
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_urlsafe(24))
        unfinished.rename(path)
    return path.read_text()


def _in_use_by(pid: str) -> InputError:
    return InputError("--data-dir", f"already in use by process {pid}", "stop it, or name another directory")


def _processes_in(directory: Path) -> list[int]:
    """The live processes whose working directory it is, as far as this user may see."""
    inside = directory.resolve()
    return sorted(int(entry.name) for entry in _PROC.glob("[0-9]*") if _is_inside(entry, inside))


def _is_inside(process: Path, directory: Path) -> bool:
    try:
        return (process / "cwd").readlink() == directory
    except OSError:
        return False  # gone meanwhile, or another user's
