"""A shell for the tests of the command line: real processes, with a fresh database and empty counters."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import Commands, Shell
from support.servers import Database

PEPPER = "a pepper of tests, long enough to be one"


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Return what runs commands without waiting for imports each time."""
    with Commands(tmp_path_factory.mktemp("commands")) as running:
        yield running


@pytest.fixture
def bare_shell(commands: Commands) -> Shell:
    """Return a shell in whose environment nothing is set."""
    return Shell(commands, {})


@pytest.fixture
def shell(commands: Commands, database: Database, redis_url: str) -> Shell:
    """Return a shell with a database and counters of this test's own, whose services listen nowhere."""
    environment = {
        "POSTGRES_DSN": database.dsn,
        "REDIS_URL": redis_url,
        "PEPPER": PEPPER,
        "SERVICES_LISTEN": "off",  # the usual port would be taken by a test beside this one
    }
    return Shell(commands, {f"TALLYGATE_{name}": value for name, value in environment.items()})


@pytest.fixture
def sample_plans() -> Path:
    """Return the plan file that comes with Tallygate."""
    return Path(__file__).parents[2] / "examples" / "plans.yaml"
