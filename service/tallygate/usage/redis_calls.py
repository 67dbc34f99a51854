"""Many calls to Redis at once, of which none may fail unseen.

Owns sending them by slot and in bounded numbers, and what an unknown script or a refusal means. Does not own
connections nor deadlines (`storage`). Failure: LimiterUnavailableError as soon as one of many has no answer, or is
refused; what the others did stays done, so what is asked here is harmless to ask again.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from tallygate.core.errors import LimiterUnavailableError
from tallygate.storage.redis_pipeline import Answer, ReplyError, pack_command
from tallygate.storage.redis_topology import RedisLinks

AT_ONCE = 512
"""Calls under way at the same time: that many fill a round trip, and bound what is in memory."""
PAGE = "1000"
"""What a page of a large set or hash has, about."""
_About = TypeVar("_About")


class Call(NamedTuple):
    """A command, and the hash tag (or key) of what it is about; with a `script` its text, for who does not know it."""

    tag: str
    parts: tuple[bytes | str | int, ...]
    script: str = ""


def script_call(text: str, tag: str, names: Sequence[str], arguments: Sequence[bytes | str | int]) -> Call:
    """Return a call of a script with these keys and arguments."""
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Call(tag, ("EVALSHA", digest, len(names), *names, *arguments), text)


class RedisCalls:
    """Asks Redis many things at once."""

    def __init__(self, links: RedisLinks) -> None:
        """Ask through `links`, which the caller closes; each call has their `deadline_s`, from when it is sent."""
        self._links = links

    async def one(self, call: Call) -> Any:  # noqa: ANN401 - each command has its own answer
        """Return the answer to one call."""
        (answer,) = await self._together([call])
        return answer

    async def each(self, about: Sequence[_About], call: Callable[[_About], Call]) -> list[Any]:
        """Return the answers to a call for each, some at a time."""
        answers: list[Any] = []
        for at in range(0, len(about), AT_ONCE):
            answers += await self._together(call(each) for each in about[at : at + AT_ONCE])
        return answers

    async def members(self, sets: Sequence[str]) -> AsyncIterator[list[bytes]]:
        """Return what is in these sets, in pages; some of it twice if they change meanwhile."""
        for at in range(0, len(sets), AT_ONCE):
            cursors: dict[str, bytes] = dict.fromkeys(sets[at : at + AT_ONCE], b"0")
            while cursors:
                asked = list(cursors.items())
                pages = await self.each(asked, lambda one: Call(tag_of(one[0]), ("SSCAN", *one, "COUNT", PAGE)))
                cursors = {key: next_ for (key, _), (next_, _) in zip(asked, pages, strict=True) if next_ != b"0"}
                if found := [member for _, members in pages for member in members]:
                    yield found

    async def _together(self, calls: Iterable[Call]) -> list[Any]:
        asked = list(calls)
        answers: list[Answer] = list(await asyncio.gather(*map(self._ask, asked)))
        unknown = [at for at, answer in enumerate(answers) if _is_unknown(answer)]
        told = await asyncio.gather(*(self._ask(_by_text(asked[at])) for at in unknown))
        for at, answer in zip(unknown, told, strict=True):
            answers[at] = answer
        for answer in answers:
            if isinstance(answer, ReplyError):
                raise LimiterUnavailableError(f"redis refuses: {answer}") from answer
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _ask(self, call: Call) -> Awaitable[Answer]:
        return self._links.ask(pack_command(call.parts), monotonic() + self._links.deadline_s, call.tag)


def tag_of(key: str) -> str:
    """Return the hash tag in a key."""
    return key.partition("{")[2].partition("}")[0]


def _by_text(call: Call) -> Call:
    return call._replace(parts=("EVAL", call.script, *call.parts[2:]))


def _is_unknown(answer: Answer) -> bool:
    return isinstance(answer, ReplyError) and str(answer).startswith("NOSCRIPT")
