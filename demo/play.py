"""A whole play on a running stage: accounts are opened, everybody calls, things happen, answers are counted.

Owns how these are put together. Does not own the stage, which may be used for several plays of other casts.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from demo.accounts import Account, open_accounts
from demo.cast import CAST
from demo.gateway import caller
from demo.incidents import Scene, happen, redis_of, try_in_shadow
from demo.stage import Stage
from demo.traffic import Traffic
from demo.upstream import report

_SETTLED_S = 3.0


async def play(
    stage: Stage, seconds: float, tell: Callable[[str], None], *, slower: float = 1.0
) -> Mapping[str, Counter[str]]:
    """Play the whole cast for so long; tell what happens; return how often each persona had which answer.

    Everybody calls so many times `slower` than their persona says.
    """
    async with AsyncExitStack() as closing:
        redis = redis_of(stage.system.environment["REDIS_URL"])
        closing.push_async_callback(redis.aclose)
        calling = caller(stage.system.gateway_url)
        closing.push_async_callback(calling.http.aclose)
        scene = Scene(stage.system.control, await open_accounts(stage.system.control, CAST), redis, stage.ready_url)
        await try_in_shadow(scene)
        traffic = Traffic(calling, seconds, slower)
        tell(f"{len(scene.accounts)} callers for {seconds:.0f} s")
        async with asyncio.TaskGroup() as group:
            group.create_task(traffic.play(scene.accounts))
            group.create_task(happen(scene, traffic, tell))
            group.create_task(_upstream(stage, scene.of("writer"), lambda: traffic.is_over))
        await asyncio.sleep(_SETTLED_S)  # the last outcomes are told, and the last samples scraped
    return traffic.answers


async def _upstream(stage: Stage, account: Account, is_over: Callable[[], bool]) -> None:
    environment = stage.system.environment
    await report(environment["SERVICES_LISTEN"], environment["SERVICES_KEY"], account, is_over)
