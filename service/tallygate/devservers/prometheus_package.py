"""Prometheus for machines without it: Debian's package, unpacked into a cache directory, installed nowhere.

Owns the cache: two programs, fetched once, by one process at a time; root is not needed. Does not own where else they
may be (`binaries`). apt itself checks what it fetches against the signed lists. `make test` runs this module first, so
that no test waits for a download. Failure: InputError that says what to install, or set, in place of this.
"""

import os
import shutil
import tempfile
from pathlib import Path

from tallygate.core.errors import InputError
from tallygate.devservers.fetching import Fetching

PROGRAMS = ("prometheus", "promtool")
_FETCHING = Fetching("prometheus", "install Prometheus, or name its binary in TALLYGATE_DEV_PROMETHEUS")


def prometheus_cache() -> Path:
    """Return the directory of the cache, which need not be there; raise InputError for a user without a home."""
    return _FETCHING.cache()


def fetched(cache: Path) -> Path:
    """Return `prometheus` in the cache, with `promtool` beside it; fetch them if they are not there yet."""
    with _FETCHING.held(cache):
        if not all(os.access(cache / name, os.X_OK) for name in PROGRAMS):
            _fetch(cache)
    return cache / PROGRAMS[0]


def _fetch(cache: Path) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise _FETCHING.unobtainable(f"it is not installed, and without {tool} Debian's package cannot be fetched")
    with tempfile.TemporaryDirectory(dir=cache) as name:
        work = Path(name)
        _download(work)
        _FETCHING.run(work, "dpkg-deb", "-x", str(next(work.glob("prometheus_*.deb"))), "unpacked")
        for program in PROGRAMS:
            (work / "unpacked/usr/bin" / program).replace(cache / program)


def _download(work: Path) -> None:
    """Have the package in `work`: by the system's lists, or where it has none by lists of our own."""
    # As root apt would download as user _apt, who cannot enter here.
    options = ["-q", "-o", "APT::Sandbox::User=root"]
    try:
        _FETCHING.run(work, "apt-get", *options, "download", "prometheus")
    except InputError:
        for part in ("lists/partial", "cache/archives/partial"):
            (work / part).mkdir(parents=True)
        options += ["-o", f"Dir::State::Lists={work}/lists", "-o", f"Dir::Cache={work}/cache"]
        _FETCHING.run(work, "apt-get", *options, "update")
        _FETCHING.run(work, "apt-get", *options, "download", "prometheus")


if __name__ == "__main__":
    from tallygate.devservers.binaries import prometheus_binaries

    try:
        prometheus_binaries()
    except InputError as problem:
        raise SystemExit(str(problem)) from None
