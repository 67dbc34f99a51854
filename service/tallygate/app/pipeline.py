"""The decision pipeline, wired once for all who decide: `serve` on every request, and those who explain one."""

from tallygate.app.secret_settings import peppers
from tallygate.core.clock import Clock
from tallygate.credentials.extract import CredentialPlaces
from tallygate.decision.decision import CheckInput, Decision
from tallygate.decision.explain import Looking
from tallygate.decision.pipeline import Pipeline
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.first_used import FirstUses
from tallygate.licenses.postgres import PostgresLicenseStore
from tallygate.limits.degraded import DegradedUsage
from tallygate.limits.limiter import Acquirer
from tallygate.limits.memory import MemoryLimiter
from tallygate.settings import Settings
from tallygate.tokens.format import TokenFormat


def pipeline(
    values: Settings,
    clock: Clock,
    cache: LicenseCache,
    limiter: Acquirer,
    first_uses: FirstUses | None = None,
    *,
    degraded: DegradedUsage | None = None,
) -> Pipeline:
    """Return the pipeline between licenses and limits; `first_uses` and `degraded` learn from what it decides."""
    return Pipeline(
        licenses=cache,
        limiter=limiter,
        local=MemoryLimiter(clock),
        token_format=TokenFormat(values.token_prefix),
        peppers=peppers(values),
        clock=clock,
        places=CredentialPlaces(values.query_parameter, values.cookie),
        first_uses=first_uses,
        degraded=degraded,
    )


async def explained(
    values: Settings, clock: Clock, store: PostgresLicenseStore, limiter: Acquirer, asked: CheckInput
) -> Decision:
    """Decide with a cache that knows nothing yet, so that what was changed a moment ago is seen."""
    cache = LicenseCache(store, clock)
    try:
        await cache.load_routes()
        return await pipeline(values, clock, cache, Looking(limiter)).check(asked)
    finally:
        await cache.close()
