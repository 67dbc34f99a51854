"""What the scripts in `lua/` are sent and what they answer: the one place that knows both layouts, described there.

Pure but for the guess of the present. Does not own the connection, retries or time.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from tallygate.limits.judgement import OUTCOMES, entry_of, needed_id
from tallygate.limits.keys import (
    ALLOWED,
    COUNTED,
    EXPIRY_FIELD,
    OVERAGE,
    Owner,
    Place,
    due_key,
    due_member,
    first_use_key,
    holder,
    holding_key,
    idempotency_key,
    index_key,
    places,
    receipt_key,
    report_key,
    usage_field,
    usage_prefix,
)
from tallygate.limits.limit import EXACT_INTEGER, Limit, LimitKind, unenforceable
from tallygate.limits.limiter import (
    REPORT_TTL_S,
    Acquisition,
    Charge,
    LimitOutcome,
    LimitState,
    Subject,
    Verdict,
)
from tallygate.limits.present import Present
from tallygate.limits.receipt_form import GIVEN_BACK_WITHIN_S, receipt_head

Mode = Literal["acquire", "peek", "report"]
Call = tuple[list[str], list[str | bytes]]
"""KEYS and ARGV of a script."""


def _lua(name: str) -> str:
    return files("tallygate.limits").joinpath("lua", name).read_text(encoding="utf-8")


ACQUIRE_LUA = _lua("acquire.lua")
RELEASE_LUA = _lua("release.lua")
FIRST_USE_LUA = _lua("first_use.lua")
AMEND_LUA = _lua("amend.lua")


@dataclass(frozen=True, slots=True)
class Scripts:
    """The texts that run in Redis; a seam for tests, which replace the line that reads the clock."""

    acquire: str = ACQUIRE_LUA
    release: str = RELEASE_LUA
    first_use: str = FIRST_USE_LUA
    amend: str = AMEND_LUA


_SECOND_US = 1_000_000
KIND_NUMBERS = {LimitKind.RATE: 1, LimitKind.QUOTA: 2, LimitKind.CREDITS: 3, LimitKind.CONCURRENCY: 4}
_FOUND = (0, 0, 0, 0)
"""Room for what the script finds out of a charge."""
_HELD = LimitKind.CONCURRENCY
_RARE = (LimitKind.CREDITS, LimitKind.CONCURRENCY)
_ZERO, _YES, _STALE = b"012"
_FLAGS = 2
_made = tuple.__new__
_TEXTS_AT = 6
_MODES: dict[Mode, int] = {"acquire": 0, "peek": 1, "report": 2}
_NEVER = -1


class Form:
    """An acquisition as the script is sent it: all that does not change from one request of its kind to the next.

    Raises ValueError for what cannot be counted exactly.
    """

    def __init__(self, acquisition: Acquisition) -> None:
        """Lay out keys and texts; `numbers` and the request's id are added for each call."""
        for charge in acquisition.charges:
            _check(charge)
        self._acquisition = acquisition
        self._charged = places(acquisition)
        self._fields: dict[str, list[str]] = {}
        for charge, where in zip(acquisition.charges, self._charged, strict=True):
            for place in where:
                self._add(place, is_field=charge.limit.kind is not LimitKind.CONCURRENCY)
        self._records = {key: number for number, key in enumerate(self._fields, start=1)}
        self._counted = [field for fields in self._fields.values() for field in fields]
        self._entries = {meter: number for number, (meter, _) in enumerate(acquisition.usage, start=1)}
        self._is_rare = any(charge.limit.kind in _RARE for charge in acquisition.charges)
        self.has_holds = any(charge.limit.kind is LimitKind.CONCURRENCY for charge in acquisition.charges)

    def call(self, mode: Mode, request_id: str | None, present: Present) -> Call:
        """Return KEYS and ARGV of `acquire.lua`."""
        keys, arguments = self._keys(mode, request_id), self._arguments(mode, request_id, present)
        if mode == "acquire" and self._acquisition.receipt_s:
            self._add_receipt(keys, arguments, request_id, present)
        return keys, arguments

    def _keys(self, mode: Mode, request_id: str | None) -> list[str]:
        customer = self._acquisition.subject.customer
        found = [usage_prefix(customer), *self._records]
        if request_id is not None:
            found.append((report_key if mode == "report" else idempotency_key)(customer, request_id))
            if self.has_holds:
                found.append(holding_key(customer, request_id))
        return found

    def _arguments(self, mode: Mode, request_id: str | None, present: Present) -> list[str | bytes]:
        numbers = self._numbers(mode, request_id, present)
        members = [holder(request_id) for charge in self._acquisition.charges if charge.limit.kind is _HELD]
        index = index_key(self._acquisition.subject.customer)
        texts = (*self._counted, *members, index, *self._usage(is_report=mode == "report"))
        return packed_arguments(numbers, texts)

    def _add_receipt(
        self, keys: list[str], arguments: list[str | bytes], request_id: str | None, present: Present
    ) -> None:
        asked = self._acquisition
        request = asked.subject.customer, needed_id(request_id)
        keys.append(receipt_key(*request))
        arguments += (receipt_head(asked, self._charged, present.balance), f"{asked.receipt_s * 1000}")
        if asked.unsettled:
            keys.append(due_key(asked.subject.customer))
            arguments += (due_member(*request), f"{GIVEN_BACK_WITHIN_S * 1000}")

    def _add(self, place: Place, *, is_field: bool) -> None:
        fields = self._fields.setdefault(place.key, [EXPIRY_FIELD] if is_field else [])
        if is_field and place.field not in fields:
            fields.append(place.field)

    def _numbers(self, mode: Mode, request_id: str | None, present: Present) -> list[int]:
        asked = self._acquisition
        lives_s = REPORT_TTL_S if mode == "report" else asked.known_s
        remember_ms = 0 if request_id is None else lives_s * 1000
        numbers = [_MODES[mode], len(self._records), len(asked.charges), len(asked.usage), remember_ms]
        numbers += (
            int(self._is_rare),
            0,
            *(len(fields) for fields in self._fields.values()),
            *([0] * len(self._fields)),
        )
        member = len(self._counted)
        for charge, where in zip(asked.charges, self._charged, strict=True):
            limit, record = charge.limit, self._records[where[0].key]
            member += limit.kind is _HELD
            text = member if limit.kind is _HELD else self._text(where[0])
            entry = self._entries.get(limit.meter, 0)
            numbers += (KIND_NUMBERS[limit.kind], record, text, int(limit.is_shadow), entry, charge.cost)
            numbers += (*_terms(limit, present), *_FOUND)
        numbers += (units for _, units in asked.usage)
        for charge, where in zip(asked.charges, self._charged, strict=True):
            if charge.limit.kind is LimitKind.CREDITS:
                numbers += self._balance(charge.limit, where[1:], present)
        numbers[_TEXTS_AT] = len(numbers)
        return numbers

    def _balance(self, limit: Limit, buckets: Sequence[Place], present: Present) -> list[int]:
        balance = present.balance(limit)
        numbers = [balance.gain_at_us, balance.gain, len(balance.buckets)]
        for number in balance.buckets:
            place = buckets[number]
            numbers += (self._records[place.key], self._text(place), limit.buckets[number].amount)
        return numbers

    def _text(self, place: Place) -> int:
        """Return where a field is among the texts, from 1."""
        before = 0
        for key, fields in self._fields.items():
            if key == place.key:
                return before + fields.index(place.field) + 1
            before += len(fields)
        raise KeyError(place)

    def _usage(self, *, is_report: bool) -> list[str]:
        asked = self._acquisition
        entry, at = entry_of(asked) if is_report else (COUNTED, "")
        owner = Owner(asked.subject.subscription, asked.plan, asked.subject.family)
        return [
            usage_field(owner, meter, outcome, asked.route, entry=entry, at=at)
            for meter, _ in asked.usage
            for outcome in (ALLOWED, OVERAGE)
        ]


