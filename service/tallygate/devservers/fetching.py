"""A cache of programs that are fetched because this machine lacks them, and nothing of the system is changed.

Owns the directory of the cache, its lock (several processes of tests begin at once) and running what fetches, with a
deadline. Does not own what is fetched, nor from where. Failure: InputError with the mend of whoever fetches.
"""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tallygate.core.errors import InputError

_DEADLINE_S = 300


@dataclass(frozen=True, slots=True)
class Fetching:
    """What is fetched, by the `name` of its part of the cache, and what to do where it cannot be."""

    name: str
    mend: str

    def cache(self) -> Path:
        """Return the directory of the cache, which need not be there; raise InputError for a user without a home."""
        try:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        except RuntimeError:
            raise self.unobtainable("it is not installed, and this user has no home directory to keep it in") from None
        return base / "tallygate" / self.name

    @contextmanager
    def held(self, cache: Path) -> Iterator[None]:
        """Make the cache if needed and hold it alone; raise InputError when it cannot be used."""
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with (cache / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise self.unobtainable(f"{cache} cannot be used: {error.strerror}") from None

    def run(self, work: Path, *command: str) -> None:
        """Run what fetches in `work`; raise InputError with its own words when it fails."""
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)  # noqa: S603 - ours, no shell
        except subprocess.TimeoutExpired:
            raise self.unobtainable(f"{Path(command[0]).name} took longer than {_DEADLINE_S} s") from None
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            # As apt and pip mark what went wrong; the rest is about it.
            errors = [line for line in said if line.startswith(("E: ", "ERROR: "))]
            why = (errors or said or ["it said nothing"])[-1]
            raise self.unobtainable(f"it is not installed, and {Path(command[0]).name} failed: {why}")

    def unobtainable(self, problem: str) -> InputError:
        """Return the error for what cannot be had."""
        return InputError(self.name, problem, self.mend)
