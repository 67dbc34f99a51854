"""Questions to a Prometheus, ours or anybody's: a value at an instant, or values over time.

Owns the calls. Does not own what is asked. Failure: PrometheusError when it refuses a question or does not answer.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx

from tallygate.devservers.prometheus import ask

_DEADLINE_S = 20


class Series(NamedTuple):
    """The labels of a series and its points, (seconds since 1970, value), the oldest first."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        """Return the newest value."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in seconds since 1970, and how far apart points in it are."""

    begin: float
    end: float
    step_s: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Answers where `http` leads."""

    http: httpx.AsyncClient

    async def at(self, expression: str, at: float) -> list[Series]:
        """Return what an expression was at an instant: one point in each series."""
        found = await ask(self.http, "/api/v1/query", {"query": expression, "time": at})
        return [Series(one["metric"], (_point(one["value"]),)) for one in found["result"]]

    async def over(self, expression: str, span: Span) -> list[Series]:
        """Return what an expression was, step by step."""
        found = await ask(
            self.http,
            "/api/v1/query_range",
            {"query": expression, "start": span.begin, "end": span.end, "step": span.step_s},
        )
        return [Series(one["metric"], tuple(_point(each) for each in one["values"])) for one in found["result"]]


@asynccontextmanager
async def prometheus(url: str) -> AsyncIterator[Prometheus]:
    """Ask the Prometheus at `url` while the block runs."""
    async with httpx.AsyncClient(base_url=url, timeout=_DEADLINE_S, trust_env=False) as http:
        yield Prometheus(http)


def _point(value: list[Any]) -> tuple[float, float]:
    return float(value[0]), float(value[1])
