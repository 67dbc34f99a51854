"""The servicer of Envoy's ext_authz: read, decide, write, count, return.

Owns the promise that every question gets a whole answer. An exception would reach Envoy as a gRPC error,
and an empty answer means *allowed*; both are ruled out here. Any number of checks run at once; a cancelled
check ends where it stands.
"""

import time
from collections.abc import Callable
from pathlib import PurePath
from traceback import extract_tb
from typing import Protocol

from tallygate.core.errors import TallygateError
from tallygate.decision.decision import CheckInput, Decision
from tallygate.envoy.attributes import read
from tallygate.envoy.responses import ResponseWriter

SERVICE = "envoy.service.auth.v3.Authorization"
SERVICE_PATH = f"/{SERVICE}/Check"


class Decider(Protocol):
    """What decides: the pipeline."""

    async def check(self, asked: CheckInput, /) -> Decision:
        """Decide one request."""
        ...


class Check:
    """Answers one CheckRequest with one CheckResponse, as bytes."""

    def __init__(
        self,
        pipeline: Decider,
        writer: ResponseWriter,
        observe: Callable[[Decision, float], None],
        report: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what decides and what writes.

        `observe` is told each decision and the seconds it took; `report` is told where a check failed, in
        words that hold nothing of the request.
        """
        self._pipeline = pipeline
        self._writer = writer
        self._observe = observe
        self._report = report
        self._monotonic = monotonic

    async def __call__(self, request: bytes) -> bytes:
        """Answer; raises nothing but the cancellation of its task."""
        started_s = self._monotonic()
        asked: CheckInput | None = None
        try:
            asked = read(request)
            decision = await self._pipeline.check(asked)
            answer = self._writer.write(decision, asked)
            self._observe(decision, self._monotonic() - started_s)
        except Exception as error:  # noqa: BLE001 - whatever happened, Envoy must get a whole answer
            self._report(describe(error))
            return self._writer.write_failure(is_readable=asked is not None, asked=asked)
        return answer


def describe(error: Exception) -> str:
    """Return the error's type and the places it came through, innermost first.

    The message is told only of our own errors: one from elsewhere may quote a header, and so a credential.
    """
    said = f": {error}" if isinstance(error, TallygateError) else ""
    places = [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in extract_tb(error.__traceback__)]
    return f"{type(error).__name__}{said} at {' < '.join(reversed(places))}"
