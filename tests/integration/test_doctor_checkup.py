"""Doctor's questions to the service's own Postgres and Redis."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import redis.asyncio
from support.servers import Database, with_login

from tallygate.app.checkup import checkup
from tallygate.core.clock import ManualClock, SystemClock
from tallygate.devservers.postgres import PostgresServer
from tallygate.settings import InvalidSettingsError, load

PEPPER = "a pepper of tests, long enough to be one"
NOBODY = "redis://127.0.0.1:1/0"


def settings_of(dsn: str, redis_url: str) -> dict[str, str]:
    """Return the environment of a service."""
    return {"TALLYGATE_POSTGRES_DSN": dsn, "TALLYGATE_REDIS_URL": redis_url, "TALLYGATE_PEPPER": PEPPER}


async def problems(dsn: str, redis_url: str, *, ahead: timedelta = timedelta()) -> dict[str, str]:
    """Return what is wrong by the name of the question, asked by a machine whose clock is so far ahead."""
    clock = ManualClock(datetime.now(UTC) + ahead) if ahead else SystemClock()
    checks = await checkup(load(settings_of(dsn, redis_url)).values, clock)
    assert all(bool(check.mend) == bool(check.problem) for check in checks)
    return {check.name: check.problem for check in checks}


@pytest.fixture
async def evicting(redis_url: str) -> AsyncIterator[str]:
    """Return a Redis that evicts, for as long as the test runs."""
    client = redis.asyncio.from_url(redis_url, socket_timeout=10)
    await client.config_set("maxmemory-policy", "allkeys-lru")
    yield redis_url
    await client.config_set("maxmemory-policy", "noeviction")
    await client.aclose()


async def test_nothing_ails_what_is_well(database: Database, redis_url: str) -> None:
    """A migrated Postgres and a Redis that keeps its keys are fit."""
    assert await problems(database.dsn, redis_url) == {"schema": "", "clock": "", "redis": ""}


async def test_the_control_planes_login_may_look(database: Database, redis_url: str) -> None:
    """Doctor needs no more than what whoever runs the REST API has anyway."""
    owner = await asyncpg.connect(database.dsn)
    await owner.execute("CREATE ROLE doctors_login LOGIN PASSWORD 'secret' IN ROLE tallygate_control")
    try:
        found = await problems(with_login(database.dsn, "doctors_login", "secret"), redis_url)
    finally:
        await owner.execute("DROP ROLE doctors_login")
        await owner.close()
    assert found == {"schema": "", "clock": "", "redis": ""}


async def test_a_login_that_may_not_look_is_told(database: Database, redis_url: str) -> None:
    """The data plane's login sees no migrations: that is said, not taken for a schema that is well."""
    found = await problems(database.data_plane_dsn, redis_url)
    assert "permission denied" in found["schema"]
    assert found["clock"] == ""


async def test_a_schema_that_is_behind_is_told(postgres_server: PostgresServer, redis_url: str) -> None:
    """An empty database is named by what it lacks."""
    found = await problems(postgres_server.dsn("postgres"), redis_url)
    assert "migrations are not applied" in found["schema"]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1)])
async def test_clocks_that_differ_are_told(database: Database, redis_url: str, ahead: timedelta) -> None:
    """An hour either way is an hour more or less of a trial."""
    found = await problems(database.dsn, redis_url, ahead=ahead)
    assert "s apart" in found["clock"]
    assert found["schema"] == ""


async def test_a_redis_that_evicts_is_told(database: Database, evicting: str) -> None:
    """A counter that is evicted is a free month."""
    assert "allkeys-lru" in (await problems(database.dsn, evicting))["redis"]


async def test_what_does_not_answer_is_told_and_hides_nothing_else(redis_url: str) -> None:
    """Each question has its own answer, however the others end."""
    found = await problems("postgresql://nobody@127.0.0.1:1/none", redis_url)
    assert found["schema"]
    assert found["clock"]
    assert found["redis"] == ""


async def test_settings_that_are_missing_are_named() -> None:
    """Nothing is asked where nobody said whom."""
    with pytest.raises(InvalidSettingsError, match="TALLYGATE_POSTGRES_DSN"):
        await checkup(load({}).values, SystemClock())


@pytest.mark.parametrize(("url", "code"), [("", 0), (NOBODY, 1)], ids=["well", "nobody"])
def test_the_command_exits_by_what_it_found(database: Database, redis_url: str, url: str, code: int) -> None:
    """A probe of an operator's reads the exit code."""
    environment = os.environ | settings_of(database.dsn, url or redis_url)
    command = [sys.executable, "-m", "tallygate", "doctor"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == code
    assert ran.stdout.splitlines()[:2] == ["schema: well", "clock: well"]
    assert PEPPER not in ran.stdout + ran.stderr
