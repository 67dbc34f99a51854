"""The notations of the plan file: `1_000_000`, `50/s`, `3x`, `30s`, `10%` and `5xx`.

Owns reading and writing them; what it writes, it reads as the same value. Each has one normal form, so
that equal values are equal text.
"""

import re
from decimal import Decimal

from tallygate.core.errors import InputError
from tallygate.limits.limit import LONGEST_HOLD_S
from tallygate.plans.document import AllowUntil
from tallygate.plans.problems import shown

WHOLE = re.compile(r"0|[1-9][0-9]*(?:_[0-9]+)*")
_WHOLE_LENGTH = 24
_SECOND_US = 1_000_000
_WINDOWS_US = {"d": 86_400 * _SECOND_US, "h": 3_600 * _SECOND_US, "min": 60 * _SECOND_US, "s": _SECOND_US}
_LONGEST_WINDOW_US = 366 * _WINDOWS_US["d"]
WINDOW = re.compile(r"([1-9][0-9]{0,5})?(s|min|h|d)")
TIMES = re.compile(r"((?:0|[1-9][0-9]{0,5})(?:\.[0-9]{1,3})?)x")
UNITS = re.compile(r"([0-9_]+) units")
HOLD = re.compile(r"([1-9][0-9]{0,4})([smh])")
_HOLDS_S = {"h": 3600, "m": 60, "s": 1}
PERCENT = re.compile(r"(?:100(?:\.00?)?|(?:0|[1-9][0-9]?)(?:\.[0-9]{1,2})?)")
SHARE = re.compile(r"([1-9][0-9]?)%")
STATUSES = re.compile(r"([1-5])xx|([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
_HUNDRED = 100


def whole_number(text: str) -> int | None:
    """Return the value of `1000000` or `1_000_000`; None for anything else, signs and octal forms too."""
    return int(text) if len(text) <= _WHOLE_LENGTH and WHOLE.fullmatch(text) else None


def read_rate(text: str) -> tuple[int, int]:
    """Return the amount and the window in microseconds of `50/s`, `100/10s`, `5/min`, `20/h` or `7/d`."""
    amount_text, slash, window_text = text.partition("/")
    amount = whole_number(amount_text.strip())
    if amount is None:
        raise InputError("rate", f"{shown(text)} does not begin with a whole number", "write 50/s")
    if not slash or not window_text:
        raise InputError("rate", f"{shown(text)} has no window", f"write {amount}/s")
    window = WINDOW.fullmatch(window_text.strip())
    if window is None:
        mend = f"write {amount}/s; windows are s, min, h, d and multiples such as 10s; for more use quota and period"
        raise InputError("rate", f"{shown(window_text.strip())} is not a window", mend)
    window_us = int(window[1] or 1) * _WINDOWS_US[window[2]]
    if window_us > _LONGEST_WINDOW_US:
        raise InputError("rate", f"{shown(window_text.strip())} is longer than 366d", "use quota and period")
    return amount, window_us


def rate_text(amount: int, window_us: int) -> str:
    """Return the rate in the largest unit that divides its window: `50/s`, `100/10s`."""
    unit = next(unit for unit, length_us in _WINDOWS_US.items() if window_us % length_us == 0)
    count = window_us // _WINDOWS_US[unit]
    return f"{amount}/{unit}" if count == 1 else f"{amount}/{count}{unit}"


def read_allow_until(text: str) -> AllowUntil:
    """Return what `3x`, `1.5x` or `4500 units` says."""
    if times := TIMES.fullmatch(text):
        return AllowUntil(times=Decimal(times[1]))
    units = UNITS.fullmatch(text)
    number = whole_number(units[1]) if units else None
    if number is None:
        raise InputError("allow_until", f"{shown(text)} is not understood", 'write 3x, 1.5x or "4500 units"')
    return AllowUntil(units=number)


def allow_until_text(end: AllowUntil) -> str:
    """Return `3x`, `1.5x` or `4500 units`."""
    return f"{end.units} units" if end.times is None else f"{decimal_text(end.times)}x"


def read_hold(text: str) -> int:
    """Return the seconds of `30s`, `5m` or `1h`."""
    hold = HOLD.fullmatch(text)
    hold_s = int(hold[1]) * _HOLDS_S[hold[2]] if hold else 0
    if not 1 <= hold_s <= LONGEST_HOLD_S:
        raise InputError("hold", f"{shown(text)} is not from 1s to 24h", "write 30s, 5m or 1h")
    return hold_s


def hold_text(hold_s: int) -> str:
    """Return the seconds in the largest unit that divides them: `90s`, `5m`."""
    unit = next(unit for unit, length_s in _HOLDS_S.items() if hold_s % length_s == 0)
    return f"{hold_s // _HOLDS_S[unit]}{unit}"


def read_percent(text: str) -> Decimal:
    """Return a percentage such as `10` or `2.5`, from 0 to 100 in hundredths."""
    if not PERCENT.fullmatch(text):
        raise InputError("rollout", f"{shown(text)} is not a percentage", "write a number from 0 to 100, such as 2.5")
    return Decimal(text)


def read_share(text: str) -> int:
    """Return the whole percents of `10%`."""
    share = SHARE.fullmatch(text)
    if share is None:
        raise InputError("share", f"{shown(text)} is not a share", "write 10%; from 1% to 99%")
    return int(share[1])


def read_statuses(text: str) -> tuple[int, int]:
    """Return the first and the last status of `5xx`, `429` or `500-503`."""
    statuses = STATUSES.fullmatch(text)
    if statuses is None:
        mend = "write 5xx, 429 or 500-503; statuses are 100 to 599"
        raise InputError("refund_on", f"{shown(text)} is no status", mend)
    if statuses[1]:
        return int(statuses[1]) * _HUNDRED, int(statuses[1]) * _HUNDRED + _HUNDRED - 1
    first, last = int(statuses[2]), int(statuses[3] or statuses[2])
    if last < first:
        raise InputError("refund_on", f"{shown(text)} ends before it begins", f"write {last}-{first}")
    return first, last


def statuses_text(first: int, last: int) -> str:
    """Return `5xx`, `429` or `500-503`."""
    if first % _HUNDRED == 0 and last == first + _HUNDRED - 1:
        return f"{first // _HUNDRED}xx"
    return str(first) if first == last else f"{first}-{last}"


def decimal_text(number: Decimal) -> str:
    """Return a decimal without exponent and without zeros that say nothing: `49`, `0.0004`."""
    return f"{number.normalize():f}"
