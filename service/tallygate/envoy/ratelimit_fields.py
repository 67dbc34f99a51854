"""The RateLimit and RateLimit-Policy fields: draft-ietf-httpapi-ratelimit-headers-10, in this one file.

Pure. Choices where the draft leaves them: `w` is left out for months and years, whose length changes, and
for windows that are not whole seconds. `qu` is left out for requests (the draft's default), is
`content-bytes` for bytes, and for any other meter is the meter's own name: unregistered, but leaving it out
would claim requests. `tallygate-burst` is ours. Shadow limits are never shown: they decide nothing.
"""

from collections.abc import Sequence

from tallygate.core.periods import PeriodUnit
from tallygate.envoy.structured_fields import LARGEST_INTEGER, BareItem, item
from tallygate.licenses.routes import DEFAULT_METER
from tallygate.limits.limit import Limit, LimitKind
from tallygate.limits.limiter import LimitState

_SECOND_US = 1_000_000
_WINDOW_S = {
    PeriodUnit.MINUTE: 60,
    PeriodUnit.HOUR: 3_600,
    PeriodUnit.DAY: 86_400,
    PeriodUnit.WEEK: 604_800,
}
_QUOTA_UNITS = {"bytes": "content-bytes"}


def ratelimit_policy(states: Sequence[LimitState]) -> str:
    """Return the value of RateLimit-Policy, empty when no limit is to be shown."""
    return ", ".join(_policy(state.limit) for state in states if not state.limit.is_shadow)


def ratelimit(states: Sequence[LimitState]) -> str:
    """Return the value of RateLimit, empty when no limit is to be shown."""
    return ", ".join(_service_limit(state) for state in states if not state.limit.is_shadow)


def _policy(limit: Limit) -> str:
    parameters: list[tuple[str, BareItem]] = [("q", _units(limit.amount))]
    if limit.meter != DEFAULT_METER:
        parameters.append(("qu", _QUOTA_UNITS.get(limit.meter, limit.meter)))
    window_s = _window_s(limit)
    if window_s is not None:
        parameters.append(("w", window_s))
    if limit.kind is LimitKind.RATE and limit.burst:
        parameters.append(("tallygate-burst", _units(limit.burst)))
    return item(limit.name, parameters)


def _service_limit(state: LimitState) -> str:
    parameters: list[tuple[str, BareItem]] = [("r", _units(state.remaining))]
    if state.reset_s is not None:
        parameters.append(("t", _units(state.reset_s)))
    return item(state.limit.name, parameters)


def _window_s(limit: Limit) -> int | None:
    if limit.kind is LimitKind.RATE:
        whole_s, rest_us = divmod(limit.window_us, _SECOND_US)
        return whole_s if whole_s and not rest_us else None
    if limit.kind is LimitKind.QUOTA and limit.calendar is not None:
        return _WINDOW_S.get(limit.calendar.unit)
    return None


def _units(number: int) -> int:
    return min(max(number, 0), LARGEST_INTEGER)
