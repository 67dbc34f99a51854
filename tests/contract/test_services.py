"""The services beside Check on the wire: who may call, what is told of errors, and what calls do."""

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from support.certificates import Authority
from support.counting import at_once, overage, prepaid, quota
from support.envoy_oracle import log_entry, log_message
from support.pipelines import LICENSE, NOW, TOKEN, UNKNOWN, Desk, request
from support.told import KEY, Told, told

from tallygate._proto.v1 import usage_pb2 as wire
from tallygate.decision.decision import Deny
from tallygate.envoy.access_log import STREAM_PATH
from tallygate.licenses.license import License
from tallygate.licenses.routes import MeterPolicy, RouteRule
from tallygate.limits.limit import LimitKind
from tallygate.services.usage_service import MOST_ITEMS, SERVICE
from tallygate.transport.tls import TlsFiles

METERS = {"tokens": None, "input": "tokens", "output": "tokens"}
ROUTE = RouteRule("POST", "/v1/completions", (("input", 10), ("output", 30), ("requests", 1), ("tokens", 40)))
REFLECTED = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]


@pytest.fixture
def desk() -> Desk:
    """Return a desk that sells completions by their tokens."""
    desk = Desk()
    desk.rules = (ROUTE, *desk.rules)
    desk.meters = dict(METERS)
    return desk


def usage(key: str = "k-1", *, token: str = TOKEN.text, route: str = "", **units: int) -> wire.UsageReport:
    """Return a report of usage of a token."""
    return wire.UsageReport(idempotency_key=key, token=token, units=units, route=route)


def results(answers: list[wire.ReportResult]) -> list[str]:
    """Return the names of the results."""
    return [wire.Result.Name(each.result) for each in answers]


async def code_of(caller: Told, method: str = "Report") -> tuple[str, str]:
    """Return the status and the message that an empty call ends with."""
    try:
        await caller.call(method, wire.ReportRequest())
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


@pytest.mark.parametrize("method", ["Report", "Settle", "Introspect"])
@pytest.mark.parametrize("shown", [None, "", "another key than the one that is set", KEY[:-1], KEY + "x"])
async def test_only_the_key_opens_the_usage_service(desk: Desk, shown: str | None, method: str) -> None:
    """Without it nobody reports, settles or asks; nobody learns what it is."""
    async with told(desk) as caller:
        caller.key = shown
        code, said = await code_of(caller, method)
        assert code == "UNAUTHENTICATED"
        assert "TALLYGATE_SERVICES_KEY" in said
        assert KEY not in said
        assert caller.counted("tallygate_services_calls_total", method, "UNAUTHENTICATED") == 1
        caller.key = KEY
        assert await code_of(caller, method) == ("OK", "")
        assert caller.counted("tallygate_services_calls_total", method, "OK") == 1


async def test_with_nothing_set_nobody_may_call_and_access_logs_may_come(desk: Desk) -> None:
    """A service that moves money is never open by default; it says which settings open it."""
    async with told(desk, key=None) as caller:
        code, said = await code_of(caller)
        assert code == "UNAUTHENTICATED"
        assert "TALLYGATE_SERVICES_KEY" in said
        assert "TALLYGATE_TLS_CLIENT_CA_FILE" in said
        await caller.log(log_message(log_entry(None)))
        assert caller.counted("tallygate_outcomes_total", "none") == 1


async def test_access_logs_need_the_key_once_there_is_one(desk: Desk) -> None:
    """Then nobody else tells how requests ended."""
    async with told(desk) as caller:
        caller.key = None
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.log(log_message(log_entry(None)))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert caller.counted("tallygate_services_calls_total", "StreamAccessLogs", "UNAUTHENTICATED") == 1
        assert caller.counted("tallygate_outcomes_total", "none") == 0


async def test_a_certificate_of_a_client_stands_for_the_key(desk: Desk, tmp_path: Path) -> None:
    """Who shows one that the authority signed may call; the others get no connection at all."""
    authority = Authority(tmp_path, "authority")
    server, client = authority.sign("server"), authority.sign("client")
    files = TlsFiles(server.certificate, server.key, authority.certificate)
    trusted = authority.certificate.read_bytes()
    shown = grpc.ssl_channel_credentials(trusted, client.key.read_bytes(), client.certificate.read_bytes())
    async with told(desk, key=None, tls=files) as caller:
        caller.key = None
        for credentials, expected in ((shown, "OK"), (grpc.ssl_channel_credentials(trusted), "UNAVAILABLE")):
            async with grpc.aio.secure_channel(caller.served.server.address, credentials) as channel:
                caller.channel = channel
                assert (await code_of(caller))[0] == expected


async def test_bytes_that_are_no_message_are_the_callers_fault(desk: Desk) -> None:
    """A call ends with INVALID_ARGUMENT, and so does a stream."""
    async with told(desk) as caller:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = caller.channel.unary_unary(f"/{SERVICE}/Report")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary(b"\xff", metadata=caller.metadata, timeout=20)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.log(b"\xff")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caller.counted("tallygate_services_calls_total", "StreamAccessLogs", "INVALID_ARGUMENT") == 1


