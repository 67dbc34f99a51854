"""One difference between two plans, and whether it gives customers more or less.

Widening and narrowing speak of access: what is served, and for how long. Money is neutral, for a price
neither serves nor refuses a request; so is what only the reader of a feature could weigh.
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

Width = Fraction | float
"""How much something lets through, comparable with its like; greater is wider."""


class ChangeKind(StrEnum):
    """What a change means for those who have the plan. Undoing a change is of the opposite kind."""

    WIDENS = "widens"
    NARROWS = "narrows"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: `field` is a path such as `limits.monthly.quota`, limits and features by their names.

    `before` and `after` are as a document has them; None means that it is not there.
    """

    field: str
    before: object
    after: object
    kind: ChangeKind
    sentence: str


def kind_of(before: Width, after: Width) -> ChangeKind:
    """Return what going from one width to another means."""
    if after > before:
        return ChangeKind.WIDENS
    return ChangeKind.NARROWS if after < before else ChangeKind.NEUTRAL