def packed_arguments(numbers: Sequence[int], texts: Sequence[str]) -> list[str | bytes]:
    """Return numbers and texts as the scripts unpack them: how they are packed, and themselves."""
    packed = struct.pack(f"<{len(numbers)}d", *numbers) + "".join(f"{text}\0" for text in texts).encode()
    return ["<" + "d" * len(numbers) + "s" * len(texts), packed]


def release_request(subject: Subject, request_id: str) -> Call:
    """Return KEYS and ARGV of `release.lua`."""
    return [holding_key(subject.customer, request_id)], [holder(request_id)]


def first_use_request(subject: Subject, *, is_look: bool) -> Call:
    """Return KEYS and ARGV of `first_use.lua`."""
    return [first_use_key(subject)], ["look" if is_look else "use"]


def is_stale(reply: bytes) -> bool:
    """Say whether a reply of `acquire.lua` is that a period did not contain its time, so nothing was judged."""
    return reply[0] == _STALE


def now_us(stale: bytes) -> int:
    """Return the script's time, µs since 1970, from a reply that is stale."""
    return int.from_bytes(stale[1:9], "little")


def verdict(acquisition: Acquisition, reply: bytes) -> Verdict:
    """Return what a reply that is not stale says."""
    charges = acquisition.charges
    count = len(charges)
    told = _told(count).unpack_from(reply, _FLAGS + count)
    states: list[LimitState] = []
    at = 1
    for limit, _ in charges:
        retry_us, reset_us = told[at + 1], told[at + 2]
        reset_s = None if reset_us == _NEVER else -(-reset_us // _SECOND_US)
        outcome = OUTCOMES[reply[_FLAGS + len(states)] - _ZERO]
        retry_s: int | None = None
        over = 0
        if retry_us != _NEVER:
            if outcome is LimitOutcome.OVERAGE:
                over = retry_us
            else:
                retry_s = -(-retry_us // _SECOND_US)
        # As LimitState(...) does, without the call in between: this runs for every limit of every request.
        states.append(_made(LimitState, (limit, outcome, told[at], retry_s, reset_s, over)))
        at += 3
    return _made(Verdict, (reply[0] == _YES, reply[1] == _YES, tuple(states), told[0]))


@lru_cache
def _told(charges: int) -> struct.Struct:
    """Return how the numbers of a reply of so many charges are packed."""
    return struct.Struct(f"<{1 + 3 * charges}q")


def _check(charge: Charge) -> None:
    """Raise ValueError for what doubles cannot count; plans with such limits are refused long before."""
    problem = unenforceable(charge.limit)
    if problem is None and not 0 <= charge.cost < EXACT_INTEGER:
        problem = "a cost is whole, at least 0 and below 2**53"
    if problem is not None:
        message = f"limit {charge.limit.name!r} cannot be counted: {problem}"
        raise ValueError(message)


def _terms(limit: Limit, present: Present) -> tuple[int, int, int, int]:
    """Return what a limit of this kind allows at present: its amount, and three more."""
    match limit.kind:
        case LimitKind.RATE:
            return limit.amount, limit.burst * limit.window_us, limit.window_us, 0
        case LimitKind.CREDITS:
            balance = present.balance(limit)
            return balance.amount, balance.up_to, balance.since_us, balance.until_us
        case LimitKind.CONCURRENCY:
            return limit.amount, limit.hold_s * _SECOND_US, 0, 0
        case LimitKind.QUOTA:
            assert limit.calendar is not None  # noqa: S101 - it was checked
            up_to = EXACT_INTEGER - 1 if limit.admits_up_to is None else limit.admits_up_to
            return limit.amount, up_to, *present.period(limit.calendar)
