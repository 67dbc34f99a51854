"""A span for a decision, and one for each thing it may wait for: the license and the limits.

Spans hold ids, reasons and plans; never a token, a header's value or the path a caller wrote. Who is recorded: requests
whose trace is (`traceparent`), and of those that belong to none as many as the ratio says. All others go straight to
the pipeline. Any number of checks run at once.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from tallygate.decision.decision import Allow, CheckInput, Decision, Reason
from tallygate.decision.pipeline import LicenseSource, Pipeline
from tallygate.licenses.license import License
from tallygate.licenses.routes import RouteTable
from tallygate.limits.limiter import Acquirer, Acquisition, Subject, Verdict
from tallygate.traces.parent import Parent, parent_of

_OUR_FAILURES = {Reason.OVERLOADED, Reason.DEPENDENCY_DOWN}


class TracedChecks:
    """Decides as the pipeline does, and records some of it."""

    def __init__(
        self, pipeline: Pipeline, tracer: Tracer, ratio: float, draw: Callable[[], float] = random.random
    ) -> None:
        """Record this share (0 to 1) of requests that belong to no trace; `draw` gives numbers from 0 to below 1."""
        self._pipeline = pipeline
        self._tracer = tracer
        self._ratio = ratio
        self._draw = draw

    async def check(self, asked: CheckInput) -> Decision:
        """Decide one request."""
        traceparent = asked.headers.get("traceparent")
        parent = parent_of(traceparent) if traceparent else None
        is_recorded = self._draw() < self._ratio if parent is None else parent.is_sampled
        return await (self._recorded(asked, parent) if is_recorded else self._pipeline.check(asked))

    async def _recorded(self, asked: CheckInput, parent: Parent | None) -> Decision:
        with _span(self._tracer, "tallygate.check", _within(parent), SpanKind.SERVER) as span:
            under = Children(self._tracer, set_span_in_context(span, Context()))
            decision = await self._pipeline.through(under.licenses, under.limiter).check(asked)
            _describe(span, decision)
        return decision


class Children:
    """Makes what a decision waits for tell how long that took. Handed along: no context of a task is relied on."""

    def __init__(self, tracer: Tracer, within: Context) -> None:
        """Make spans under the one in `within`."""
        self._tracer = tracer
        self._within = within

    def licenses(self, source: LicenseSource) -> LicenseSource:
        """Return `source`, recorded."""
        return _Licenses(source, self)

    def limiter(self, limiter: Acquirer) -> Acquirer:
        """Return `limiter`, recorded."""
        return _Limiter(limiter, self)

    @contextmanager
    def span(self, name: str) -> Iterator[Span]:
        """Record a step."""
        with _span(self._tracer, name, self._within, SpanKind.INTERNAL) as span:
            yield span


class _Licenses(LicenseSource):
    def __init__(self, source: LicenseSource, under: Children) -> None:
        self._source = source
        self._under = under

    @property
    def routes(self) -> RouteTable:
        return self._source.routes

    def at_hand(self, digests: Sequence[bytes]) -> License | None:
        found = self._source.at_hand(digests)
        if found is not None:  # else `get` is asked next, and that is the step
            with self._under.span("license") as span:
                span.set_attribute("tallygate.license.at_hand", True)  # noqa: FBT003 - the library's form
        return found

    async def get(self, digests: Sequence[bytes]) -> License | None:
        with self._under.span("license") as span:
            span.set_attribute("tallygate.license.at_hand", False)  # noqa: FBT003
            found = await self._source.get(digests)
            span.set_attribute("tallygate.license.is_known", found is not None)
        return found


class _Limiter(Acquirer):
    def __init__(self, limiter: Acquirer, under: Children) -> None:
        self._limiter = limiter
        self._under = under

    async def acquire(self, acquisition: Acquisition) -> Verdict:
        with self._under.span("limits") as span:
            span.set_attribute("tallygate.limits", [charge.limit.name for charge in acquisition.charges])
            verdict = await self._limiter.acquire(acquisition)
            span.set_attribute("tallygate.limits.is_admitted", verdict.is_admitted)
        return verdict

    async def peek(self, acquisition: Acquisition) -> Verdict:
        return await self._limiter.peek(acquisition)

    async def first_used_at(self, subject: Subject, *, is_look: bool = False) -> datetime | None:
        return await self._limiter.first_used_at(subject, is_look=is_look)


@contextmanager
def _span(tracer: Tracer, name: str, within: Context, kind: SpanKind) -> Iterator[Span]:
    """Record a step. Of an error its type is told: what it says may quote a header."""
    span = tracer.start_span(name, within, kind)
    try:
        yield span
    except BaseException as error:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        span.end()


def _within(parent: Parent | None) -> Context:
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)
    asked_by = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(asked_by), Context())


def _describe(span: Span, decision: Decision) -> None:
    span.set_attribute("tallygate.decision", "allow" if isinstance(decision, Allow) else "deny")
    span.set_attribute("tallygate.decision_id", decision.decision_id)
    span.set_attribute("tallygate.reason", decision.reason.value)
    if decision.phase is not None:
        span.set_attribute("tallygate.plan", decision.phase.grant.plan)
    if decision.route is not None:
        span.set_attribute("tallygate.route", decision.route.text)
    if decision.degraded is not None:
        span.set_attribute("tallygate.degraded", str(decision.degraded))
    if decision.reason in _OUR_FAILURES:
        span.set_status(Status(StatusCode.ERROR, decision.reason.value))
