"""Prometheus is found where it is, or fetched once; what stands in the way is told with its mend."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tallygate.core.errors import InputError
from tallygate.devservers.binaries import prometheus_binaries
from tallygate.devservers.prometheus_package import PROGRAMS, fetched, prometheus_cache

_APT = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *update*) touch {updated} ;;
  *) [ -e {updated} ] || {{ echo "E: Unable to locate package prometheus" >&2; exit 100; }}
     touch prometheus_2_amd64.deb ;;
esac
"""
_DPKG = "#!/bin/sh\nmkdir -p $3/usr/bin && cp /bin/true $3/usr/bin/prometheus && cp /bin/true $3/usr/bin/promtool\n"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory on PATH: the shell's tools, and no apt, dpkg or Prometheus."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "touch", "mkdir", "cp"):
        (directory / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TALLYGATE_DEV_PROMETHEUS", raising=False)
    return directory


def script(path: Path, text: str) -> None:
    """Put a program at `path`."""
    path.write_text(text)
    path.chmod(0o755)


def with_apt(tools: Path) -> Path:
    """Put an apt that has no lists until it updates, and a dpkg; return the log of what apt was asked."""
    log = tools.parent / "apt.log"
    script(tools / "apt-get", _APT.format(log=log, updated=tools.parent / "updated"))
    script(tools / "dpkg-deb", _DPKG)
    return log


def test_a_machine_without_lists_gets_its_own_and_fetches_once(tools: Path) -> None:
    """Where apt knows no package it updates lists of ours, which needs no root; the next time nothing is asked."""
    log = with_apt(tools)
    found = prometheus_binaries()
    assert [path.name for path in found] == list(PROGRAMS)
    assert all(subprocess.run([path], check=False).returncode == 0 for path in found)
    asked = log.read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["prometheus", "update", "prometheus"]
    assert "Dir::State::Lists=" in asked[1]
    assert prometheus_binaries() == found
    assert len(log.read_text().splitlines()) == 3
    assert sorted(path.name for path in prometheus_cache().iterdir()) == ["lock", *PROGRAMS]


def test_an_apt_that_cannot_is_quoted(tools: Path) -> None:
    """Offline, its own words are told, and the variable that would help; nothing half is left behind."""
    with_apt(tools)
    script(tools / "apt-get", "#!/bin/sh\necho 'E: Temporary failure resolving' >&2\nexit 100\n")
    with pytest.raises(InputError, match=r"Temporary failure resolving .*TALLYGATE_DEV_PROMETHEUS"):
        prometheus_binaries()
    assert [path.name for path in prometheus_cache().iterdir()] == ["lock"]


def test_without_apt_it_is_said_what_to_install(tools: Path) -> None:
    """On a system that is no Debian the message names the way out."""
    assert tools.is_dir()
    with pytest.raises(InputError, match=r"without apt-get .*install Prometheus"):
        prometheus_binaries()


def test_a_cache_that_cannot_be_made_is_told(tools: Path, tmp_path: Path) -> None:
    """A file where the directory should be, as a read-only home, is bad input and no traceback."""
    assert tools.is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be used"):
        fetched(tmp_path / "file" / "cache")


def test_a_prometheus_of_ones_own_needs_its_promtool(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is named, or on PATH, is taken; without promtool beside it that is said."""
    script(tools / "prometheus", "\x7fELF")
    with pytest.raises(InputError, match="no promtool beside"):
        prometheus_binaries()
    script(tools / "promtool", "\x7fELF")
    assert prometheus_binaries() == (tools / "prometheus", tools / "promtool")
    monkeypatch.setenv("TALLYGATE_DEV_PROMETHEUS", str(tools / "promtool"))
    assert prometheus_binaries()[0] == tools / "promtool"
