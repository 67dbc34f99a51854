"""The control plane: the use cases of `admin`, over a pool of Postgres, as the commands and the REST API use them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tallygate.admin.operations import ControlPlane, Operations
from tallygate.admin.postgres import Registry
from tallygate.app.secret_settings import peppers, plain
from tallygate.core.clock import Clock, SystemClock
from tallygate.settings import Settings, require
from tallygate.storage import postgres
from tallygate.tokens.format import TokenFormat


@asynccontextmanager
async def control_plane(values: Settings, actor: str) -> AsyncIterator[Operations]:
    """Open the control plane for `actor`; raise InvalidSettingsError when its settings are missing."""
    require(values, "postgres_dsn", "pepper")
    pool = await postgres.create_pool(plain(values.postgres_dsn), min_size=0, max_size=4, application_name="tallygate")
    try:
        yield control_over(values, pool, SystemClock()).acting(actor)
    finally:
        await postgres.close_pool(pool)


def control_over(values: Settings, pool: postgres.Pool, clock: Clock) -> ControlPlane:
    """Return the control plane over a pool that is open already."""
    return ControlPlane(Registry(pool), clock, TokenFormat(values.token_prefix), peppers(values))
