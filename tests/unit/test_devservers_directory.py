"""Data directories: the lock, secrets, and errors that name the option."""

from pathlib import Path

import pytest

from tallygate.core.errors import InputError
from tallygate.devservers.directory import exclusive, secret_in


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    """The next start on the directory works, and a missing directory is made."""
    for _ in range(2):
        with exclusive(tmp_path / "new" / "data"):
            assert (tmp_path / "new" / "data" / "lock").exists()


def test_a_path_that_cannot_be_a_directory_is_bad_input(tmp_path: Path) -> None:
    """A typing error in --data-dir gives a message, not a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--data-dir: .* cannot be used"), exclusive(tmp_path / "file" / "data"):
        pytest.fail("there is nothing to hold")


def test_a_secret_is_made_once_and_is_closed_to_others(tmp_path: Path) -> None:
    """A restart finds the same password; others cannot read it."""
    path = tmp_path / "password"
    secret = secret_in(path)
    assert secret_in(path) == secret
    assert len(secret) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
