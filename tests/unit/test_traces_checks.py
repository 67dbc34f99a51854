"""What is recorded of a decision, of which decisions, and what never is."""

from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from support.pipelines import TOKEN, UNKNOWN, Desk, credits_of, limits_by_policy, request

from tallygate.decision.decision import Allow, CheckInput, Deny
from tallygate.limits.limit import FailPolicy
from tallygate.traces.checks import TracedChecks

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Recorded:
    """A desk whose decisions are recorded."""

    def __init__(self, ratio: float = 1.0, drawn: tuple[float, ...] = (0.5,)) -> None:
        """Record this share; the draws are as given."""
        self.desk, self._memory, draws = Desk(), InMemorySpanExporter(), iter(drawn * 9)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        tracer = provider.get_tracer("tests")
        self.checks = TracedChecks(self.desk.pipeline, tracer, ratio, lambda: next(draws))

    async def check(self, asked: CheckInput) -> Allow | Deny:
        """Decide a request."""
        await self.desk.put_rules()
        return await self.checks.check(asked)

    def spans(self) -> dict[str, ReadableSpan]:
        """Return the spans by their names, of which each is there once."""
        found = self._memory.get_finished_spans()
        by_name = {span.name: span for span in found}
        assert len(found) == len(by_name)
        return by_name


def part_of(flags: str, **more: str) -> CheckInput:
    """Return a request that is part of a trace."""
    given = {"authorization": f"Bearer {TOKEN.text}", "traceparent": f"00-{TRACE}-{SPAN}-{flags}"}
    return request(headers=given | more)


async def test_a_decision_and_what_it_waits_for_are_recorded() -> None:
    """A span of the decision, with what it came to; under it one for the license and one for the limits."""
    recorded = Recorded()
    recorded.desk.issue(credits_of("prepaid", 5))
    await recorded.desk.check()
    decision = await recorded.check(request())
    assert isinstance(decision, Allow)
    spans = recorded.spans()
    check, license_, limits = (spans[name] for name in ("tallygate.check", "license", "limits"))
    assert dict(check.attributes or {}) == {
        "tallygate.decision": "allow",
        "tallygate.decision_id": decision.decision_id,
        "tallygate.reason": "ok",
        "tallygate.plan": "pro@3",
        "tallygate.route": "* /**",
    }
    assert (check.parent, check.kind, check.status.status_code) == (None, SpanKind.SERVER, StatusCode.UNSET)
    assert [each.parent for each in (license_, limits)] == [check.context] * 2
    assert dict(license_.attributes or {}) == {"tallygate.license.at_hand": True}
    assert dict(limits.attributes or {}) == {"tallygate.limits": ("prepaid",), "tallygate.limits.is_admitted": True}


async def test_a_license_that_is_not_at_hand_is_recorded_once() -> None:
    """A look that finds nothing is part of the one that goes to the store, which a trace shows as slow."""
    recorded = Recorded()
    assert isinstance(await recorded.check(request(token=UNKNOWN.text)), Deny)
    spans = recorded.spans()
    assert spans.keys() == {"tallygate.check", "license"}
    assert dict(spans["license"].attributes or {}) == {
        "tallygate.license.at_hand": False,
        "tallygate.license.is_known": False,
    }
    assert (spans["tallygate.check"].attributes or {})["tallygate.reason"] == "token_unknown"


async def test_a_recorded_trace_is_continued() -> None:
    """The decision is a part of the request's trace, under the span that Envoy's caller or Envoy named."""
    recorded = Recorded(ratio=0.0)
    await recorded.check(part_of("01"))
    check = recorded.spans()["tallygate.check"]
    assert check.context is not None
    assert check.parent is not None
    assert f"{check.context.trace_id:032x}" == TRACE
    assert (f"{check.parent.span_id:016x}", check.parent.is_remote) == (SPAN, True)


async def test_a_trace_that_is_not_recorded_stays_so() -> None:
    """Who asks has decided against it: no part of it is recorded, whatever the ratio; the decision is the same."""
    recorded = Recorded(ratio=1.0)
    assert isinstance(await recorded.check(part_of("00")), Allow)
    assert recorded.spans() == {}


async def test_of_requests_without_a_trace_so_many_are_recorded_as_the_ratio_says() -> None:
    """A draw below the ratio is recorded; with a ratio of 0 none is, for no draw is below it."""
    recorded = Recorded(ratio=0.25, drawn=(0.25, 0.9, 0.2499))
    for number in range(3):
        await recorded.check(request())
        assert bool(recorded.spans()) == (number == 2)
    never = Recorded(ratio=0.0, drawn=(0.0,))
    await never.check(request())
    assert never.spans() == {}


async def test_nothing_a_caller_sent_is_recorded() -> None:
    """No token, no header's value and no path: a trace is read by more people than may use the API."""
    recorded = Recorded()
    asked = part_of("01", tracestate="vendor=private", cookie="session=private")
    await recorded.check(asked._replace(target="/v1/things/private?key=private"))
    text = " ".join(span.to_json() for span in recorded.spans().values())
    assert "tallygate.check" in text
    assert "private" not in text
    assert TOKEN.text not in text


async def test_what_is_our_own_failure_is_an_error() -> None:
    """A lost counter store marks both spans; a refusal that the plan asked for marks none."""
    recorded = Recorded()
    recorded.desk.lose(limits_by_policy()[FailPolicy.CLOSED])
    await recorded.check(request())
    spans = recorded.spans()
    status = spans["tallygate.check"].status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "dependency_down")
    assert (spans["tallygate.check"].attributes or {})["tallygate.degraded"] == "closed"
    status = spans["limits"].status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "LimiterUnavailableError")

    refused = Recorded()
    refused.desk.issue(credits_of("prepaid", 0))
    assert isinstance(await refused.check(request()), Deny)
    assert {span.status.status_code for span in refused.spans().values()} == {StatusCode.UNSET}


async def test_an_unexpected_error_is_told_by_its_type_alone() -> None:
    """What it says may quote a header; it goes on to whoever answers for it."""
    recorded = Recorded()
    recorded.desk.counters.failure = ZeroDivisionError(f"because of {TOKEN.text}")
    with pytest.raises(ZeroDivisionError):
        await recorded.check(request())
    assert {span.status.description for span in recorded.spans().values()} == {None, "ZeroDivisionError"}
    assert TOKEN.text not in " ".join(span.to_json() for span in recorded.spans().values())


async def test_recorded_decisions_count_like_others() -> None:
    """The same counters, licenses and first uses: a trace changes no decision."""
    recorded = Recorded()
    recorded.desk.issue(replace(credits_of("prepaid", 2)))
    reasons = [(await recorded.desk.check()).reason, (await recorded.check(part_of("01"))).reason]
    reasons.append((await recorded.desk.check()).reason)
    assert reasons == ["ok", "ok", "credits_exhausted"]
