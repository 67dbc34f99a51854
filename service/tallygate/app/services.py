"""The services beside Check, wired: access logs, usage that is reported, tokens that are asked about.

They share the caches and the counters of Check, and begin and end with it.
"""

import asyncio
from dataclasses import dataclass

from tallygate.app.pipeline import pipeline
from tallygate.app.secret_settings import peppers, plain
from tallygate.app.services_at import free_services_at, services_at
from tallygate.core.clock import Clock
from tallygate.core.errors import InputError
from tallygate.decision.explain import Looking
from tallygate.decision.first_use import FirstUse
from tallygate.envoy.access_log import STREAM_PATH
from tallygate.envoy.access_log import read as read_access_log
from tallygate.licenses.cache import LicenseCache
from tallygate.licenses.first_used import FirstUses
from tallygate.lifecycle import Serving
from tallygate.limits.limiter import Limiter
from tallygate.metrics import Metrics
from tallygate.services.access import Access
from tallygate.services.access_logs import AccessLogs
from tallygate.services.introspection import Introspection
from tallygate.services.licensed import Tokens
from tallygate.services.reporting import Holders, Reporting
from tallygate.services.settlements import Settlements
from tallygate.services.settling import Settling
from tallygate.services.usage_service import UsageService
from tallygate.settings import Settings
from tallygate.tokens.format import TokenFormat
from tallygate.transport.grpcio_services import Offered, ServicesServer
from tallygate.transport.listening import SERVICES_SETTING, Listen, ListenAddress, bind
from tallygate.transport.tls import TlsFiles

_SETTLE_AT_LAST_S = 2.0


@dataclass(frozen=True, slots=True)
class Known:
    """What the services share with Check."""

    clock: Clock
    metrics: Metrics
    cache: LicenseCache
    holders: Holders
    limiter: Limiter
    first_uses: FirstUses


class Services:
    """A server, and the queue of what its streams bring: `run` works it off in the background."""

    def __init__(self, server: ServicesServer, settlements: Settlements, listen: Listen) -> None:
        """Take both; what `listen` is bound to is kept as long as this."""
        self.server = server
        self._settlements = settlements
        self._listen = listen

    async def run(self) -> None:
        """Settle what comes, until cancelled."""
        await self._settlements.run()

    async def settled(self, deadline_s: float) -> None:
        """Wait until all that has come is settled, `deadline_s` seconds at most."""
        await self._settlements.drain(deadline_s)

    async def stop(self, grace_s: float) -> None:
        """Take nothing more, and settle what has come."""
        await self.server.stop(grace_s)
        await self.settled(_SETTLE_AT_LAST_S)


class Beside:
    """Two servers with one life: Check's, whose address it has, and the services'."""

    def __init__(self, check: Serving, services: Services) -> None:
        """Serve both."""
        self._check = check
        self._services = services

    @property
    def address(self) -> str:
        """Return where Check is answered."""
        return self._check.address

    async def start(self) -> None:
        """Listen at both addresses; raise InputError when one cannot be had."""
        await self._check.start()
        try:
            await self._services.server.start()
        except InputError:
            await self._check.stop(0)
            raise

    def set_serving(self, is_serving: bool) -> None:  # noqa: FBT001 - it is the one thing set
        """Tell health checks of both whether to send calls here."""
        self._check.set_serving(is_serving)
        self._services.server.set_serving(is_serving)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls and finish those under way."""
        await asyncio.gather(self._check.stop(grace_s), self._services.stop(grace_s))


async def services(values: Settings, known: Known, tls: TlsFiles | None, *, is_shared: bool) -> Services | None:
    """Wire the services, None where they are off; with `is_shared` other processes may have the same port.

    Raises InputError for an address that cannot be had.
    """
    at = services_at(values) if is_shared else await free_services_at(values)
    if at is None:
        return None
    listen = await bind(ListenAddress.parse(at, SERVICES_SETTING), may_share=True) if is_shared else at
    key = None if values.services_key is None else plain(values.services_key)
    settling = Settling(known.limiter, lambda: known.cache.routes)
    settlements = Settlements(settling.by_outcome, known.metrics.outcomes.count)
    server = ServicesServer(
        listen,
        Offered(
            guarded=_usage(values, known, settling).methods(),
            streams={STREAM_PATH: AccessLogs(read_access_log, settlements.put)},
        ),
        Access(key, is_certified=tls is not None and tls.client_ca is not None),
        known.metrics.services_calls.count,
        tls,
    )
    return Services(server, settlements, listen)


def _usage(values: Settings, known: Known, settling: Settling) -> UsageService:
    looking = Looking(known.limiter)
    tokens = Tokens(TokenFormat(values.token_prefix), peppers(values), known.cache)
    return UsageService(
        Reporting(
            tokens=tokens,
            holders=known.holders,
            limiter=known.limiter,
            first_use=FirstUse(known.limiter, known.first_uses),
            routes=lambda: known.cache.routes,
            clock=known.clock,
        ),
        settling,
        Introspection(
            tokens=tokens,
            pipeline=pipeline(values, known.clock, known.cache, looking),
            limiter=known.limiter,
            first_use=FirstUse(looking, FirstUses()),
            clock=known.clock,
        ),
    )
