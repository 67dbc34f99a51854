"""What the scripts in `lua/` are sent and what they answer: the one place that knows both layouts, described there.

Pure but for the guess of the present. Does not own the connection, retries or time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from tallygate.limits.algorithms import instant
from tallygate.limits.judgement import OUTCOMES, limit_state
from tallygate.limits.keys import (
    Place,
    first_use_key,
    holder,
    holding_key,
    idempotency_key,
    places,
    usage_field,
    usage_prefix,
)
from tallygate.limits.limit import EXACT_INTEGER, Limit, LimitKind
from tallygate.limits.limiter import IDEMPOTENCY_TTL_S, Acquisition, LimitState, Subject, Verdict
from tallygate.limits.present import Present

Mode = Literal["acquire", "peek"]
Arguments = list[str | int]
Call = tuple[list[str], Arguments]
"""KEYS and ARGV of a script."""


def _lua(name: str) -> str:
    return files("tallygate.limits").joinpath("lua", name).read_text(encoding="utf-8")


ACQUIRE_LUA = _lua("acquire.lua")
RELEASE_LUA = _lua("release.lua")
FIRST_USE_LUA = _lua("first_use.lua")


@dataclass(frozen=True, slots=True)
class Scripts:
    """The texts that run in Redis; a seam for tests, which replace the line that reads the clock."""

    acquire: str = ACQUIRE_LUA
    release: str = RELEASE_LUA
    first_use: str = FIRST_USE_LUA


_SECOND_US = 1_000_000
_ADMITTED, _STALE = 1, 2
_HEAD = 3
_PER_CHARGE = 4
_NEVER = -1


def request(mode: Mode, acquisition: Acquisition, present: Present) -> Call:
    """Return KEYS and ARGV of `acquire.lua`."""
    charged = places(acquisition)
    records = list(dict.fromkeys(place.key for where in charged for place in where))
    meters = {meter: number for number, (meter, _) in enumerate(acquisition.usage, start=1)}
    keys = [usage_prefix(acquisition.subject.customer), *records]
    arguments: Arguments = [mode, len(records), len(charged), len(acquisition.usage), 0]
    if acquisition.idempotency_key is not None:
        asked = acquisition.subject.customer, acquisition.idempotency_key
        keys.append(idempotency_key(*asked))
        if any(charge.limit.kind is LimitKind.CONCURRENCY for charge in acquisition.charges):
            keys.append(holding_key(*asked))
        arguments[-1] = IDEMPOTENCY_TTL_S * 1000
    for charge, where in zip(acquisition.charges, charged, strict=True):
        limit, own = charge.limit, where[0]
        arguments += (records.index(own.key) + 1, own.field, limit.kind, int(limit.is_shadow))
        arguments += (meters.get(limit.meter, 0), charge.cost)
        arguments += _terms(limit, where[1:], records, present)
    for meter, units in acquisition.usage:
        arguments += (usage_field(acquisition.subject, meter, acquisition.route), units)
    return keys, arguments


def release_request(subject: Subject, request_id: str) -> Call:
    """Return KEYS and ARGV of `release.lua`."""
    return [holding_key(subject.customer, request_id)], [holder(request_id)]


def first_use_request(subject: Subject, *, is_look: bool) -> Call:
    """Return KEYS and ARGV of `first_use.lua`."""
    return [first_use_key(subject)], ["look" if is_look else "use"]


def stale_at_us(reply: Sequence[int]) -> int | None:
    """Return Redis's time if the reply says that a period did not contain it, else None."""
    return reply[1] if reply[0] == _STALE else None


def verdict(acquisition: Acquisition, reply: Sequence[int]) -> Verdict:
    """Return what a reply that is not stale says."""
    states = tuple(
        _state(charge.limit, reply[at : at + _PER_CHARGE])
        for at, charge in zip(range(_HEAD, len(reply), _PER_CHARGE), acquisition.charges, strict=True)
    )
    return Verdict(is_admitted=reply[0] == _ADMITTED, is_repeat=reply[2] == 1, states=states, at=instant(reply[1]))


def _terms(limit: Limit, buckets: Sequence[Place], records: list[str], present: Present) -> Arguments:
    """Return what a limit of this kind allows at present."""
    match limit.kind:
        case LimitKind.RATE:
            return [limit.amount, limit.burst, limit.window_us]
        case LimitKind.QUOTA if limit.calendar is not None:
            up_to = EXACT_INTEGER - 1 if limit.admits_up_to is None else limit.admits_up_to
            return [limit.amount, up_to, *present.period(limit.calendar)]
        case LimitKind.QUOTA:
            message = "a quota needs a calendar"
            raise ValueError(message)
        case LimitKind.CREDITS:
            return _credits(limit, buckets, records, present)
        case LimitKind.CONCURRENCY:
            return [limit.amount, limit.hold_s * _SECOND_US]


def _credits(limit: Limit, buckets: Sequence[Place], records: list[str], present: Present) -> Arguments:
    balance = present.balance(limit)
    terms: Arguments = [balance.amount, balance.up_to, balance.since_us, balance.until_us]
    terms += (balance.gain_at_us, balance.gain, len(balance.buckets))
    for number in balance.buckets:
        terms += (records.index(buckets[number].key) + 1, buckets[number].field, limit.buckets[number].amount)
    return terms


def _state(limit: Limit, reported: Sequence[int]) -> LimitState:
    outcome, remaining, retry_us, reset_us = reported
    return limit_state(
        limit,
        OUTCOMES[outcome],
        remaining,
        None if retry_us == _NEVER else retry_us,
        None if reset_us == _NEVER else reset_us,
    )
