"""The RateLimit and RateLimit-Policy fields: draft-ietf-httpapi-ratelimit-headers-10, in this one file.

Pure but for `KeptFields`. Choices where the draft leaves them: `w` is left out for months and years, whose length
changes, and for windows that are not whole seconds. `qu` is left out for requests (the draft's default), is
`content-bytes` for bytes, and for any other meter is the meter's own name: unregistered, but leaving it out
would claim requests. `tallygate-burst` is ours. Shadow limits are never shown: they decide nothing.
"""

from collections.abc import Sequence

from tallygate.core.periods import PeriodUnit
from tallygate.envoy.kept import Kept
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
    return LimitFields([state.limit for state in states]).policy


def ratelimit(states: Sequence[LimitState]) -> str:
    """Return the value of RateLimit, empty when no limit is to be shown."""
    return LimitFields([state.limit for state in states]).ratelimit(states)


class KeptFields:
    """The fields of limits that come again and again, written down once. For one event loop."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept: Kept[LimitFields] = Kept()

    def of(self, states: Sequence[LimitState]) -> "LimitFields":
        """Return the fields of the limits of these states."""
        key = tuple([id(state.limit) for state in states])
        return self._kept.get(key) or self._keep(key, states)

    def _keep(self, key: tuple[int, ...], states: Sequence[LimitState]) -> "LimitFields":
        limits = [state.limit for state in states]
        return self._kept.put(key, LimitFields(limits), limits)


class LimitFields:
    """Both fields of the same limits, answer after answer; `policy` is empty when no limit is to be shown."""

    __slots__ = ("_names", "_usual", "policy")

    def __init__(self, limits: Sequence[Limit]) -> None:
        """Write down what stays the same."""
        self.policy = ", ".join(_policy(limit) for limit in limits if not limit.is_shadow)
        self._names = [None if limit.is_shadow else f"{item(limit.name)};r=" for limit in limits]
        # All at once where each is shown with its reset: this is written for every request.
        names = [name.replace("%", "%%") for name in self._names if name is not None]
        self._usual = ", ".join(f"{name}%d;t=%d" for name in names) if len(names) == len(limits) else None

    def ratelimit(self, states: Sequence[LimitState]) -> str:
        """Return the value of RateLimit for states of these limits, empty when no limit is to be shown."""
        numbers: list[int] = []
        for _, _, remaining, _, reset_s, _ in states:
            if reset_s is None or not 0 <= remaining <= LARGEST_INTEGER or not 0 <= reset_s <= LARGEST_INTEGER:
                return self._unusual(states)
            numbers += remaining, reset_s
        return self._unusual(states) if self._usual is None else self._usual % tuple(numbers)

    def _unusual(self, states: Sequence[LimitState]) -> str:
        shown = []
        for name, (_, _, remaining, _, reset_s, _) in zip(self._names, states, strict=True):
            if name is not None:
                reset = "" if reset_s is None else f";t={_units(reset_s)}"
                shown.append(f"{name}{_units(remaining)}{reset}")
        return ", ".join(shown)


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


def _window_s(limit: Limit) -> int | None:
    if limit.kind is LimitKind.RATE:
        whole_s, rest_us = divmod(limit.window_us, _SECOND_US)
        return whole_s if whole_s and not rest_us else None
    if limit.kind is LimitKind.QUOTA and limit.calendar is not None:
        return _WINDOW_S.get(limit.calendar.unit)
    return None


def _units(number: int) -> int:
    if 0 <= number <= LARGEST_INTEGER:
        return number
    return 0 if number < 0 else LARGEST_INTEGER
