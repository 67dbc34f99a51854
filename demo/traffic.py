"""The play: every account calls at its own pace until the time is over, and what each was answered is counted.

Owns pace and tally. Requests of one account overlap when answers are late, as those of real callers do, up to a bound.
Chance is seeded: who asks what is the same in each play. One task for each account, in one event loop.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from demo.accounts import Account
from demo.gateway import Caller
from demo.persona import PUT_OFF, USED_UP, Persona, Request

_LOOK_S = 0.05
_PATIENCE = 6
"""How much less often they call for whom nothing is left."""
_AT_MOST = 300
"""Requests under way of all accounts together."""
_LONG_AGO_S, _BEGIN_WITHIN = 3600.0, 0.05
_AT_MOST_BEYOND_S = 120.0


class Traffic:
    """What is played for `seconds`, and the answers so far by persona."""

    def __init__(self, caller: Caller, seconds: float, slower: float = 1.0) -> None:
        """Ask by `caller`; everybody calls so many times `slower` than their persona says."""
        self._caller = caller
        self._seconds = seconds
        self._slower = slower
        self._room = asyncio.Semaphore(_AT_MOST)
        self._began_at = 0.0
        self._cast: list[Persona] = []
        self.answers: Mapping[str, Counter[str]] = defaultdict(Counter)

    @property
    def progress(self) -> float:
        """Return how much of the time is over, from 0 to 1."""
        return min(1.0, (asyncio.get_running_loop().time() - self._began_at) / self._seconds)

    @property
    def is_over(self) -> bool:
        """Say whether the time is over. On a slow machine it goes on, up to a bound, until everybody saw theirs."""
        beyond_s = asyncio.get_running_loop().time() - self._began_at - self._seconds
        return beyond_s >= 0 and (beyond_s > _AT_MOST_BEYOND_S or not any(map(self._lacks, self._cast)))

    async def play(self, accounts: Sequence[Account]) -> None:
        """Let everybody call until it is over and all are answered."""
        self._began_at = asyncio.get_running_loop().time()
        self._cast = list({account.persona.name: account.persona for account in accounts}.values())
        async with asyncio.TaskGroup() as group:
            for account in accounts:
                group.create_task(self._live(account))

    def _lacks(self, persona: Persona) -> bool:
        return not persona.sees <= self.answers[persona.name].keys()

    async def _live(self, account: Account) -> None:
        persona = account.persona
        chance = random.Random(f"{persona.name} {account.number}")  # noqa: S311 - to be repeated, not to be secret
        weights = [asked.share for asked in persona.asks]
        await asyncio.sleep(chance.uniform(0, _BEGIN_WITHIN * self._seconds))
        called_at = self._began_at - _LONG_AGO_S
        async with asyncio.TaskGroup() as group:
            while not self.is_over:
                now = asyncio.get_running_loop().time()
                patience = self._slower * (_PATIENCE if account.is_used_up else 1)
                pause_s = persona.pause_s(account.number, self.progress) * patience
                if (due_at := called_at + pause_s) <= now:
                    # Not on the same beat as everybody else.
                    called_at = now - chance.uniform(0, 0.1) * persona.every_s
                    for asked in chance.choices(persona.asks, weights, k=persona.at_once):
                        group.create_task(self._ask(account, asked))
                await asyncio.sleep(min(_LOOK_S, max(0.0, due_at - now)))

    async def _ask(self, account: Account, asked: Request) -> None:
        async with self._room:
            answer = await self._caller.ask(asked, account.persona.credential, account.secret)
        self.answers[account.persona.name][answer] += 1
        account.is_used_up = answer in USED_UP


def wrong_answers(cast: Iterable[Persona], answers: Mapping[str, Counter[str]]) -> list[str]:
    """Return a line for each persona that was answered otherwise than it should."""
    found = [(persona.name, persona.wrong(answers.get(persona.name, Counter()))) for persona in cast]
    return [f"{name}: {', '.join(problems)}" for name, problems in found if problems]


def put_off(answers: Mapping[str, Counter[str]]) -> float:
    """Return which part of all answers was a 503 of ours."""
    whole = sum(answers.values(), Counter[str]())
    return sum(whole[answer] for answer in PUT_OFF) / max(1, whole.total())
