"""What `doctor` asks of the service's own dependencies: are they there, and fit for what they are needed for.

Owns which questions, and what a wrong answer comes to. Changes nothing anywhere. Failure of a dependency is an answer,
not an error; settings without which nothing can be asked are an InvalidSettingsError.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from tallygate.app.secret_settings import plain
from tallygate.core.clock import Clock
from tallygate.core.errors import DependencyError
from tallygate.settings import Settings, require
from tallygate.storage import migrate, postgres, redis

_DEADLINE_S = 5.0
_REDIS_DEADLINE_S = 1.0
_GREATEST_SKEW_S = 1.0
_IF_NO_ANSWER = "see that it runs, that the setting names it, and that the login is the control plane's"


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer: `problem` is "" when all is well, `mend` is what to do about it."""

    name: str
    problem: str = ""
    mend: str = ""


async def checkup(values: Settings, clock: Clock) -> tuple[Check, ...]:
    """Ask everything there is to ask; each answer comes within seconds."""
    require(values, "postgres_dsn", "redis_url", "pepper")
    dsn, url = plain(values.postgres_dsn), plain(values.redis_url)
    return tuple(
        await asyncio.gather(
            _answer("schema", lambda: _schema(dsn), "run: tallygate db migrate"),
            _answer("clock", lambda: _clock(dsn, clock), "let NTP set the clocks of this machine and of Postgres's"),
            _answer("redis", lambda: _redis(url), "set maxmemory-policy to noeviction"),
        )
    )


async def _answer(name: str, ask: Callable[[], Awaitable[str]], mend: str) -> Check:
    try:
        async with asyncio.timeout(_DEADLINE_S):
            problem = await ask()
    except DependencyError as error:
        return Check(name, str(error), _IF_NO_ANSWER)
    except TimeoutError:
        return Check(name, f"no answer within {_DEADLINE_S:g} s", _IF_NO_ANSWER)
    return Check(name, problem, mend if problem else "")


async def _schema(dsn: str) -> str:
    found = await migrate.status(dsn)
    wrong = [item.problem for item in found if item.problem]
    pending = sum(item.applied_at is None for item in found)
    if wrong:
        return wrong[0]
    return f"{pending} migrations are not applied" if pending else ""


async def _clock(dsn: str, clock: Clock) -> str:
    """Return how far our clock is from Postgres's, whose instants trials, graces and periods are compared with."""
    connection = await postgres.connect(dsn, application_name="tallygate doctor", command_timeout_s=_DEADLINE_S)
    try:
        with postgres.store_errors("read Postgres's clock"):
            before = clock.now()
            theirs: datetime = await connection.fetchval("SELECT clock_timestamp()")
            after = clock.now()
    finally:
        await connection.close()
    skew_s = max((before - theirs).total_seconds(), (theirs - after).total_seconds())
    return f"this machine's clock and Postgres's are {skew_s:.1f} s apart" if skew_s > _GREATEST_SKEW_S else ""


async def _redis(url: str) -> str:
    client = redis.connect(url, deadline_s=_REDIS_DEADLINE_S)
    try:
        return await redis.eviction_warning(client) or ""
    finally:
        await client.aclose()