async def test_health_and_reflection_are_served_to_everybody(desk: Desk) -> None:
    """A load balancer sees whether to send calls here, and a tool finds methods and messages without our files."""
    async with told(desk) as caller:
        health: grpc.aio.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse] = caller.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        for service in ("", SERVICE, STREAM_PATH.split("/")[1]):
            answer = await health(HealthCheckRequest(service=service), timeout=20)
            assert answer.status == HealthCheckResponse.SERVING
        for service in REFLECTED:
            listed, described = await reflected(caller.channel, service)
            assert listed == sorted(["grpc.health.v1.Health", SERVICE, *REFLECTED])
            assert [method.name for method in described.service[0].method] == ["Report", "Settle", "Introspect"]


async def reflected(channel: grpc.aio.Channel, service: str) -> tuple[list[str], FileDescriptorProto]:
    """Ask reflection what is served, and for the file of the usage service."""
    stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/{service}/ServerReflectionInfo")
    call = stream(timeout=20)
    answers = []
    for asked in (
        ServerReflectionRequest(list_services="*"),
        ServerReflectionRequest(file_containing_symbol=SERVICE),
    ):
        await call.write(asked.SerializeToString())
        answer = await call.read()
        assert isinstance(answer, bytes)
        answers.append(ServerReflectionResponse.FromString(answer))
    await call.done_writing()
    files = answers[1].file_descriptor_response.file_descriptor_proto
    ours = next(file for file in map(FileDescriptorProto.FromString, files) if file.service)
    return sorted(each.name for each in answers[0].list_services_response.service), ours


async def test_a_stop_ends_streams_and_settles_what_has_come(desk: Desk) -> None:
    """Envoy's stream never ends by itself: it is ended well, at once, and nothing that was read is lost."""
    desk.rules = (RouteRule("GET", "/v1/things", policies=(MeterPolicy("requests", ((500, 599),)),)),)
    desk.issue(prepaid(5, meter="requests"))
    async with told(desk) as caller:
        receipts = [(await caller.allowed(str(number))).receipt for number in range(3)]
        noted = {"customer": LICENSE.customer, "route": desk.rules[0].text}
        entries = [log_entry(noted | {"receipt": receipt or ""}, status=500) for receipt in receipts]
        opened: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = caller.channel.stream_unary(STREAM_PATH)
        stream = opened(metadata=caller.metadata, timeout=60)
        await stream.write(log_message(log_entry(None), *entries))
        await caller.changed.wait()
        async with asyncio.timeout(20):
            await caller.served.stop(60)
            assert await stream == b""
        assert caller.counted("tallygate_outcomes_total", "refunded") == 3


# Report.


async def test_reported_usage_is_charged_once_and_never_refused(desk: Desk) -> None:
    """It counts in the meters above too, goes beyond a limit that would refuse a request, and says so."""
    desk.issue(quota(100, name="tokens", meter="tokens"), prepaid(5, name="balance", meter="requests"))
    async with told(desk) as caller:
        (first,) = await caller.report(usage(input=60, output=30, route=ROUTE.text))
        assert (first.result, [(at.name, at.remaining, at.is_exceeded) for at in first.limits]) == (
            wire.RESULT_DONE,
            [("tokens", 10, False)],
        )
        again, another = await caller.report(usage(input=60, output=30), usage("k-2", output=30))
        assert results([again, another]) == ["RESULT_REPEATED", "RESULT_DONE"]
        assert [(at.remaining, at.is_exceeded) for at in another.limits] == [(0, True)]
        assert [counted_by(desk, meter) for meter in ("input", "output", "tokens")] == [60, 60, 120]
        assert {field.split("|")[5] for field in counted_usage(desk)} == {"report"}


def counted_usage(desk: Desk) -> dict[str, int]:
    """Return everything counted as usage, by field."""
    (fields,) = desk.counters.memory.usage.values()
    return fields


def counted_by(desk: Desk, meter: str) -> int:
    """Return all units counted of a meter."""
    return sum(units for field, units in counted_usage(desk).items() if field.split("|")[3] == meter)


async def test_a_family_and_its_subscription_name_whose_usage_it_is(desk: Desk) -> None:
    """What upstreams are told in headers is enough to report, even after the token was revoked."""
    desk.issue(quota(100, name="tokens", meter="tokens"), license_=LICENSE)
    holder = wire.UsageReport.Holder(family=LICENSE.family, subscription=LICENSE.subscription)
    strange = wire.UsageReport.Holder(family=LICENSE.family, subscription="sub_2")
    async with told(desk) as caller:
        done, unknown = await caller.report(
            wire.UsageReport(idempotency_key="a", holder=holder, units={"input": 7}),
            wire.UsageReport(idempotency_key="b", holder=strange, units={"input": 7}),
        )
        assert results([done, unknown]) == ["RESULT_DONE", "RESULT_UNKNOWN"]
        assert done.limits[0].remaining == 93


