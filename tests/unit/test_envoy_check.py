"""The servicer answers every question wholly, whatever happens inside."""

import asyncio
from collections.abc import Callable

import pytest
from support.decisions import TOKEN, allow, deny
from support.envoy_oracle import CheckResponse, check_request, parse_response

from tallygate.core.errors import LimiterUnavailableError
from tallygate.decision.decision import CheckInput, Decision, Reason
from tallygate.envoy.check import SERVICE_PATH, Check
from tallygate.envoy.responses import ResponseWriter

REQUEST = check_request(headers={"authorization": f"Bearer {TOKEN}"})


class Recorder:
    """A pipeline that decides as told, and what the check told the outside."""

    def __init__(self, decide: Callable[[CheckInput], Decision]) -> None:
        """Take what to decide."""
        self._decide = decide
        self.observed: list[tuple[Decision, float]] = []
        self.reports: list[str] = []
        self._readings = iter((10.0, 10.25))
        self.check_one = Check(
            self,
            ResponseWriter(),
            lambda decision, seconds: self.observed.append((decision, seconds)),
            self.reports.append,
            monotonic=lambda: next(self._readings),
        )

    async def check(self, asked: CheckInput) -> Decision:
        """Decide."""
        return self._decide(asked)

    async def answer(self, request: bytes = REQUEST) -> CheckResponse:
        """Ask one question."""
        return parse_response(await self.check_one(request))


def failing(error: BaseException) -> Callable[[CheckInput], Decision]:
    """Return a decision that is this error."""

    def fail(_: CheckInput) -> Decision:
        raise error

    return fail


def test_the_path_is_envoys() -> None:
    """Envoy calls this path and no other."""
    assert SERVICE_PATH == "/envoy.service.auth.v3.Authorization/Check"


async def test_a_decision_is_answered_and_counted_once() -> None:
    """Each decision is seen by the metrics with the time it took."""
    decision = allow()
    recorder = Recorder(lambda _: decision)
    answer = await recorder.answer()
    assert answer.ok_response is not None
    assert recorder.observed == [(decision, 0.25)]
    assert recorder.reports == []


@pytest.mark.parametrize(
    "error", [RuntimeError("boom"), LimiterUnavailableError("no answer"), KeyError(TOKEN), RecursionError()]
)
async def test_an_exception_is_a_clean_error_response(error: Exception) -> None:
    """A bug or a lost dependency is neither an allow nor a bare gRPC error: it is a whole 503."""
    recorder = Recorder(failing(error))
    answer = await recorder.answer()
    assert answer.status is not None
    assert answer.status.code == 14
    assert answer.error_response is not None
    assert answer.error_response.status is not None
    assert answer.error_response.status.code == 503
    assert '"reason": "internal_error"' in answer.error_response.body
    assert recorder.observed == []


async def test_a_decision_that_cannot_be_written_is_an_error_too() -> None:
    """A Deny with an allowing reason is a bug, and a bug lets nobody pass."""
    recorder = Recorder(lambda _: deny(Reason.OK))
    assert (await recorder.answer()).error_response is not None
    assert recorder.reports[0].startswith("KeyError")


@pytest.mark.parametrize("request_bytes", [b"", b"\xff\xff"])
async def test_unreadable_bytes_are_an_error_response(request_bytes: bytes) -> None:
    """What is no CheckRequest is answered by 500 and INTERNAL."""
    recorder = Recorder(lambda _: allow())
    answer = await recorder.answer(request_bytes)
    assert answer.status is not None
    assert answer.status.code == 13
    assert answer.error_response is not None
    assert answer.error_response.status is not None
    assert answer.error_response.status.code == 500


async def test_reports_tell_where_and_hold_no_credential() -> None:
    """An exception's message may quote a header: only our own are told."""
    foreign = Recorder(failing(KeyError(f"Bearer {TOKEN}")))
    await foreign.answer()
    assert foreign.reports[0].startswith("KeyError at test_envoy_check.py:")
    assert "check.py" in foreign.reports[0]
    assert TOKEN not in foreign.reports[0]
    ours = Recorder(failing(LimiterUnavailableError("the store did not answer in 50 ms")))
    await ours.answer()
    assert ours.reports[0].startswith("LimiterUnavailableError: the store did not answer in 50 ms at ")


async def test_a_cancellation_passes_through() -> None:
    """A caller that has gone is not answered, and the task ends as cancelled."""
    recorder = Recorder(failing(asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await recorder.answer()
    assert recorder.reports == []
