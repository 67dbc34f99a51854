"""Axes: which values and which instants are named on them.

Pure. A tick is a round number in the unit that is shown: seconds in minutes, bytes in powers of two.
"""

import math
from collections.abc import Sequence

_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
_ROUND_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)
_TWO_MINUTES_S = 120


def ticks(lowest: float, highest: float, unit: str, wanted: int = 4, *, is_whole: bool = False) -> list[float]:
    """Return round values from `lowest`, or just below, to `highest`, or just above; some `wanted` of them."""
    if highest <= lowest:
        highest = lowest + 1
    step = _step((highest - lowest) / wanted, unit)
    if is_whole:
        step = max(1.0, math.ceil(step))
    first, last = math.floor(lowest / step + 1e-9), math.ceil(highest / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def instants(begin: float, end: float, wanted: int = 5) -> list[float]:
    """Return round instants between two, some `wanted` of them."""
    step = next((step for step in _ROUND_S if step >= (end - begin) / wanted), _ROUND_S[-1])
    return [number * step for number in range(math.ceil(begin / step), math.floor(end / step) + 1)]


def _step(least: float, unit: str) -> float:
    if unit == "bytes":
        return 2.0 ** math.ceil(math.log2(least))
    if unit == "s" and least * 4 > _TWO_MINUTES_S:
        return next((step for step in _ROUND_S if step >= least), _rounded(least, _ROUND))
    return _rounded(least, _ROUND)


def _rounded(least: float, steps: Sequence[float]) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in steps if step * power >= least * 0.999)