async def test_a_bad_item_spoils_no_other(desk: Desk) -> None:
    """Each has its own result in its own place, with the field that is wrong and what would be right."""
    bad = [
        usage("", input=1),
        usage("a b", input=1),
        usage("no-units"),
        usage("meter", teapots=1),
        usage("many", input=10**12 + 1),
        usage("route", input=1, route="GET /nowhere"),
        usage("nobody", token="", input=1),
        usage("unknown", token=UNKNOWN.text, input=1),
        usage("malformed", token="tg_live_x", input=1),
    ]
    async with told(desk) as caller:
        answers = await caller.report(usage("first", input=1), *bad, usage("last", input=1))
        assert results(answers) == ["RESULT_DONE", *["RESULT_INVALID"] * 7, *["RESULT_UNKNOWN"] * 2, "RESULT_DONE"]
        assert [answer.problem.split(":")[0] for answer in answers[1:9]] == [
            "idempotency_key",
            "idempotency_key",
            "units",
            "units[teapots]",
            "units[input]",
            "route",
            "of",
            "token",
        ]
        assert counted_by(desk, "input") == 2
        assert all(item.token not in answer.problem for item, answer in zip(bad[7:], answers[8:10], strict=True))


async def test_a_call_has_an_end(desk: Desk) -> None:
    """More items than allowed are refused as a whole, and nothing of them is done."""
    async with told(desk) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.report(*[usage(f"k-{number}", input=1) for number in range(MOST_ITEMS + 1)])
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(MOST_ITEMS) in (refused.value.details() or "")
        assert desk.counters.memory.usage == {}
        answers = await caller.report(*[usage(f"k-{number}", input=1) for number in range(MOST_ITEMS)])
        assert set(results(answers)) == {"RESULT_DONE"}
        assert counted_by(desk, "tokens") == MOST_ITEMS


async def test_what_could_not_be_done_may_be_sent_again(desk: Desk) -> None:
    """A lost store is the item's result, not the call's; sent again it counts once."""
    async with told(desk) as caller:
        desk.store.is_available = False
        (failed,) = await caller.report(usage(input=3))
        assert (results([failed]), failed.problem) == (["RESULT_UNAVAILABLE"], "postgres did not answer")
        desk.store.is_available = True
        assert results(await caller.report(usage(input=3), usage(input=3))) == ["RESULT_DONE", "RESULT_REPEATED"]
        assert counted_by(desk, "input") == 3


# Introspect.


async def test_a_token_is_told_with_its_limits_and_nothing_is_consumed(desk: Desk) -> None:
    """Who it belongs to, what it may do, and what is left; asking as often as one likes."""
    desk.issue(overage(100, name="monthly"), at_once(3))
    async with told(desk) as caller:
        await caller.allowed("1")
        answers = [await caller.introspect(token=TOKEN.text) for _ in range(3)]
        assert answers[0] == answers[2]
        answer = answers[0]
        assert (answer.is_active, answer.reason) == (True, "ok")
        assert (answer.customer, answer.subscription, answer.family) == ("cus_1", "sub_1", "fam_1")
        assert (answer.plan, list(answer.scopes)) == ("pro@3", ["things.read", "things.write"])
        assert dict(answer.features) == {"reports": True, "beta": False, "seats": 0}
        assert [(at.name, at.kind, at.amount, at.remaining) for at in answer.limits] == [
            ("monthly", LimitKind.QUOTA.value, 100, 99),
            ("uploads", LimitKind.CONCURRENCY.value, 3, 2),
        ]
        assert TOKEN.text not in str(answer)


async def test_a_token_that_may_not_be_used_says_why(desk: Desk) -> None:
    """Unknown and malformed ones read the same; a revoked one has its own reason."""
    async with told(desk) as caller:
        for token in (UNKNOWN.text, "tg_live_x", ""):
            answer = await caller.introspect(token=token)
            assert (answer.is_active, answer.reason, answer.customer) == (False, "token_unknown", "")
        desk.issue(license_=revoked())
        answer = await caller.introspect(token=TOKEN.text)
        assert (answer.is_active, answer.reason, answer.customer) == (False, "token_revoked", "cus_1")


def revoked() -> License:
    """Return the license of the token, revoked."""
    return replace(LICENSE, revoked_at=NOW)


async def test_a_request_is_judged_as_check_would(desk: Desk) -> None:
    """The same reason, before and after the limit is used up; and not by asking."""
    desk.issue(prepaid(1, meter="requests"))
    async with told(desk) as caller:
        asked = {"token": TOKEN.text, "method": "GET", "path": "/v1/things"}
        assert [(await caller.introspect(**asked)).reason for _ in range(3)] == ["ok"] * 3
        await caller.allowed("1")
        answer = await caller.introspect(**asked)
        assert (answer.is_active, answer.reason) == (False, "credits_exhausted")
        assert [(at.name, at.remaining, at.is_exceeded) for at in answer.limits] == [("prepaid", 0, True)]
        assert isinstance(await desk.check(request(request_id="2")), Deny)
        elsewhere = await caller.introspect(token=TOKEN.text, path="/v1/../admin")
        assert (elsewhere.is_active, elsewhere.reason) == (False, "route_denied")
