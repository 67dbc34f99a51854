"""Values as people type them: durations and instants."""

import re
from datetime import UTC, datetime, timedelta

from tallygate.core.errors import InputError

_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_YEARS = range(2000, 3000)  # far enough, and no calendar computed from it leaves what a datetime can hold


def duration(field: str, text: str) -> timedelta:
    """Read `30s`, `15m`, `24h`, `30d` or `2w`; raise InputError naming `field`."""
    match = _DURATION.fullmatch(text.strip())
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else _no_duration(field, text)
    except OverflowError:
        return _no_duration(field, text)


def instant(field: str, text: str, now: datetime) -> datetime:
    """Read an ISO 8601 instant (UTC unless it says otherwise), or a duration from `now`."""
    try:
        at = now + duration(field, text) if _DURATION.fullmatch(text.strip()) else datetime.fromisoformat(text.strip())
    except ValueError:
        mend = "write 2027-01-31T12:00:00Z, or a duration from now such as 30d"
        raise InputError(field, f"{text!r} is no instant", mend) from None
    except OverflowError:
        raise _too_far(field, text) from None
    if at.year not in _YEARS:
        raise _too_far(field, text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _too_far(field: str, text: str) -> InputError:
    return InputError(field, f"{text!r} lies too far away", f"choose a year from {_YEARS[0]} to {_YEARS[-1]}")


def past_instant(field: str, text: str, now: datetime) -> datetime:
    """Read an instant as `instant` does, a duration being one before `now`."""
    if _DURATION.fullmatch(text.strip()):
        try:
            return now - duration(field, text)
        except OverflowError:
            raise InputError(field, f"{text!r} lies too far back", "choose a later instant") from None
    return instant(field, text, now)


def _no_duration(field: str, text: str) -> timedelta:
    raise InputError(field, f"{text!r} is no duration", "write a number and s, m, h, d or w, such as 24h")
