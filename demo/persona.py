"""Who calls in the demo, as values: what they ask, how often, with which credential, and what they are answered.

Pure. Owns the words of `cast.py`. Does not own who there is, nor how anybody is made or played.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

Shape: TypeAlias = Callable[[float], float]
"""How busy somebody is, 0 for not at all and 1 for as usual, by how much of the play is over (0 to 1)."""


class Credential(Enum):
    """What a caller shows."""

    OWN = auto()
    NONE = auto()
    MALFORMED = auto()
    UNKNOWN = auto()
    TWO = auto()


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request; `share` is how often it is asked among the others of a persona."""

    path: str = "/v1/things"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    share: int = 1


USED_UP = frozenset({"429 quota_exceeded", "402 credits_exhausted"})
PUT_OFF = frozenset({"503 overloaded", "503 dependency_down"})
"""What anybody may be answered, though rarely, where the machine is too small for all of this at once."""


def steady(_progress: float) -> float:
    """Return the same all the time."""
    return 1.0


def wave(progress: float) -> float:
    """Rise and fall, twice in a play."""
    return 1 + 0.8 * math.sin(4 * math.pi * progress)


def between(begin: float, end: float, otherwise: float = 0.0) -> Shape:
    """Return a shape that is busy from `begin` to `end` only."""
    return lambda progress: 1.0 if begin <= progress < end else otherwise


@dataclass(frozen=True, slots=True)
class Persona:
    """Customers who behave alike: each sends `at_once` requests every `every_s` seconds; the last is `slower` times so.

    Among their answers all of `sees` have to be, and none that is in neither `sees` nor `may_see`. `plan` is a plan key
    or version, none for strangers. `networks` are where their tokens are good.
    """

    name: str
    plan: str
    sees: frozenset[str]
    may_see: frozenset[str] = frozenset()
    customers: int = 1
    at_once: int = 1
    every_s: float = 1.0
    slower: float = 1.0
    shape: Shape = steady
    asks: tuple[Request, ...] = (Request(),)
    credential: Credential = Credential.OWN
    networks: tuple[str, ...] = ()
    is_on_trial: bool = False

    def pause_s(self, number: int, progress: float) -> float:
        """Return how long customer `number` waits after what they sent last; inf where they are not busy at all."""
        part = number / max(1, self.customers - 1)
        busy = self.shape(progress)
        return self.every_s * self.slower**part / busy if busy > 0 else math.inf

    def wrong(self, answers: Mapping[str, int]) -> list[str]:
        """Return what is wrong with the answers they have had, nothing if all is well."""
        missing = [f"never {answer}" for answer in sorted(self.sees - answers.keys())]
        strange = sorted(answers.keys() - self.sees - self.may_see - PUT_OFF)
        return missing + [f"{answers[answer]} x {answer}" for answer in strange]
