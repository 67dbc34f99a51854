"""What happens during the play: to customers, by an operator; to the system, by bad luck. Each at its time, once.

Owns the list and how each is done. Does not own what callers see of it: their personas say so.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import httpx
from demo.accounts import IN_SHADOW, SHADOWED, Account, catalogue
from demo.traffic import Traffic
from redis.asyncio import Redis

from tallygate.admin.operations import Operations
from tallygate.core.errors import DependencyError
from tallygate.insights.redis import RedisShadowLedger

_DEADLINE_S = 10
_HANGS_MS = 2500
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Scene:
    """What incidents act on: the control plane, everybody's account, Redis, and where workers are named."""

    control: Operations
    accounts: list[Account]
    redis: Redis
    ready_url: str

    def of(self, persona: str) -> Account:
        """Return the first account of a persona."""
        return next(account for account in self.accounts if account.persona.name == persona)


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happens once so much of the play is over, and once a persona has had an answer, if told so."""

    progress: float
    title: str
    happen: Callable[[Scene], Awaitable[object]]
    after: tuple[str, str] | None = None

    def is_due(self, traffic: Traffic) -> bool:
        """Say whether it is time."""
        is_seen = self.after is None or self.after[1] in traffic.answers[self.after[0]]
        return traffic.is_over or (is_seen and traffic.progress >= self.progress)


async def try_in_shadow(scene: Scene) -> None:
    """Publish a stricter version of the free plan, and let it look on."""
    await scene.control.plans.apply(catalogue(is_stricter=True))
    await scene.control.shadows.start(SHADOWED, IN_SHADOW, counts=RedisShadowLedger(scene.redis))


async def _rotate(scene: Scene) -> None:
    account = scene.of("rotated")
    issued = await scene.control.tokens.rotate(account.token, timedelta(hours=1), reason="as every month")
    account.token, account.secret = issued.record.id, issued.secret


async def _revoke(scene: Scene) -> None:
    await scene.control.tokens.revoke(scene.of("leaked").token, "found in a public repository")


async def _suspend(scene: Scene) -> None:
    await scene.control.customers.set_status(scene.of("unpaid").customer, "suspended", "third reminder")


async def _resume(scene: Scene) -> None:
    await scene.control.customers.set_status(scene.of("unpaid").customer, "active", "paid")


async def _top_up(scene: Scene) -> None:
    await scene.control.contracts.grant_credits(scene.of("spender").subscription, "balance", 5_000, reason="bought")


async def _hang(scene: Scene) -> None:
    """Have Redis answer nobody for a moment: limits do as their `fail` says."""
    await scene.redis.client_pause(_HANGS_MS, all=True)


async def _kill(scene: Scene) -> None:
    """Kill a worker process of the data plane; its supervisor starts another."""
    async with httpx.AsyncClient(timeout=_DEADLINE_S, trust_env=False) as http:
        workers = (await http.get(scene.ready_url)).json()["workers"]
    os.kill(next(worker["pid"] for worker in reversed(workers) if worker["pid"]), signal.SIGKILL)


INCIDENTS = (
    Incident(0.15, "a token is rotated", _rotate),
    Incident(0.25, "a leaked token is revoked", _revoke, after=("leaked", "200 ok")),
    Incident(0.3, "a customer is suspended", _suspend, after=("unpaid", "200 ok")),
    Incident(0.4, "Redis hangs for 2.5 s", _hang),
    Incident(0.6, "a worker is killed", _kill),
    Incident(0.7, "the suspended customer has paid", _resume, after=("unpaid", "403 customer_suspended")),
    Incident(0.85, "who has run out of credits buys more", _top_up, after=("spender", "402 credits_exhausted")),
)


async def happen(scene: Scene, traffic: Traffic, told: Callable[[str], None]) -> None:
    """Let every incident happen at its time, and tell its title. What a dependency delays is tried again."""
    for incident in INCIDENTS:
        while not incident.is_due(traffic):  # noqa: ASYNC110 - time tells nobody
            await asyncio.sleep(_LOOK_S)
        told(incident.title)
        while True:
            try:
                await incident.happen(scene)
                break
            except DependencyError as error:
                if traffic.is_over:
                    raise
                told(f"  not yet: {error}")
                await asyncio.sleep(_LOOK_S)


def redis_of(url: str) -> Redis:
    """Return a client; it is the owner's to close."""
    return Redis.from_url(url, socket_timeout=_DEADLINE_S)
