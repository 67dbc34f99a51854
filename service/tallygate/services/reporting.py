"""Charging usage that is reported after it happened: whose it is, what it counts in, and where that leaves the limits.

Owns what a report charges: every limit of the plan in force now whose meter it names, but for concurrency, and never a
refusal. Does not own the wire (`usage_service`) nor the counting (`limits`). Failure: InputError for a report that
cannot be used, NotFoundError for one of nobody, DependencyError when it may be sent again.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tallygate.core.clock import Clock
from tallygate.core.errors import InputError, NotFoundError
from tallygate.decision.first_use import FirstUse
from tallygate.decision.situation import subject_of
from tallygate.licenses.license import License, Phase
from tallygate.licenses.routes import RouteTable
from tallygate.limits.limit import LimitKind
from tallygate.limits.limiter import Acquisition, Charge, Limiter, Verdict
from tallygate.plans.meters import expand_costs
from tallygate.services.licensed import Tokens
from tallygate.services.settling import MOST_UNITS

_KEY = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_READS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Report:
    """Usage of a token, or of a family and its subscription; `route` is the text of a rule, or empty."""

    idempotency_key: str
    units: Mapping[str, int]
    route: str = ""
    token: str = ""
    family: str = ""
    subscription: str = ""


class Holders(Protocol):
    """Where licenses are found by the ids that upstreams are told."""

    async def find_holder(self, family: str, subscription: str) -> License | None:
        """Return the license of any token of the family; None when there is none, or it is of another subscription."""
        ...


class Reporting:
    """Charges reports."""

    def __init__(
        self,
        *,
        tokens: Tokens,
        holders: Holders,
        limiter: Limiter,
        first_use: FirstUse,
        routes: Callable[[], RouteTable],
        clock: Clock,
    ) -> None:
        """Take where licenses come from, the counters, when trials began, the route rules and the time."""
        self._tokens = tokens
        self._holders = holders
        self._limiter = limiter
        self._first_use = first_use
        self._routes = routes
        self._clock = clock
        self._turns = asyncio.Semaphore(_READS_AT_ONCE)  # Check reads from the same pool

    async def charge(self, report: Report) -> Verdict:
        """Charge a report, once, and return where its limits are now."""
        routes = self._routes()
        _refuse_unusable(report, routes)
        holder = await self._holder(report)
        if holder is None:
            raise NotFoundError("token" if report.token else "holder", "is not known")
        phase = holder.terms.phase_at(self._clock.now(), await self._first_use.of(holder))
        verdict = await self._limiter.report(_acquisition(report, holder, phase, routes))
        await self._first_use.begin(holder)
        return verdict

    async def _holder(self, report: Report) -> License | None:
        if report.token:
            return await self._tokens.license(report.token)
        async with self._turns:
            return await self._holders.find_holder(report.family, report.subscription)


def _refuse_unusable(report: Report, routes: RouteTable) -> None:
    if not _KEY.fullmatch(report.idempotency_key):
        raise InputError("idempotency_key", "is no key", "1 to 128 letters, digits, and -._~")
    if not report.token and not (report.family and report.subscription):
        raise InputError("of", "names nobody", "give a token, or the family and its subscription")
    if not report.units:
        raise InputError("units", "is empty", "give at least one meter")
    known = {*routes.meters, *(meter for rule in routes.rules for meter, _ in rule.costs)}
    for meter, units in sorted(report.units.items()):
        if meter not in known:
            raise InputError(f"units[{meter}]", "there is no such meter", f"there are {', '.join(sorted(known))}")
        if units > MOST_UNITS:
            raise InputError(f"units[{meter}]", f"{units} is too many for one report", f"at most {MOST_UNITS}")
    if report.route and routes.by_text(report.route) is None:
        raise InputError("route", "no rule is written so", "write it as the plan file does, or leave it out")


def _acquisition(report: Report, holder: License, phase: Phase, routes: RouteTable) -> Acquisition:
    usage = expand_costs(tuple(report.units.items()), routes.meters)
    units = dict(usage)
    limits = phase.grant.limits + (phase.shadow.limits if phase.shadow else ())
    return Acquisition(
        subject=subject_of(holder, phase),
        charges=tuple(
            Charge(limit, units[limit.meter])
            for limit in limits
            if limit.meter in units and limit.kind is not LimitKind.CONCURRENCY
        ),
        usage=tuple((meter, count) for meter, count in usage if count),
        route=report.route,
        # Other subscriptions of the customer may use the same keys.
        idempotency_key=f"{holder.subscription}:{report.idempotency_key}",
        plan=phase.grant.plan,
    )
