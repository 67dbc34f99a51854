"""`tallygate.v1.UsageService` on the wire: messages read, each item done, answers written.

Owns the translation, and that one bad item spoils no other. Does not own what is done (`reporting`, `settling`,
`introspection`). Items of a call are done `AT_ONCE` at a time. Failure: InputError for a message that cannot be read,
or holds more than `MOST_ITEMS`; everything else is the result of its item. No token is ever written anywhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from tallygate._proto.v1 import usage_pb2 as wire
from tallygate.core.errors import DependencyError, InputError, NotFoundError
from tallygate.decision.outcomes import read_receipt
from tallygate.limits.limiter import LimitOutcome, LimitState
from tallygate.services.introspection import Introspection, Question, Standing
from tallygate.services.reporting import Report, Reporting
from tallygate.services.settling import Settled, Settling

SERVICE = wire.DESCRIPTOR.services_by_name["UsageService"].full_name
MOST_ITEMS = 1_000
AT_ONCE = 32
_log = structlog.get_logger("tallygate.services")
_RESULTS = {
    Settled.SETTLED: wire.RESULT_DONE,
    Settled.REPEATED: wire.RESULT_REPEATED,
    Settled.UNKNOWN: wire.RESULT_UNKNOWN,
}

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
_Request = TypeVar("_Request", bound=Message)


class UsageService:
    """The methods, from bytes to bytes."""

    def __init__(self, reporting: Reporting, settling: Settling, introspection: Introspection) -> None:
        """Take what does the work."""
        self._reporting = reporting
        self._settling = settling
        self._introspection = introspection

    def methods(self) -> dict[str, Callable[[bytes], Awaitable[bytes]]]:
        """Return the handlers by their full path."""
        each = {"Report": self.report, "Settle": self.settle, "Introspect": self.introspect}
        return {f"/{SERVICE}/{name}": handler for name, handler in each.items()}

    async def report(self, request: bytes) -> bytes:
        """Charge the reports of a ReportRequest."""
        reports = _read(wire.ReportRequest, request).reports
        results = await _each(
            reports, self._reported, lambda result, problem: wire.ReportResult(result=result, problem=problem)
        )
        return wire.ReportResponse(results=results).SerializeToString()

    async def settle(self, request: bytes) -> bytes:
        """Settle the receipts of a SettleRequest."""
        settlements = _read(wire.SettleRequest, request).settlements
        results = await _each(
            settlements, self._settled, lambda result, problem: wire.SettleResult(result=result, problem=problem)
        )
        return wire.SettleResponse(results=results).SerializeToString()

    async def introspect(self, request: bytes) -> bytes:
        """Answer an IntrospectRequest."""
        asked = _read(wire.IntrospectRequest, request)
        question = Question(asked.token, asked.method, asked.path, asked.client_address)
        return _standing(await self._introspection.ask(question)).SerializeToString()

    async def _reported(self, item: wire.UsageReport) -> wire.ReportResult:
        verdict = await self._reporting.charge(
            Report(
                idempotency_key=item.idempotency_key,
                units=dict(item.units),
                route=item.route,
                token=item.token,
                family=item.holder.family,
                subscription=item.holder.subscription,
            )
        )
        result = wire.RESULT_REPEATED if verdict.is_repeat else wire.RESULT_DONE
        return wire.ReportResult(result=result, limits=map(_state, verdict.states))

    async def _settled(self, item: wire.Settlement) -> wire.SettleResult:
        receipt = read_receipt(item.receipt)
        if receipt is None:
            raise InputError("receipt", "is none", "send x-tallygate-receipt as it came")
        return wire.SettleResult(result=_RESULTS[await self._settling.by_report(*receipt, dict(item.units))])


def _read(kind: type[_Request], request: bytes) -> _Request:
    try:
        return kind.FromString(request)
    except DecodeError:
        raise InputError("message", f"the bytes are no {kind.DESCRIPTOR.name}") from None


async def _each(
    items: Iterable[_Item], do: Callable[[_Item], Awaitable[_Answer]], failed: Callable[[wire.Result, str], _Answer]
) -> list[_Answer]:
    """Do every item; what one raises is its own result."""
    every = list(items)
    if len(every) > MOST_ITEMS:
        raise InputError("items", f"{len(every)} are too many for one call", f"at most {MOST_ITEMS}")
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(item: _Item) -> _Answer:
        async with turns:
            try:
                return await do(item)
            except Exception as error:  # noqa: BLE001 - its neighbours are done all the same
                return failed(*_failure(error))

    return await asyncio.gather(*map(one, every))


def _failure(error: Exception) -> tuple[wire.Result, str]:
    match error:
        case NotFoundError():
            return wire.RESULT_UNKNOWN, str(error)
        case InputError():
            return wire.RESULT_INVALID, str(error)
        case DependencyError():
            return wire.RESULT_UNAVAILABLE, f"{error.dependency} did not answer"
        case _:
            _log.error("an item failed", kind=type(error).__name__)
            return wire.RESULT_UNAVAILABLE, "internal error"


def _standing(told: Standing) -> wire.IntrospectResponse:
    answer = wire.IntrospectResponse(is_active=told.is_active, reason=told.reason, limits=map(_state, told.states))
    license_, phase = told.license, told.phase
    if license_ is None or phase is None:
        return answer
    answer.customer, answer.subscription, answer.family = license_.customer, license_.subscription, license_.family
    answer.plan = phase.grant.plan
    answer.scopes.extend(sorted(license_.scopes_under(phase.grant)))
    answer.features.update(phase.grant.features)
    if license_.expires_at is not None:
        answer.expires_at.FromDatetime(license_.expires_at)
    return answer


def _state(state: LimitState) -> wire.LimitState:
    limit = state.limit
    return wire.LimitState(
        name=limit.name,
        kind=limit.kind.value,
        meter=limit.meter,
        amount=limit.amount,
        remaining=state.remaining,
        is_exceeded=state.outcome is not LimitOutcome.OK,
        reset_s=state.reset_s,
    )
