"""Limiters on connections of their own, as each worker has one."""

from collections.abc import Callable
from typing import Any

from tallygate.core.clock import Clock
from tallygate.limits.redis import RedisLimiter
from tallygate.limits.script import Scripts
from tallygate.storage.redis_link import LinkTerms
from tallygate.storage.redis_topology import link

PATIENT_S = 30.0
"""A deadline that a slow machine never meets."""


def limiter_to(
    url: str,
    *,
    deadline_s: float = PATIENT_S,
    clock: Clock | None = None,
    observe: Callable[[float], None] = lambda _: None,
    scripts: Scripts | None = None,
    **terms: Any,  # noqa: ANN401 - the fields of LinkTerms
) -> RedisLimiter:
    """Return a limiter that asks `url`; close it."""
    links = link(url, LinkTerms(deadline_s=deadline_s, **terms))
    return RedisLimiter(links, clock=clock, observe=observe, scripts=scripts or Scripts())
