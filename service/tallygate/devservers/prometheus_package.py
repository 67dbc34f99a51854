"""Prometheus for machines without it: Debian's package, unpacked into a cache directory, installed nowhere.

Owns the cache: two programs, fetched once, by one process at a time; root is not needed. Does not own where else they
may be (`binaries`). apt itself checks what it fetches against the signed lists. `make test` runs this module first, so
that no test waits for a download. Failure: InputError that says what to install, or set, in place of this.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallygate.core.errors import InputError

PROGRAMS = ("prometheus", "promtool")
_DEADLINE_S = 300
_MEND = "install Prometheus, or name its binary in TALLYGATE_DEV_PROMETHEUS"


def prometheus_cache() -> Path:
    """Return the directory of the cache, which need not be there; raise InputError for a user without a home."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    except RuntimeError:
        raise _unobtainable("it is not installed, and this user has no home directory to keep it in") from None
    return base / "tallygate" / "prometheus"


def fetched(cache: Path) -> Path:
    """Return `prometheus` in the cache, with `promtool` beside it; fetch them if they are not there yet."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache):
            if not all(os.access(cache / name, os.X_OK) for name in PROGRAMS):
                _fetch(cache)
    except OSError as error:
        raise _unobtainable(f"{cache} cannot be used: {error.strerror}") from None
    return cache / PROGRAMS[0]


def _fetch(cache: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise _unobtainable(f"it is not installed, and without {tool} Debian's package cannot be fetched")
    with tempfile.TemporaryDirectory(dir=cache) as name:
        work = Path(name)
        _download(work)
        _run(work, "dpkg-deb", "-x", str(next(work.glob("prometheus_*.deb"))), "unpacked")
        for program in PROGRAMS:
            (work / "unpacked/usr/bin" / program).replace(cache / program)


def _download(work: Path) -> None:
    """Have the package in `work`: by the system's lists, or where it has none by lists of our own."""
    # As root apt would download as user _apt, who cannot enter here.
    options = ["-q", "-o", "APT::Sandbox::User=root"]
    try:
        _run(work, "apt-get", *options, "download", "prometheus")
    except InputError:
        for part in ("lists/partial", "cache/archives/partial"):
            (work / part).mkdir(parents=True)
        options += ["-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}/cache"]
        _run(work, "apt-get", *options, "update")
        _run(work, "apt-get", *options, "download", "prometheus")


def _run(work: Path, *command: str) -> None:
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)  # noqa: S603 - ours, no shell
    except subprocess.TimeoutExpired:
        raise _unobtainable(f"{command[0]} took longer than {_DEADLINE_S} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise _unobtainable(f"it is not installed, and {command[0]} failed: {last}")


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """Hold the cache alone: several processes of tests begin at once."""
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unobtainable(problem: str) -> InputError:
    return InputError("prometheus", problem, _MEND)


if __name__ == "__main__":
    from tallygate.devservers.binaries import prometheus_binaries

    try:
        prometheus_binaries()
    except InputError as problem:
        raise SystemExit(str(problem)) from None
